//! The life of a connection after its handshake.

use std::io;

use super::event::Failure;
use super::timer::Moment;
#[cfg(doc)]
use super::transmit::Transmit;
use crate::wire::CloseCode;

/// Where a connection stands.
///
/// ```text
///            close()                      the peer's Close
///   Open ───────────────► AwaitingClose ───────────────────┐
///    │                          │                          ▼
///    │ the peer's Close, or we fail the connection      Flushing ──► Closed
///    └──────────────────────────┼─────────────────────────►│ all is   ▲
///                               │                            written  │
///                               └── deadline, end of stream, reset ───┘
/// ```
///
/// `AwaitingClose` and `Flushing` together have one deadline, set when the closing begins.
///
/// Nearly all connections are open, so what the other states hold lies elsewhere: eight bytes.
#[derive(Debug)]
pub(super) struct State(Option<Box<Leaving>>);

/// What a connection that is not open any more holds.
#[derive(Debug)]
enum Leaving {
    Closing(Closing),
    Closed(Ending),
}

/// A [`State`] to look at.
pub(super) enum StateRef<'a> {
    /// Messages go both ways.
    Open,
    /// A Close is queued or sent; no further frame may follow it (RFC 6455 §5.5.1).
    Closing(&'a Closing),
    /// Nothing goes either way any more.
    Closed,
}

/// A [`State`] to change.
pub(super) enum StateMut<'a> {
    /// As [`StateRef::Open`].
    Open,
    /// As [`StateRef::Closing`].
    Closing(&'a mut Closing),
    /// As [`StateRef::Closed`].
    Closed,
}

impl State {
    /// Where every connection begins.
    pub(super) const OPEN: Self = Self(None);

    pub(super) fn closing(closing: Closing) -> Self {
        Self(Some(Box::new(Leaving::Closing(closing))))
    }

    pub(super) fn closed(ending: Ending) -> Self {
        Self(Some(Box::new(Leaving::Closed(ending))))
    }

    #[inline]
    pub(super) const fn is_open(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn get(&self) -> StateRef<'_> {
        match self.0.as_deref() {
            None => StateRef::Open,
            Some(Leaving::Closing(closing)) => StateRef::Closing(closing),
            Some(Leaving::Closed(_)) => StateRef::Closed,
        }
    }

    pub(super) fn get_mut(&mut self) -> StateMut<'_> {
        match self.0.as_deref_mut() {
            None => StateMut::Open,
            Some(Leaving::Closing(closing)) => StateMut::Closing(closing),
            Some(Leaving::Closed(_)) => StateMut::Closed,
        }
    }

    /// How the connection ended, or how it would if this were the end; `None` if it is open.
    pub(super) fn into_ending(self) -> Option<Ending> {
        self.0.map(|leaving| match *leaving {
            Leaving::Closing(closing) => closing.ending,
            Leaving::Closed(ending) => ending,
        })
    }
}

/// A closing handshake under way.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) phase: ClosingPhase,
    /// The end of the whole closing handshake.
    pub(super) linger_until: Moment,
    pub(super) ending: Ending,
}

/// How far a closing handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosingPhase {
    /// Ours is queued, the peer's is awaited.
    AwaitingClose,
    /// Nothing is awaited any more; what is queued is written, then the connection ends.
    Flushing,
}

/// What `on_close` will say, without the counts that are known only at the end.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) code: CloseCode,
    pub(super) reason: Box<str>,
    pub(super) initiator: Initiator,
    pub(super) cause: CloseCause,
    pub(super) peer_code: Option<CloseCode>,
}

impl Closing {
    /// What ends instead of the closing handshake, because of `cause`. The first cause stands. No
    /// Close came if the peer's is still awaited, so there is no code either (RFC 6455 §7.1.5).
    pub(super) fn cut_short(&self, cause: CloseCause) -> Ending {
        let ending = self.ending.clone();
        match (ending.cause, self.phase) {
            (CloseCause::ClosingHandshake, ClosingPhase::AwaitingClose) => {
                Ending::abnormal(ending.initiator, cause)
            }
            (CloseCause::ClosingHandshake, ClosingPhase::Flushing) => Ending { cause, ..ending },
            (_, ClosingPhase::AwaitingClose | ClosingPhase::Flushing) => ending,
        }
    }
}

impl Ending {
    /// An end without a closing handshake: 1006, which is never on the wire (RFC 6455 §7.4.1).
    pub(super) fn abnormal(initiator: Initiator, cause: CloseCause) -> Self {
        let (code, reason) = (CloseCode::ABNORMAL, Box::default());
        Self { code, reason, initiator, cause, peer_code: None }
    }
}

/// Who began the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// This end.
    Local,
    /// The peer.
    Peer,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCause {
    /// Both sides said Close (RFC 6455 §7.1.4).
    ClosingHandshake,
    /// We failed the connection (RFC 6455 §7.1.7).
    Failed(Failure),
    /// The peer's stream ended without a Close.
    EndOfStream,
    /// The transport failed, most often a reset.
    Transport(io::ErrorKind),
    /// No sign of life within `dead_after`.
    HeartbeatTimeout,
    /// The closing handshake was not finished within `close_timeout`.
    CloseTimeout,
    /// The application dropped the connection.
    Aborted,
    /// The handler panicked in a callback of this connection.
    HandlerPanicked,
    /// The loop ended while the connection was open.
    LoopEnded,
}

/// How a connection ended: the last thing that the application hears of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseSummary {
    /// The code of the Close that began the end, 1005 if that Close had none (RFC 6455 §7.1.5).
    /// 1006 if there was no Close, or ours was never answered.
    pub code: CloseCode,
    /// The reason that came with the code.
    pub reason: Box<str>,
    /// Who began.
    pub initiator: Initiator,
    /// Why.
    pub cause: CloseCause,
    /// The code of the peer's Close, 1005 if it had none; `None` if none came. Where both ends began
    /// at once it is another than `code`, and may tell more.
    pub peer_code: Option<CloseCode>,
    /// Messages that were taken by a send and not, or not whole, handed to the kernel. Over TLS what
    /// was encrypted already counts as one at most.
    pub unsent_messages: u64,
    /// Messages that were wholly handed to the kernel after those that a pong has proven to be
    /// delivered: the peer may have had them or not. What proves is told at
    /// [`Transmit::delivery`](super::Transmit::delivery). A Close proves nothing, for the peer's may
    /// have crossed ours. Always 0 for a server, which looks for no proof.
    pub unconfirmed_messages: u64,
    /// Bytes that were queued and not handed to the kernel, headers and control frames included.
    pub unsent_bytes: u64,
    /// Payload bytes received of a message whose end never came; they were not delivered, or only
    /// as pieces.
    pub incomplete_bytes: u64,
}

impl CloseSummary {
    /// Whether both sides said Close.
    pub fn is_clean(&self) -> bool {
        self.cause == CloseCause::ClosingHandshake
    }
}
