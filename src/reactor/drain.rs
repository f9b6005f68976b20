//! How a loop parts from its connections: from all of them at its end, or from some.

use std::time::{Duration, Instant};

use super::dial::DialError;
use super::handler::Handler;
use super::net::Net;
use super::pace::{self, Pace, share};
use super::shared::{Shared, after};
use super::slot::Phase;
use super::turn::{Reactor, Timer};
use crate::collections::{Key, TimerKey};
use crate::metrics::Counters;
use crate::protocol::{CloseCause, CloseSummary, Initiator, Sender};
use crate::wire::CloseCode;

/// How connections are told to go: spread over time, so that they do not all come back at once.
///
/// ```
/// use corewire::{CloseCode, Drain};
/// use std::time::Duration;
///
/// let drain = Drain { window: Duration::from_secs(60), ..Drain::default() };
/// assert_eq!((drain.code, drain.grace), (CloseCode::SERVICE_RESTART, Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drain {
    /// The time over which the closes are spread evenly. Default 10 s: what a thousand clients in a
    /// second ask of whoever takes them is less than what ten thousand at once do, and nobody waits
    /// long for a restart. More than a year counts as one.
    pub window: Duration,
    /// How far a close may stray from its even place, from 0, not at all, to 1, anywhere in its part
    /// of the window. Default 1: loops that drain together would close in step otherwise. What is
    /// outside counts as the nearer end, what is no number as 0.
    pub jitter: f64,
    /// What is said. Default 1012: the service restarts, and a client may come back. The other that
    /// is of use is 1001, which RFC 6455 itself knows.
    pub code: CloseCode,
    /// Time for each closing handshake, where [`Config::close_timeout`](crate::Config) does not end
    /// it sooner. Default 5 s, which is as long.
    pub grace: Duration,
    /// What those are told to wait who come meanwhile, in whole seconds. Default 5 s: another server
    /// takes them at once. Guess.
    pub retry_after: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            jitter: 1.0,
            code: CloseCode::SERVICE_RESTART,
            grace: Duration::from_secs(5),
            retry_after: Duration::from_secs(5),
        }
    }
}

impl Drain {
    /// Everybody at once, with 1001.
    pub fn at_once(grace: Duration) -> Self {
        let (window, code) = (Duration::ZERO, CloseCode::GOING_AWAY);
        Self { window, code, grace, ..Self::default() }
    }
}

/// What became of the WebSockets that a loop had accepted when it began to drain. Those that it had
/// dialled are in the counters alone.
///
/// The first is the sum of the four that follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// So many there were.
    pub connections: u64,
    /// They were told to go and have answered.
    pub closed: u64,
    /// They have gone by themselves, with a Close or without; or have not answered ours but hung up.
    pub left: u64,
    /// They were given up for another reason: a broken rule, silence, the application.
    pub failed: u64,
    /// They had not answered when their time was over.
    pub cut_off: u64,
    /// Messages to them that were not, or not whole, handed to the kernel.
    pub unsent_messages: u64,
    /// Bytes to them that were not handed to the kernel.
    pub unsent_bytes: u64,
    /// From the beginning to the end.
    pub took: Duration,
}

/// Whether the loop is on its way to its end.
///
/// ```text
///           drain                all accepted were told, or none is left            nobody is left
///  Running ───────► Leaving ────────────────────────────────────────────► Ending ─────────────────► Finished
///     └──── shutdown, which is a window of nothing ──────────────────────────►┘
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) enum Departure {
    Running,
    /// Accepted ones are told one after the other. Those that were dialled stay, for messages may
    /// still come that are meant for them; so do listeners, for who comes is told to go elsewhere.
    Leaving(Course),
    /// All were told. Who is left at the deadline is cut off.
    Ending(Course),
    Finished,
}

/// A drain under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    drain: Drain,
    began: Instant,
    /// `None` once it has come.
    deadline: Option<TimerKey>,
    /// Accepted ones that are left.
    remaining: u64,
    report: DrainReport,
}

/// Closes under way, of a drain or of some connections.
#[derive(Debug)]
pub(super) struct Pacing {
    pace: Pace,
    /// Of the next close.
    timer: Option<TimerKey>,
    drain: Drain,
}

impl Departure {
    /// Whether new connections are welcome.
    pub(super) const fn is_running(&self) -> bool {
        matches!(self, Self::Running)
    }

    /// Whether there may still be somebody to dial for.
    pub(super) const fn is_dialling(&self) -> bool {
        matches!(self, Self::Running | Self::Leaving(_))
    }

    pub(super) const fn is_finished(&self) -> bool {
        matches!(self, Self::Finished)
    }

