//! How many connections a loop has, for whoever chooses among loops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::id::CONNECTIONS_MAX;
use crate::limits::LoopLimits;

/// The connections of one loop, in whatever phase, and those on their way to it.
///
/// It is written when one comes or goes and when the loop ends, never for a message; whoever reads it
/// from another thread gets a number of just now, so nothing hangs by the order of these writes.
#[derive(Debug)]
pub(super) struct Load {
    /// With [`CLOSED`] once the loop takes no more, and [`GONE`] once it is over.
    count: AtomicU32,
    places: u32,
}

/// Whether a loop takes one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It does, and has so many.
    Open(u32),
    /// Not before one of its own has gone.
    Full,
    /// Never again: it is about to end. Who is sent to it nevertheless is told so.
    Closed,
    /// It has ended.
    Gone,
}

/// A loop can name [`CONNECTIONS_MAX`] connections, fewer than 2^24, so this bit is none of the
/// count's.
const CLOSED: u32 = 1 << 31;
/// Nor is this one.
const GONE: u32 = 1 << 30;

impl Load {
    pub(super) fn room(&self) -> Room {
        match self.count.load(Ordering::Relaxed) {
            count if count & GONE != 0 => Room::Gone,
            count if count & CLOSED != 0 => Room::Closed,
            count if count >= self.places => Room::Full,
            count => Room::Open(count),
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed) & !(CLOSED | GONE)
    }
}

/// The loop's own end of its load. With the loop it goes, and the load is closed.
#[derive(Debug)]
pub(super) struct Occupancy(Arc<Load>);

impl Occupancy {
    /// Of a loop that has so many places.
    pub(super) fn new(places: u32) -> Self {
        Self(Arc::new(Load { count: AtomicU32::new(0), places }))
    }

    /// The end of those who choose.
    pub(super) fn load(&self) -> Arc<Load> {
        self.0.clone()
    }

    /// A connection that nobody has announced.
    pub(super) fn arrive(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn depart(&self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }

    /// The loop takes no more.
    pub(super) fn close(&self) {
        self.0.count.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// A loop that takes no more is over, unless it has connections or somebody is on the way to it: whoever was
    /// announced in time arrives. From now on nobody can be.
    pub(super) fn leave_empty(&self) -> bool {
        let (order, over) = (Ordering::Relaxed, CLOSED | GONE);
        self.0.count.compare_exchange(CLOSED, over, order, order).is_ok()
    }
}

impl Drop for Occupancy {
    fn drop(&mut self) {
        self.0.count.fetch_or(CLOSED | GONE, Ordering::Relaxed);
    }
}

/// A connection on its way to a loop: it counts there already, so that a crowd that comes at once is
/// spread, and no longer if it never arrives.
#[derive(Debug)]
pub(super) struct OnTheWay(Option<Arc<Load>>);

impl OnTheWay {
    /// `None` if the loop is over. All of this is one number, so that either this is seen here, or
    /// the loop sees who is on the way to it and does not end before.
    pub(super) fn to(load: &Arc<Load>) -> Option<Self> {
        let announced = Self(Some(load.clone()));
        let before = load.count.fetch_add(1, Ordering::Relaxed);
        (before & GONE == 0).then_some(announced)
    }

    pub(super) fn is_to(&self, load: &Arc<Load>) -> bool {
        self.0.as_ref().is_some_and(|own| Arc::ptr_eq(own, load))
    }

    /// It is there, and counts as the loop's own from now on.
    pub(super) fn arrive(mut self) {
        self.0 = None;
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Slots above `connections_max`, so that those who are refused can be told so.
const REFUSAL_SLOTS: u32 = 256;

/// The places that a loop has for connections.
pub(super) fn slots_max(limits: &LoopLimits) -> u32 {
    limits.connections_max.saturating_add(REFUSAL_SLOTS).min(CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_from_their_announcement_to_their_end() {
        let loop_end = Occupancy::new(3);
        let load = loop_end.load();
        let [first, second] = [(); 2].map(|()| OnTheWay::to(&load).unwrap());
        assert_eq!(load.room(), Room::Open(2));
        first.arrive();
        assert_eq!(load.room(), Room::Open(2), "it is counted once");
        drop(second);
        assert_eq!(load.room(), Room::Open(1), "it never came");
        loop_end.arrive();
        loop_end.arrive();
        assert_eq!((load.room(), load.count()), (Room::Full, 3));
        loop_end.depart();
        assert_eq!(load.room(), Room::Open(2));
    }

    #[test]
    fn loop_that_has_closed_or_gone_takes_no_more_and_is_still_counted() {
        let loop_end = Occupancy::new(1);
        let load = loop_end.load();
        loop_end.arrive();
        loop_end.close();
        assert_eq!((load.room(), load.count()), (Room::Closed, 1));
        loop_end.depart();
        assert_eq!((load.room(), load.count()), (Room::Closed, 0));
        let loop_end = Occupancy::new(1);
        let load = loop_end.load();
        drop(loop_end);
        assert_eq!(load.room(), Room::Gone);
        assert!(OnTheWay::to(&load).is_none() && load.count() == 0);
    }

    #[test]
    fn loop_is_not_over_before_those_have_come_who_are_on_the_way() {
        let loop_end = Occupancy::new(1);
        let load = loop_end.load();
        let [first, second] = [(); 2].map(|()| OnTheWay::to(&load).unwrap());
        loop_end.close();
        first.arrive();
        assert!(!loop_end.leave_empty(), "two");
        loop_end.depart();
        assert!(!loop_end.leave_empty(), "one is still on the way");
        // Nobody chooses it any more, and who does nevertheless is told.
        let third = OnTheWay::to(&load).unwrap();
        assert_eq!((load.room(), load.count()), (Room::Closed, 2));
        drop((second, third));
        assert!(loop_end.leave_empty());
        assert!(OnTheWay::to(&load).is_none());
        assert_eq!((load.room(), load.count()), (Room::Gone, 0));
    }
}
