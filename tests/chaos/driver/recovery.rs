//! How long it takes until a back end that can be reached again is used again.

use std::time::{Duration, Instant};

/// What has happened to a back end.
pub enum News {
    /// It was killed: its connections are over.
    Killed,
    /// It was stopped, and is of no use until it goes on.
    Stopped,
    /// It listens, or goes on.
    Usable,
    /// Nothing will happen to it any more.
    Calm,
    /// It does not start.
    Failed(String),
}

/// The recoveries of one back end.
#[derive(Default)]
pub struct Recovery {
    killed_at: Option<Instant>,
    /// It can be used since then, and has not been.
    usable_at: Option<Instant>,
    pub is_calm: bool,
    pub count: u64,
    pub longest: Duration,
}

impl Recovery {
    /// # Errors
    /// It was not used within `bound`, or does not start.
    pub fn handle_news(&mut self, news: News, at: Instant, bound: Duration) -> Result<(), String> {
        // What has happened before is known by now, so it was late only if it is late at `at`.
        self.check(at, bound)?;
        match news {
            News::Killed => {
                self.killed_at = Some(at);
                self.usable_at = None;
            }
            News::Stopped => self.usable_at = None,
            News::Usable => self.usable_at = Some(at),
            News::Calm => self.is_calm = true,
            News::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// A message has come back on a connection of its client that opened at `opened_at`.
    pub fn handle_echo(&mut self, opened_at: Instant, now: Instant) {
        // What the killed one had said may be read after the next one listens.
        if self.killed_at.is_some_and(|killed_at| opened_at < killed_at) {
            return;
        }
        if let Some(usable_at) = self.usable_at.take() {
            self.count += 1;
            self.longest = self.longest.max(now.saturating_duration_since(usable_at));
        }
    }

    /// # Errors
    /// It was not used within `bound`.
    pub fn check(&self, now: Instant, bound: Duration) -> Result<(), String> {
        match self.usable_at.map(|usable_at| now.saturating_duration_since(usable_at)) {
            Some(waited) if waited > bound => {
                Err(format!("it can be used since {waited:?} and is not, the bound is {bound:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is used, if it can be.
    pub fn is_over(&self) -> bool {
        self.usable_at.is_none()
    }
}
