//! What a loop is made with.

use std::io;

use super::id::ShardIndex;
use super::memory::PressureSettings;
use crate::limits::LoopLimits;

/// What a loop is made with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReactorConfig {
    /// Which of several loops this is. Default 0.
    pub shard: ShardIndex,
    /// The loop's bounds.
    pub limits: LoopLimits,
    /// What a panic in a callback does. Default: it goes through.
    pub panics: PanicPolicy,
    /// How memory pressure is seen, and what is done about it. Default `None`: it is not looked at.
    pub pressure: Option<PressureSettings>,
    /// Seeds the masking keys; must be unpredictable in production (RFC 6455 §5.3).
    pub seed: [u8; 32],
}

/// What a panic in a callback does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicPolicy {
    /// It unwinds through the turn and ends the loop.
    #[default]
    Propagate,
    /// It is caught; that connection fails with 1011, the others live.
    CloseConnection,
}

impl ReactorConfig {
    /// The defaults, with a seed from the system.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::new(seed))
    }

    /// The defaults, with a seed.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            shard: ShardIndex::default(),
            limits: LoopLimits::default(),
            panics: PanicPolicy::default(),
            pressure: None,
            seed,
        }
    }
}
