//! Whether another try makes sense after what went wrong.
//!
//! What may be different the next time is tried again: the network, a server that is busy, slow,
//! broken or about to restart. What is a decision stays one until somebody changes something, so we
//! stop there and say so: the server does not want us, or the two ends do not speak the same
//! protocol, or it was this end that left.

use std::time::Duration;

use crate::protocol::{CloseCause, CloseSummary, Failure, Initiator};
use crate::reactor::{DialError, DialPhase};
use crate::wire::CloseCode;

/// What follows the loss of a connection, or a dial that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Another try may succeed.
    Retry {
        /// What the server asked for by Retry-After (RFC 9110 §10.2.3).
        not_before: Option<Duration>,
    },
    /// Every other try would end the same way, or is not wanted.
    Stop,
}

impl Recovery {
    const RETRY: Self = Self::Retry { not_before: None };

    /// After a dial, as [`DialError::is_retryable`] says. `retry_after` is what the server's answer,
    /// if there was one, says of the time to come back; it counts only where another try makes sense
    /// at all.
    pub(crate) fn of_dial(error: &DialError, retry_after: Option<Duration>) -> Self {
        match error.is_retryable() {
            true => Self::Retry { not_before: retry_after },
            false => Self::Stop,
        }
    }

    /// After a connection that was open.
    ///
    /// - This end closed it, dropped it, or its loop ended: that was wanted.
    /// - The peer said Close: by its code, see below, even if the closing handshake was cut short.
    /// - It broke off, or showed no sign of life: again.
    /// - We failed it because the peer broke the protocol or a limit: it would do so again. Because
    ///   it was too slow, our pools were full or memory scarce: again, as the 1013 that it was told
    ///   says.
    /// - The handler panicked: again, as after the 1011 that the peer was told.
    pub(crate) fn of_close(summary: &CloseSummary) -> Self {
        match summary.cause {
            CloseCause::ClosingHandshake
            | CloseCause::EndOfStream
            | CloseCause::Transport(_)
            | CloseCause::CloseTimeout => match summary.initiator {
                Initiator::Local => Self::Stop,
                Initiator::Peer => Self::of_code(summary.code),
            },
            CloseCause::Failed(Failure::Protocol(_)) => Self::Stop,
            CloseCause::Failed(
                Failure::PoolExhausted | Failure::Backpressure | Failure::MemoryPressure,
            )
            | CloseCause::HeartbeatTimeout
            | CloseCause::HandlerPanicked => Self::RETRY,
            CloseCause::Aborted | CloseCause::LoopEnded => Self::Stop,
        }
    }

    /// By the code of the peer's Close.
    fn of_code(code: CloseCode) -> Self {
        match code.as_u16() {
            // It goes down, is broken, restarts, is overloaded, or has no server behind it.
            1001 | 1011..=1014 => Self::RETRY,
            // Nothing was said: no Close at all, or one without a code, which many libraries send
            // for want of an argument. Who wants us to stay away has ways to say so.
            1005 | 1006 => Self::RETRY,
            // The purpose is fulfilled, or a rule of the server's own was broken.
            1000 | 1008 => Self::Stop,
            // Protocol mismatch: the server does not understand what we send, or does not take it.
            // We would send the same again.
            1002 | 1003 | 1007 | 1009 | 1010 => Self::Stop,
            // Registered with IANA as time-out, the 408 of close codes. Its neighbours 3000
            // (unauthorized) and 3003 (forbidden) are with the rest.
            3008 => Self::RETRY,
            // What these mean is between the application and its server, so the application decides
            // what follows. Stopping asks it; trying again would go on without it.
            3000..=4999 => Self::Stop,
            // A Close cannot carry these: the connection has failed with 1002 instead.
            0..=999 | 1004 | 1015..=2999 | 5000.. => Self::Stop,
        }
    }
}

/// Whether a dial has failed for want of something of this end's: a place in the loop, descriptors,
/// memory. That is nothing against the server, which may never have been asked.
pub(crate) fn is_for_want_of_room(error: &DialError) -> bool {
    // ENOMEM, ENFILE and EMFILE, the same on all Unixes; ENOBUFS of the BSDs and of Linux.
    match error {
        DialError::NoRoom => true,
        DialError::Io { phase: DialPhase::Connect, error } => {
            matches!(error.raw_os_error(), Some(12 | 23 | 24 | 55 | 105))
        }
        DialError::TimedOut(_)
        | DialError::Io { .. }
        | DialError::Tunnel(_)
        | DialError::Tls(_)
        | DialError::Refused(_)
        | DialError::Handshake(_)
        | DialError::Aborted => false,
        #[cfg(feature = "deflate")]
        DialError::Compression(_) => false,
    }
}

/// How a connection of a pool has ended, for who judges its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// This end wanted it.
    Wanted,
    /// Nobody here has asked for it, but nothing says that the endpoint does badly.
    Parted,
    /// The endpoint has failed.
    Failed,
}

