//! How pressure is seen, and what is done about it: the settings.

use std::sync::Arc;
use std::time::Duration;

use super::source::MemorySource;
use crate::limit::PressureThresholds;

/// How a loop sees memory pressure, and what it does about it.
///
/// A [`Server`](crate::Server) has this switched on, a bare [`Reactor`](crate::Reactor) off: a library
/// inside somebody else's loop does not close connections for what the rest of the process takes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PressureSettings {
    /// What the process may take, all its loops together. Default `None`: what the
    /// [source](Self::source) says; the system's says the least of the limits of the memory cgroups
    /// that the process is in, and of the physical memory. If nobody knows, nothing is watched.
    pub budget_bytes: Option<u64>,
    /// Where the levels begin.
    pub thresholds: PressureThresholds,
    /// How often memory is looked at. Default 250 ms. What the loop takes in itself it knows without
    /// looking, and looks at once when that was much; so this is for what the rest of the process
    /// does. A look is two reads of `/proc`, about 5 µs.
    pub sample_interval: Duration,
    /// The same while the level is `Normal` and nothing goes in or out: the interval doubles up to
    /// this, so that an idle loop sleeps. Default 4 s.
    pub idle_interval: Duration,
    /// What is done at which level. Default: all of it.
    pub reactions: PressureReactions,
    /// At `Critical`, a connection whose peer has shown no sign of life for so long goes before the
    /// others. Default 10 s, a third of the time between two pings: those who only answer pings
    /// count as idle most of the time, those who speak do not.
    pub idle_after: Duration,
    /// From `High` on, how long those who hold the most are not read before they are closed with
    /// 1013; what they have waited since the level was `Normal` counts together. Default 5 s, as a closing handshake has; guess: what they hold is not worth more to the
    /// others. Who leaves meanwhile is often not seen to: what he has sent stands in front of his end.
    pub hold_timeout: Duration,
    /// Connections that are closed for want of memory in one turn. Default 64: some milliseconds,
    /// guess. The rest waits one turn.
    pub closes_per_turn: u32,
    /// Who knows what the process takes. Default `None`: the system.
    pub source: Option<Arc<dyn MemorySource>>,
}

impl Default for PressureSettings {
    fn default() -> Self {
        Self {
            budget_bytes: None,
            thresholds: PressureThresholds::default(),
            sample_interval: Duration::from_millis(250),
            idle_interval: Duration::from_secs(4),
            reactions: PressureReactions::default(),
            idle_after: Duration::from_secs(10),
            hold_timeout: Duration::from_secs(5),
            closes_per_turn: 64,
            source: None,
        }
    }
}

/// What is done at which level, and at those above. Each can be switched off; counters tell what each
/// has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PressureReactions {
    /// From `Moderate` on, with each sample: what the pools keep for the next message goes back to
    /// the allocator.
    pub shrink_pools: bool,
    /// When `Moderate` or a level above is entered: clients of the loop send what waits for its
    /// batch, forget the addresses of names, and their pools close what is free down to their
    /// minimum.
    pub shrink_clients: bool,
    /// From `High` on, with each sample: everything that is queued is offered to the kernel.
    pub flush_all: bool,
    /// From `High` on: those who hold the most are not read any more, until the level is below.
    pub hold_senders: bool,
    /// From `High` on: nobody is given a compressor or a window of his own. New connections agree on
    /// no compression; what the others send goes as it is if it would be their first to be
    /// compressed.
    pub refuse_contexts: bool,
    /// At `Critical`: upgrades are answered 503 with `Retry-After`.
    pub refuse_upgrades: bool,
    /// At `Critical`: connections are closed with 1013, first those that are idle, those for longest
    /// in front, then those that hold the most, until enough is released.
    pub close_connections: bool,
}

impl Default for PressureReactions {
    fn default() -> Self {
        Self {
            shrink_pools: true,
            shrink_clients: true,
            flush_all: true,
            hold_senders: true,
            refuse_contexts: true,
            refuse_upgrades: true,
            close_connections: true,
        }
    }
}

impl PressureReactions {
    /// None of them: pressure is told and nothing is done.
    pub const fn none() -> Self {
        Self {
            shrink_pools: false,
            shrink_clients: false,
            flush_all: false,
            hold_senders: false,
            refuse_contexts: false,
            refuse_upgrades: false,
            close_connections: false,
        }
    }
}