    /// What who comes now is told to wait, if he is not welcome.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Running => None,
            Self::Leaving(course) | Self::Ending(course) => Some(course.drain.retry_after),
            Self::Finished => Some(Duration::ZERO),
        }
    }

    /// A WebSocket that was accepted is over.
    pub(super) fn note_closed(&mut self, summary: &CloseSummary) {
        let (Self::Leaving(course) | Self::Ending(course)) = self else { return };
        course.remaining -= 1;
        course.report.count(summary);
    }
}

impl DrainReport {
    fn count(&mut self, summary: &CloseSummary) {
        let place = match (summary.cause, summary.initiator) {
            (CloseCause::ClosingHandshake, Initiator::Local) => &mut self.closed,
            (CloseCause::ClosingHandshake, Initiator::Peer)
            | (CloseCause::EndOfStream | CloseCause::Transport(_), _) => &mut self.left,
            (CloseCause::CloseTimeout | CloseCause::LoopEnded, _) => &mut self.cut_off,
            (
                CloseCause::Failed(_)
                | CloseCause::HeartbeatTimeout
                | CloseCause::Aborted
                | CloseCause::HandlerPanicked,
                _,
            ) => &mut self.failed,
        };
        *place += 1;
        self.unsent_messages += summary.unsent_messages;
        self.unsent_bytes += summary.unsent_bytes;
    }

    fn add_to(&self, counters: &mut Counters) {
        counters.drain_closed += self.closed;
        counters.drain_left += self.left;
        counters.drain_failed += self.failed;
        counters.drain_cut_off += self.cut_off;
        counters.drain_unsent_messages += self.unsent_messages;
        counters.drain_unsent_bytes += self.unsent_bytes;
    }
}

impl<D> Shared<D> {
    /// The WebSockets that listeners have brought, those in their closing handshake among them.
    fn accepted_keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.slots.keys().filter(|key| {
            let slot = self.slots.get(*key);
            slot.is_some_and(|slot| {
                matches!(slot.phase, Phase::Open { .. }) && self.listener(slot).is_some()
            })
        })
    }
}

impl<N: Net, H: Handler> Reactor<N, H> {
    /// Tells everyone to go. While that is under way already, only more haste is of use.
    pub(super) fn begin_drain(&mut self, drain: &Drain) {
        match &mut self.shared.departure {
            Departure::Running => {}
            Departure::Leaving(course) if drain.window.is_zero() => {
                course.drain = *drain;
                return self.begin_ending();
            }
            Departure::Ending(_) if drain.window.is_zero() => return self.hasten_end(drain.grace),
            Departure::Leaving(_) | Departure::Ending(_) | Departure::Finished => return,
        }
        let keys: Vec<_> = self.shared.accepted_keys().collect();
        let report = DrainReport { connections: keys.len() as u64, ..DrainReport::default() };
        let until = after(self.shared.now, drain.window.saturating_add(drain.grace));
        self.shared.departure = Departure::Leaving(Course {
            drain: *drain,
            began: self.shared.now,
            deadline: Some(self.shared.wheel.insert(until, Timer::Drain)),
            remaining: report.connections,
            report,
        });
        self.call_loop(|handler, at| handler.on_draining(at, drain));
        if drain.window.is_zero() || keys.is_empty() {
            return self.begin_ending();
        }
        // Whoever lends such a socket has others to take who comes; here they would be sent away.
        self.stop_listening(|listener| listener.is_lent);
        let count = keys.len();
        self.begin_pacing(keys, count, drain);
    }

    /// Tells some of the accepted ones to go, so that they come back elsewhere: `fraction` of them,
    /// from 0 to 1.
    pub(super) fn rebalance(&mut self, fraction: f64, drain: &Drain) {
        if !self.shared.departure.is_running() {
            return;
        }
        let is_open = |key: &Key| self.shared.sender(*key).is_some_and(Sender::is_open);
        let keys: Vec<_> = self.shared.accepted_keys().filter(is_open).collect();
        // What is left over is somebody by chance: many loops with few connections each close as
        // many as one with all of them.
        let wanted = pace::fraction(fraction) * keys.len() as f64;
        let count = (wanted + share(self.shared.random())) as usize;
        self.begin_pacing(keys, count, drain);
    }

    /// Those who were to be told before and were not yet are not told any more.
    fn begin_pacing(&mut self, keys: Vec<Key>, count: usize, drain: &Drain) {
        self.stop_pacing();
        let (now, random) = (self.shared.now, self.shared.random());
        let window = after(now, drain.window) - now;
        let pace = Pace::new(keys, count, window, drain.jitter, now, random);
        self.pacing = Some(Box::new(Pacing { pace, timer: None, drain: *drain }));
        self.tell_due();
    }

