//! How the loops of the simulated network wait: who is told what, and how far time goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corewire::{NetKey, Readiness, Wait, Wake};

use crate::sim_world::World;

/// A loop on the network.
#[derive(Default)]
pub struct Sleeper {
    pub waker: Arc<Flag>,
    state: State,
}

/// Set by a wake from any thread.
#[derive(Default)]
pub struct Flag(AtomicBool);

/// What the last poll of a loop left it in.
#[derive(Clone, Copy, Default)]
enum State {
    /// It has not polled yet, or never will again.
    #[default]
    Away,
    /// Its turn began with something to do; time stands still until it polls again.
    Awake,
    /// It waits until then, or without end.
    Asleep(Option<Duration>),
}

impl Wake for Flag {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl World {
    /// Tells who was woken; if nobody was, lets time pass until somebody is or `wait` is over. It
    /// leaves the time to other loops that have something to do before.
    pub fn poll(&mut self, owner: usize, events: &mut Vec<Readiness>, wait: Wait) {
        let first = events.len();
        let began = self.elapsed;
        let is_woken = self.sleepers[owner].waker.0.swap(false, Ordering::AcqRel);
        self.ferry();
        self.pass_time();
        self.tell(owner, events);
        let may_sleep = events.len() == first && !is_woken && wait != Wait::No;
        let is_held_up = may_sleep && self.is_another_awake(owner);
        let until = match wait {
            Wait::Until(deadline) => Some(deadline.saturating_duration_since(self.base)),
            Wait::No | Wait::Forever => None,
        };
        if may_sleep && !is_held_up {
            self.sleep(until, owner);
            self.tell(owner, events);
        }
        self.sleepers[owner].state = match events.len() == first && may_sleep {
            true => State::Asleep(until),
            false => State::Awake,
        };
        let is_idle = events.len() == first
            && self.elapsed == began
            && self.progress == self.progress_at_poll
            && !is_held_up
            && !is_woken;
        self.idle_polls = if is_idle { self.idle_polls + 1 } else { 0 };
        assert!(self.idle_polls < self.idle_polls_max, "the loop spins at {:?}", self.elapsed);
        self.held_up_polls = if is_held_up { self.held_up_polls + 1 } else { 0 };
        assert!(self.held_up_polls < 1000, "another loop has something to do and no turn");
        self.progress_at_poll = self.progress;
        self.elapsed += self.poll_cost;
        for event in &events[first..] {
            self.note(7, NetKey(event.token as u32), u64::from(event.readable));
        }
    }

    /// Nothing of a loop is left.
    pub fn leave(&mut self, owner: usize) {
        self.sleepers[owner] = Sleeper::default();
        self.close_all(owner);
    }

    /// Whether a loop other than `owner` would not sleep now.
    fn is_another_awake(&self, owner: usize) -> bool {
        let others = || self.sleepers.iter().enumerate().filter(|(index, _)| *index != owner);
        let is_awake = others().any(|(_, sleeper)| match sleeper.state {
            State::Away => false,
            State::Awake => true,
            State::Asleep(until) => {
                let is_woken = sleeper.waker.0.load(Ordering::Acquire);
                is_woken || until.is_some_and(|until| until <= self.elapsed)
            }
        });
        let is_polled =
            |index: usize| index != owner && !matches!(self.sleepers[index].state, State::Away);
        is_awake
            || self
                .links
                .iter()
                .any(|link| is_polled(link.owner) && link.is_woken && link.token.is_some())
            || self.listeners.iter().any(|listener| {
                is_polled(listener.owner) && listener.is_woken && !listener.is_closed
            })
    }

    /// Time passes until something happens in the network, `owner` has waited long enough or
    /// another loop has.
    fn sleep(&mut self, until: Option<Duration>, owner: usize) {
        let next = self.links.iter().filter_map(|link| link.next_time()).min();
        let others = self.sleepers.iter().enumerate().filter(|(index, _)| *index != owner);
        let others = others.filter_map(|(_, sleeper)| match sleeper.state {
            State::Asleep(until) => until,
            State::Away | State::Awake => None,
        });
        let until = others.chain([until, next].into_iter().flatten()).min();
        self.elapsed = until.expect("somebody will wake this poll").max(self.elapsed);
        self.pass_time();
    }

    /// What was to happen by now happens.
    fn pass_time(&mut self) {
        for link in &mut self.links {
            for direction in &mut link.blocked_until {
                if direction.is_some_and(|until| until <= self.elapsed) {
                    *direction = None;
                    link.is_woken = true;
                }
            }
        }
        self.answer_due();
    }

    fn tell(&mut self, owner: usize, events: &mut Vec<Readiness>) {
        let first = events.len();
        let partly = self.strikes(self.faults.partial_polls);
        let own = self.listeners.iter_mut().filter(|listener| listener.owner == owner);
        for listener in own.filter(|listener| listener.is_woken) {
            listener.is_woken = false;
            if !listener.is_closed && !listener.waiting.is_empty() {
                let (readable, writable, hung_up) = (true, false, false);
                let token = listener.token;
                events.push(Readiness { token, readable, writable, hung_up });
            }
        }
        for index in 0..self.links.len() {
            let link = &self.links[index];
            if link.owner != owner || !link.is_woken || (partly && self.random(2) == 0) {
                continue;
            }
            events.extend(self.links[index].tell());
        }
        // The order in which a kernel tells is nobody's to rely on.
        for index in (first + 1..events.len()).rev() {
            let other = first + self.random(index - first + 1);
            events.swap(index, other);
        }
    }
}