impl End {
    /// After a connection that was open.
    ///
    /// - This end closed it, dropped it, or its loop ended: wanted.
    /// - The peer said Close: by its code, see below, even if the closing handshake was cut short.
    /// - It broke off, showed no sign of life, broke the protocol or a limit, or was too slow: the
    ///   endpoint has failed, though it is this end that has noticed.
    /// - The handler panicked, our pools were full or memory scarce: that is not the endpoint's.
    pub(crate) fn of_close(summary: &CloseSummary) -> Self {
        match summary.cause {
            CloseCause::ClosingHandshake
            | CloseCause::EndOfStream
            | CloseCause::Transport(_)
            | CloseCause::CloseTimeout => match summary.initiator {
                Initiator::Local => Self::Wanted,
                Initiator::Peer => Self::of_code(summary.code),
            },
            CloseCause::HeartbeatTimeout
            | CloseCause::Failed(Failure::Protocol(_) | Failure::Backpressure) => Self::Failed,
            CloseCause::Failed(Failure::PoolExhausted | Failure::MemoryPressure)
            | CloseCause::HandlerPanicked => Self::Parted,
            CloseCause::Aborted | CloseCause::LoopEnded => Self::Wanted,
        }
    }

    /// By the code of the peer's Close.
    fn of_code(code: CloseCode) -> Self {
        match code.as_u16() {
            // It is done, or leaves. A Close without a code is sent for want of an argument.
            1000 | 1001 | 1005 => Self::Parted,
            // Time-out: the endpoint was too slow.
            3008 => Self::Failed,
            // What these mean, the application alone knows.
            3000..=4999 => Self::Parted,
            // It broke off, does not understand us, or says itself that it is in trouble.
            0..=999 | 1002..=1004 | 1006..=2999 | 5000.. => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::handshake::{ClientHandshakeError, TunnelError};
    use crate::http::{HeadError, Malformation};
    use crate::reactor::{DialPhase, Refusal};
    use crate::wire::ProtocolError;

    const ASKED: Option<Duration> = Some(Duration::from_secs(7));

    fn refused(status: u16) -> DialError {
        DialError::Refused(Box::new(Refusal { status, headers: Vec::new(), body: Vec::new() }))
    }

    fn closed(code: u16, initiator: Initiator, cause: CloseCause) -> CloseSummary {
        CloseSummary {
            code: CloseCode::new(code),
            reason: Box::default(),
            initiator,
            cause,
            peer_code: None,
            unsent_messages: 0,
            unconfirmed_messages: 0,
            unsent_bytes: 0,
            incomplete_bytes: 0,
        }
    }

    #[test]
    fn every_status_is_judged() {
        for status in 0..=u16::MAX {
            let expected = match status {
                408 | 429 => Recovery::Retry { not_before: ASKED },
                500..600 => Recovery::Retry { not_before: ASKED },
                _ => Recovery::Stop,
            };
            assert_eq!(Recovery::of_dial(&refused(status), ASKED), expected, "{status}");
            let same = DialError::Handshake(ClientHandshakeError::Status { status });
            assert_eq!(Recovery::of_dial(&same, ASKED), expected, "{status}");
            let tunnel = DialError::Tunnel(TunnelError::Status { status });
            let is_stop = expected == Recovery::Stop;
            assert_eq!(Recovery::of_dial(&tunnel, None) == Recovery::Stop, is_stop, "{status}");
        }
        assert_eq!(Recovery::of_dial(&refused(503), None), Recovery::RETRY);
    }

    #[test]
    fn every_dial_error_is_judged() {
        let io = |phase, kind: io::ErrorKind| DialError::Io { phase, error: kind.into() };
        let malformed = HeadError::Malformed(Malformation::BareLf);
        let table = [
            (DialError::TimedOut(DialPhase::Resolve), Recovery::RETRY),
            (DialError::TimedOut(DialPhase::Upgrade), Recovery::RETRY),
            (io(DialPhase::Resolve, io::ErrorKind::Other), Recovery::RETRY),
            (io(DialPhase::Connect, io::ErrorKind::ConnectionRefused), Recovery::RETRY),
            (io(DialPhase::Connect, io::ErrorKind::NotFound), Recovery::RETRY),
            (io(DialPhase::Tls, io::ErrorKind::UnexpectedEof), Recovery::RETRY),
            (io(DialPhase::Upgrade, io::ErrorKind::ConnectionReset), Recovery::RETRY),
            (DialError::Tunnel(TunnelError::Head(malformed)), Recovery::Stop),
            (DialError::Tunnel(TunnelError::NotSocks5), Recovery::Stop),
            (DialError::Tunnel(TunnelError::NoAcceptableMethod), Recovery::Stop),
            (DialError::Tunnel(TunnelError::AuthenticationFailed), Recovery::Stop),
            (DialError::Tunnel(TunnelError::Malformed), Recovery::Stop),
            (DialError::Tunnel(TunnelError::Reply(1)), Recovery::RETRY),
            (DialError::Tunnel(TunnelError::Reply(2)), Recovery::Stop),
            (DialError::Tls("unknown issuer".into()), Recovery::Stop),
            (DialError::Handshake(ClientHandshakeError::Head(malformed)), Recovery::Stop),
            (DialError::Handshake(ClientHandshakeError::WrongAccept), Recovery::Stop),
            (DialError::Handshake(ClientHandshakeError::SubprotocolNotOffered), Recovery::Stop),
            #[cfg(feature = "deflate")]
            (DialError::Compression(crate::deflate::AnswerError::NotOffered), Recovery::Stop),
            (DialError::NoRoom, Recovery::RETRY),
            (DialError::Aborted, Recovery::Stop),
        ];
        for (error, expected) in table {
            assert_eq!(Recovery::of_dial(&error, None), expected, "{error:?}");
        }
    }

    #[test]
    fn every_code_of_the_peer_is_judged() {
        let retried = [1001, 1005, 1006, 1011, 1012, 1013, 1014, 3008];
        for code in 0..=u16::MAX {
            let is_retried = retried.contains(&code);
            let expected = if is_retried { Recovery::RETRY } else { Recovery::Stop };
            for cause in [
                CloseCause::ClosingHandshake,
                CloseCause::EndOfStream,
                CloseCause::Transport(io::ErrorKind::ConnectionReset),
                CloseCause::CloseTimeout,
            ] {
                let summary = closed(code, Initiator::Peer, cause);
                assert_eq!(Recovery::of_close(&summary), expected, "{summary:?}");
            }
        }
    }

    #[test]
    fn a_close_that_we_began_stops_however_it_ends() {
        for cause in [
            CloseCause::ClosingHandshake,
            CloseCause::EndOfStream,
            CloseCause::Transport(io::ErrorKind::ConnectionReset),
            CloseCause::CloseTimeout,
            CloseCause::Aborted,
            CloseCause::LoopEnded,
        ] {
            for code in [1000, 1001, 1006] {
                let summary = closed(code, Initiator::Local, cause);
                assert_eq!(Recovery::of_close(&summary), Recovery::Stop, "{summary:?}");
            }
        }
    }

    #[test]
    fn a_connection_that_we_failed_is_judged_by_why() {
        let too_large = ProtocolError::MessageTooLarge { limit_bytes: 1 };
        let table = [
            (CloseCause::Failed(Failure::Protocol(ProtocolError::MaskedFrame)), Recovery::Stop),
            (CloseCause::Failed(Failure::Protocol(ProtocolError::InvalidUtf8)), Recovery::Stop),
            (CloseCause::Failed(Failure::Protocol(too_large)), Recovery::Stop),
            (CloseCause::Failed(Failure::PoolExhausted), Recovery::RETRY),
            (CloseCause::Failed(Failure::Backpressure), Recovery::RETRY),
            (CloseCause::Failed(Failure::MemoryPressure), Recovery::RETRY),
            (CloseCause::HeartbeatTimeout, Recovery::RETRY),
            (CloseCause::HandlerPanicked, Recovery::RETRY),
        ];
        for (cause, expected) in table {
            let summary = closed(1002, Initiator::Local, cause);
            assert_eq!(Recovery::of_close(&summary), expected, "{summary:?}");
        }
    }

    #[test]
    fn an_endpoint_is_judged_by_the_code_of_its_close() {
        for code in 0..=u16::MAX {
            let expected = match code {
                1000 | 1001 | 1005 | 3000..=3007 | 3009..=4999 => End::Parted,
                _ => End::Failed,
            };
            for cause in [
                CloseCause::ClosingHandshake,
                CloseCause::EndOfStream,
                CloseCause::Transport(io::ErrorKind::ConnectionReset),
                CloseCause::CloseTimeout,
            ] {
                let summary = closed(code, Initiator::Peer, cause);
                assert_eq!(End::of_close(&summary), expected, "{summary:?}");
                let summary = closed(code, Initiator::Local, cause);
                assert_eq!(End::of_close(&summary), End::Wanted, "{summary:?}");
            }
        }
    }

    #[test]
    fn what_this_end_has_noticed_may_be_the_endpoints() {
        let table = [
            (CloseCause::Failed(Failure::Protocol(ProtocolError::MaskedFrame)), End::Failed),
            (CloseCause::Failed(Failure::Backpressure), End::Failed),
            (CloseCause::HeartbeatTimeout, End::Failed),
            (CloseCause::Failed(Failure::PoolExhausted), End::Parted),
            (CloseCause::Failed(Failure::MemoryPressure), End::Parted),
            (CloseCause::HandlerPanicked, End::Parted),
            (CloseCause::Aborted, End::Wanted),
            (CloseCause::LoopEnded, End::Wanted),
        ];
        for (cause, expected) in table {
            let summary = closed(1006, Initiator::Local, cause);
            assert_eq!(End::of_close(&summary), expected, "{summary:?}");
        }
    }
}
