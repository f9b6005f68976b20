//! What loops have counted, asked for while they run.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::command::{Command, Handle, PostError};
use crate::metrics::Counters;

/// Why counters cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CountersError {
    /// A loop has not answered in time: it is in a long callback, or nobody turns it.
    TimedOut,
    /// A loop has ended, and its counters with it.
    Ended,
}

impl fmt::Display for CountersError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TimedOut => "a loop has not told its counters in time",
            Self::Ended => "a loop has ended, and its counters with it",
        })
    }
}

impl std::error::Error for CountersError {}

/// The sum of what these loops have counted. Each counts in plain cells of its own and is asked by a
/// command, so that nobody pays for it but who asks.
pub(crate) fn counters_of(loops: &[Handle], timeout: Duration) -> Result<Counters, CountersError> {
    // More than a day is as good as never.
    let deadline = Instant::now() + timeout.min(Duration::from_secs(24 * 3600));
    let left = || deadline.saturating_duration_since(Instant::now());
    let (answer, answers) = channel();
    for handle in loops {
        match handle.post_timeout(Command::Count(answer.clone()), left()) {
            Ok(()) => {}
            Err(PostError::Full(_)) => return Err(CountersError::TimedOut),
            Err(
                PostError::WrongShard(_) | PostError::InvalidClose(_) | PostError::InvalidName(_),
            ) => {
                unreachable!("it names neither a connection nor a close code")
            }
        }
    }
    // From here on only loops hold senders, so their end is seen.
    drop(answer);
    let mut sum = Counters::default();
    for _ in loops {
        match answers.recv_timeout(left()) {
            Ok(counters) => sum.merge(&counters),
            Err(RecvTimeoutError::Timeout) => return Err(CountersError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => return Err(CountersError::Ended),
        }
    }
    Ok(sum)
}
