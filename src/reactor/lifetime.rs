//! The end of connections that have lived long enough.

use std::time::{Duration, Instant};

use super::handler::Handler;
use super::net::Net;
use super::pace::share;
use super::slot::Inbound;
use super::turn::{Reactor, Timer};
use crate::collections::Key;

/// When the life of a connection is over, in three bytes, for which its entry in the timer wheel has
/// room: an idle connection is no larger for it. In units of [`UNIT`] since the origin, modulo 2^24:
/// whoever asks does so less than 24 days before or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LifeEnd([u8; 3]);

/// A quarter of a second, about: what is rounded up does not matter to who lives for minutes.
const UNIT: Duration = Duration::from_millis(256);

/// The longest life. Who wants a longer one wants none.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(24 * 24 * 3600);

/// How often it is looked whether the message has ended that is waited for. Guess: nobody waits for
/// so little, and it is done for as long as a closing handshake may take, no longer.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl LifeEnd {
    /// There is none.
    pub(super) const NEVER: Self = Self([0xff; 3]);
    const BITS: u32 = 24;

    fn at(end: Instant, origin: Instant) -> Self {
        let millis = end.saturating_duration_since(origin).as_millis();
        let units = millis.div_ceil(UNIT.as_millis()) as u32;
        let [first, second, third, _] = units.to_le_bytes();
        let end = Self([first, second, third]);
        // One unit later is as good.
        if end == Self::NEVER { Self([0; 3]) } else { end }
    }

    fn instant(self, origin: Instant, now: Instant) -> Option<Instant> {
        if self == Self::NEVER {
            return None;
        }
        let [first, second, third] = self.0;
        let own = u32::from_le_bytes([first, second, third, 0]);
        let elapsed = now.saturating_duration_since(origin).as_millis() / UNIT.as_millis();
        // The difference modulo 2^24, with its sign.
        let unused = u32::BITS - Self::BITS;
        let ahead = own.wrapping_sub(elapsed as u32).wrapping_shl(unused).cast_signed() >> unused;
        let units = (elapsed as i64).saturating_add(i64::from(ahead)).max(0);
        Some(origin + UNIT * u32::try_from(units).ok()?)
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// The WebSocket `key` has opened: its life begins, if there is a bound to that.
    pub(super) fn begin_life(&mut self, key: Key) {
        let Some(slot) = self.shared.slots.get(key) else { return };
        let Some(lifetime) = self.shared.config(slot).max_lifetime else { return self.hasten(key) };
        let shorter = lifetime.jitter * share(self.shared.random());
        let life = lifetime.after.min(LIFETIME_MAX).mul_f64(1.0 - shorter);
        let end = LifeEnd::at(self.shared.now + life, self.shared.origin);
        self.replace_timer(key, Timer::Connection(key.index, end));
    }

    fn replace_timer(&mut self, key: Key, timer: Timer) {
        let Some(slot) = self.shared.slots.get_mut(key) else { return };
        self.shared.wheel.cancel(slot.timer);
        slot.timer = self.shared.wheel.insert(self.shared.now, timer);
        self.rearm(key, timer);
    }

    /// When the life of an open WebSocket is to be looked after, if ever.
    pub(super) fn life_deadline(&self, key: Key, timer: Timer) -> Option<Instant> {
        if !self.shared.sender(key)?.is_open() {
            return None;
        }
        let (now, origin) = (self.shared.now, self.shared.origin);
        match timer {
            Timer::Connection(_, end) => end.instant(origin, now),
            Timer::Outlived(_, end) => {
                end.instant(origin, now).map(|end| end.min(now + LOOK_AGAIN))
            }
            Timer::Accept(_)
            | Timer::Task(_)
            | Timer::Published
            | Timer::Drain
            | Timer::Memory
            | Timer::Pace => None,
        }
    }

    /// Tells a connection to go whose life is over. A message that is under way may end first, if
    /// that takes no longer than a closing handshake. Gives the entry that the wheel has now.
    pub(super) fn end_life(&mut self, key: Key, timer: Timer) -> Timer {
        let (now, origin) = (self.shared.now, self.shared.origin);
        let is_over = |end: LifeEnd| end.instant(origin, now).is_some_and(|end| end <= now);
        let Some(slot) = self.shared.slots.get(key) else { return timer };
        let config = self.shared.config(slot);
        let (Some(lifetime), patience) = (config.max_lifetime, config.close_timeout) else {
            return timer;
        };
        let must_go = match timer {
            Timer::Connection(_, end) if !is_over(end) => return timer,
            Timer::Connection(..) => false,
            Timer::Outlived(_, end) => is_over(end),
            Timer::Accept(_)
            | Timer::Task(_)
            | Timer::Published
            | Timer::Drain
            | Timer::Memory
            | Timer::Pace => {
                return timer;
            }
        };
        if !self.shared.sender(key).is_some_and(|sender| sender.is_open()) {
            return timer;
        }
        if must_go || self.is_between_messages(key) {
            self.shared.counters.lifetimes_ended += 1;
            let closed =
                self.shared.with_transmit(key, &mut self.net, |to| to.close(lifetime.code, ""));
            debug_assert!(!matches!(closed, Some(Err(_))), "the configuration was checked");
            self.flush(key);
            self.settle(key);
            return timer;
        }
        if let Timer::Outlived(..) = timer {
            return timer;
        }
        let end = LifeEnd::at(now + patience.min(LIFETIME_MAX), origin);
        let timer = Timer::Outlived(key.index, end);
        self.replace_timer(key, timer);
        timer
    }

    /// Whether no message is under way in either direction, so far as is known here.
    fn is_between_messages(&self, key: Key) -> bool {
        let is_sending = self.shared.sender(key).is_some_and(|sender| sender.is_in_parts());
        let receives = match &self.receivers[key.index as usize].inbound {
            Inbound::Open(receiver) => !receiver.is_between_messages(),
            Inbound::Vacant | Inbound::Http(_) | Inbound::Dialling | Inbound::Parting { .. } => {
                false
            }
        };
        !is_sending && !receives && !self.has_backlog(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_a_life_takes_no_room_in_the_wheel() {
        assert_eq!(size_of::<Timer>(), 8);
    }

    #[test]
    fn no_end_is_never() {
        let now = Instant::now();
        assert_eq!(LifeEnd::NEVER.instant(now, now), None);
    }

    proptest! {
        #[test]
        fn an_end_comes_back_rounded_up_whenever_the_loop_began(
            age in 0u64..400 * 86_400_000,
            life in 0u64..LIFETIME_MAX.as_millis() as u64,
            asked in 0.0..=1.2f64,
        ) {
            let origin = Instant::now();
            let opened = origin + Duration::from_millis(age);
            let end = opened + Duration::from_millis(life);
            let asked = opened + Duration::from_millis(life).mul_f64(asked).min(LIFETIME_MAX);
            let told = LifeEnd::at(end, origin).instant(origin, asked).expect("there is an end");
            prop_assert!(told >= end, "{:?} early", end - told);
            prop_assert!(told - end <= 2 * UNIT, "{:?} late", told - end);
        }
    }
}
