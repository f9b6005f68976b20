//! One connection of the simulated network: two pipes, and what the engine's epoll knows of it.

use std::collections::VecDeque;
use std::time::Duration;

use corewire::{PeerAddress, Readiness};

use crate::sim_host::Reply;

/// How one side has ended its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    None,
    Fin,
    Reset,
}

/// How far a connection has come.
///
/// ```text
///   Connecting ──answer──▶ Answered ──finish_connect──▶ Standing (accepted ones: from the start)
///        ╰──── an error of finish_connect ───╰────────▶ Failed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The answer is on its way, and here at that time; `None` if nobody knows when.
    Connecting {
        reply: Reply,
        answer_at: Option<Duration>,
    },
    /// It stands, or failed with that error number, and the engine has yet to ask.
    Answered(Result<(), i32>),
    Standing,
    /// The engine was told why; all it can do is close.
    Failed,
}

/// What has gone over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Written by the peer and not yet read by the engine.
    pub to_engine_bytes: usize,
    /// Read by the engine.
    pub received_bytes: usize,
    /// Written by the engine and not yet read by the peer.
    pub to_peer_bytes: usize,
}

/// One connection: two pipes, and what the engine's epoll knows of it.
pub struct Link {
    /// The other end's.
    pub address: PeerAddress,
    /// The loop that it is told to.
    pub owner: usize,
    pub stage: Stage,
    /// The host that it was dialled at.
    pub host: Option<usize>,
    /// When the host resets it.
    pub reset_at: Option<Duration>,
    /// The other end, where that is the engine's as well.
    pub wire: Option<usize>,
    pub to_engine: VecDeque<u8>,
    pub to_engine_max: usize,
    pub received_bytes: usize,
    pub to_peer: VecDeque<u8>,
    pub to_peer_max: usize,
    pub handed_over: Vec<u8>,
    pub peer_end: End,
    pub engine_end: End,
    /// `None` while the connection waits to be accepted, and after the engine has closed it.
    pub token: Option<u64>,
    pub is_closed: bool,
    /// Stands on the list of those who have something to be told.
    pub is_woken: bool,
    /// The end of the peer's stream was told.
    pub end_told: bool,
    /// Output was refused; room that comes back wakes.
    pub is_full: bool,
    /// What came is held back until then, as if it were still on its way.
    pub blocked_until: [Option<Duration>; 2],
}

/// Indices of `Link::blocked_until`.
pub const READING: usize = 0;
pub const WRITING: usize = 1;

impl Link {
    /// One that stands, for `owner` to accept.
    pub fn new(address: PeerAddress, owner: usize, buffers: [usize; 2]) -> Self {
        let [to_engine_max, to_peer_max] = buffers;
        Self {
            address,
            owner,
            stage: Stage::Standing,
            host: None,
            reset_at: None,
            wire: None,
            to_engine: VecDeque::new(),
            to_engine_max,
            received_bytes: 0,
            to_peer: VecDeque::new(),
            to_peer_max,
            handed_over: Vec::new(),
            peer_end: End::None,
            engine_end: End::None,
            token: None,
            is_closed: false,
            is_woken: false,
            end_told: false,
            is_full: false,
            blocked_until: [None; 2],
        }
    }

    pub fn moved(&self) -> Moved {
        Moved {
            to_engine_bytes: self.to_engine.len(),
            received_bytes: self.received_bytes,
            to_peer_bytes: self.to_peer.len(),
        }
    }

    pub fn end_by_engine(&mut self, end: End) {
        self.is_closed = true;
        self.token = None;
        self.blocked_until = [None; 2];
        self.reset_at = None;
        if self.engine_end != End::Reset && (end == End::Reset || self.engine_end == End::None) {
            self.engine_end = end;
        }
    }

    /// As the kernel sees it: a third of the buffer is free.
    pub fn is_writable(&self) -> bool {
        self.blocked_until[WRITING].is_none()
            && self.to_peer_max.saturating_sub(self.to_peer.len()) >= self.to_peer_max.div_ceil(3)
    }

    /// When something happens to it by itself.
    pub fn next_time(&self) -> Option<Duration> {
        let [reading, writing] = self.blocked_until;
        let answer = match self.stage {
            Stage::Connecting { answer_at, .. } if !self.is_closed => answer_at,
            Stage::Connecting { .. } | Stage::Answered(_) | Stage::Standing | Stage::Failed => None,
        };
        [reading, writing, answer, self.reset_at].into_iter().flatten().min()
    }

    /// The socket's state, if there is anything to tell; it leaves the list.
    pub fn tell(&mut self) -> Option<Readiness> {
        self.is_woken = false;
        let token = self.token?;
        match self.stage {
            Stage::Connecting { .. } => return None,
            // As Linux tells a connection that failed: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP.
            Stage::Answered(Err(_)) | Stage::Failed => {
                return Some(Readiness { token, readable: true, writable: true, hung_up: true });
            }
            Stage::Answered(Ok(())) | Stage::Standing => {}
        }
        let has_ended = self.peer_end != End::None;
        let is_blocked = self.blocked_until[READING].is_some();
        let hung_up = has_ended && !is_blocked;
        let readable = !is_blocked && (has_ended || !self.to_engine.is_empty());
        let writable = self.is_writable() || self.peer_end == End::Reset;
        self.end_told |= hung_up;
        let event = Readiness { token, readable, writable, hung_up };
        (readable || writable || hung_up).then_some(event)
    }
}
