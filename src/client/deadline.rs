//! One timer of the loop for a machine that knows its next deadline.

use std::time::Instant;

use crate::reactor::{Loop, TimerId};

/// When a machine is to be asked next. A deadline that moves away costs nothing: the timer fires
/// early and is set again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadline(Option<(Instant, TimerId)>);

impl Deadline {
    /// Sees to it that the timer fires at `wanted`, or before.
    pub(super) fn set<D>(&mut self, at: &mut Loop<'_, D>, wanted: Option<Instant>, cookie: u64) {
        let Some(wanted) = wanted else { return };
        match self.0 {
            Some((armed, _)) if armed <= wanted => return,
            Some((_, timer)) => {
                at.cancel_timer(timer);
            }
            None => {}
        }
        self.0 = Some((wanted, at.set_timer(wanted, cookie)));
    }

    /// Whether it was this timer that has fired.
    pub(super) fn take(&mut self, timer: TimerId) -> bool {
        let is_own = self.0.is_some_and(|(_, own)| own == timer);
        if is_own {
            self.0 = None;
        }
        is_own
    }

    /// No timer any more.
    pub(super) fn cancel<D>(&mut self, at: &mut Loop<'_, D>) {
        if let Some((_, timer)) = self.0.take() {
            at.cancel_timer(timer);
        }
    }
}