    fn stop_pacing(&mut self) {
        if let Some(timer) = self.pacing.take().and_then(|pacing| pacing.timer) {
            self.shared.wheel.cancel(timer);
        }
    }

    /// The timer of the next close has come.
    pub(super) fn handle_pace(&mut self) {
        if let Some(pacing) = &mut self.pacing {
            pacing.timer = None;
            self.tell_due();
        }
    }

    fn tell_due(&mut self) {
        let Some(mut pacing) = self.pacing.take() else { return };
        let Drain { code, grace, .. } = pacing.drain;
        while let Some(key) = pacing.pace.poll(self.shared.now, || self.shared.random()) {
            if self.shared.departure.is_running() {
                let is_told = self.shared.sender(key).is_some_and(Sender::is_open);
                self.shared.counters.rebalanced += u64::from(is_told);
            }
            self.shared.with_transmit(key, &mut self.net, |to| to.close_within(code, grace));
            self.shared.mark_dirty(key);
        }
        if let Some(due) = pacing.pace.due() {
            pacing.timer = Some(self.shared.wheel.insert(due, Timer::Pace));
            self.pacing = Some(pacing);
        } else {
            self.begin_ending();
        }
    }

    /// What is left is told, and has a last time to go.
    fn begin_ending(&mut self) {
        let Departure::Leaving(course) = self.shared.departure else { return };
        self.shared.departure = Departure::Ending(course);
        self.stop_pacing();
        self.stop_listening(|_| true);
        // Whoever hands connections over goes elsewhere.
        self.shared.occupancy.close();
        self.hasten_end(course.drain.grace);
        self.call_loop(|handler, at| handler.on_shutdown(at));
        for key in self.shared.slots.keys().collect::<Vec<_>>() {
            let code = match self.shared.slots.get(key).map(|slot| self.shared.listener(slot)) {
                Some(Some(_)) => course.drain.code,
                // A client has nothing to restart.
                Some(None) | None => CloseCode::GOING_AWAY,
            };
            let closed = self.shared.with_transmit(key, &mut self.net, |to| to.close(code, ""));
            if closed.is_some() {
                self.shared.mark_dirty(key);
            } else {
                self.fail_dial(key, DialError::NoRoom);
                self.end_idle_http(key);
            }
        }
    }

    /// Brings the deadline forward, unless it comes as soon.
    fn hasten_end(&mut self, grace: Duration) {
        if let Departure::Ending(Course { deadline: Some(timer), .. }) = self.shared.departure {
            let until = after(self.shared.now, grace).min(self.shared.wheel.deadline(timer));
            self.shared.wheel.rearm(timer, until);
        }
    }

    /// A plain HTTP connection without a request under way has nothing to wait for.
    fn end_idle_http(&mut self, key: Key) {
        let is_http = matches!(self.shared.slots.get(key), Some(slot)
            if matches!(&slot.phase, Phase::Http(outbox) if outbox.is_empty()));
        if is_http && !self.has_backlog(key) {
            self.end(key);
        }
    }

    /// The deadline: who is left is cut off.
    pub(super) fn cut_off(&mut self) {
        // Within a tick the wheel has no order: somebody may still have to be told.
        self.begin_ending();
        if let Departure::Ending(course) = &mut self.shared.departure {
            course.deadline = None;
        }
        for key in self.shared.slots.keys().collect::<Vec<_>>() {
            let ended = self.shared.with_transmit(key, &mut self.net, |to| {
                to.sender.end(Initiator::Local, CloseCause::LoopEnded);
            });
            if ended.is_some() {
                self.settle(key);
            }
            self.fail_dial(key, DialError::NoRoom);
            self.end(key);
        }
    }

    /// A turn of a loop that drains is over.
    pub(super) fn advance_drain(&mut self) {
        if let Departure::Leaving(Course { remaining: 0, .. }) = self.shared.departure {
            self.begin_ending();
        }
        let Departure::Ending(course) = self.shared.departure else { return };
        if !self.shared.slots.is_empty() || self.shared.subjects.is_stirred() {
            return;
        }
        // What was published last may wait for the mailbox of another loop.
        if course.deadline.is_some() && self.shared.subjects.waiting_messages() > 0 {
            return;
        }
        if let Some(timer) = course.deadline {
            self.shared.wheel.cancel(timer);
        }
        let report = DrainReport { took: self.shared.now - course.began, ..course.report };
        report.add_to(&mut self.shared.counters);
        self.call_loop(|handler, at| handler.on_drained(at, &report));
        self.end_publishing();
        self.shared.counters.sends_dropped += self.shared.subjects.waiting_messages() as u64;
        self.shared.departure = Departure::Finished;
    }
}
