//! The loops that carry messages: closed, where answers make messages due, and open, where the
//! clock does.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::Trouble;
use super::fleet::{Fleet, Reaction};
use super::machine::own_thread_cpu;
use super::pace::{Ledger, Schedule, histogram};
use super::plan::{Plan, Work};
use super::watch::Idle;
use super::worker::{Signals, TICK};

/// The instants of a run.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    /// From here on it counts; what comes before is the warm-up.
    pub opens: Instant,
    pub closes: Instant,
}

/// What one thread measured.
#[derive(Debug)]
pub struct Load {
    /// Answers within the time.
    pub answers: u64,
    /// Open loop: messages that were not answered even after it. Their age counts as latency.
    pub unanswered: u64,
    pub elapsed: Duration,
    pub latencies: Histogram<u64>,
    pub idle: Idle,
    pub cpu: Duration,
}

/// Without any answer for so long, while some are due, the run is given up.
const STALL: Duration = Duration::from_secs(10);

/// An open loop waits so long at its end for what is still under way.
const DRAIN: Duration = Duration::from_secs(2);

/// What makes messages due.
#[derive(Clone, Copy)]
enum Drive {
    Answers,
    /// The schedule of this thread, and the number of its next message.
    Clock {
        schedule: Schedule,
        next: u64,
    },
    /// Nothing: what is under way is the last.
    Nothing,
}

/// The connections while they carry messages.
struct Loading<'w, F> {
    fleet: &'w mut F,
    signals: &'w Signals,
    drive: Drive,
    sent: u64,
    answered: u64,
    /// When the server last showed that it answers, or owed no answer.
    alive_at: Instant,
}

/// Loads the server by the timetable over the connections of one thread. All are open.
pub fn load<'p, F: Fleet<'p>>(
    fleet: &mut F,
    plan: &Plan,
    index: usize,
    signals: &Signals,
    table: &Timetable,
) -> Result<Load, Trouble> {
    let drive = drive(plan, index, fleet.count(), fleet.clock().now_ns());
    let alive_at = Instant::now();
    let mut loading = Loading { fleet, signals, drive, sent: 0, answered: 0, alive_at };
    loading.begin(plan)?;
    loading.run_until(table.opens)?;
    loading.open_window(table);
    let (opened_at, cpu_before) = (Instant::now(), own_thread_cpu());
    loading.run_until(table.closes)?;
    let (elapsed, cpu) = (opened_at.elapsed(), own_thread_cpu() - cpu_before);
    let idle = loading.fleet.take_idle();
    let is_open_loop = matches!(drive, Drive::Clock { .. });
    let unanswered = loading.drain()?;
    let unanswered = if is_open_loop { unanswered } else { 0 };
    let recorder = fleet.recorder();
    let latencies = std::mem::replace(&mut recorder.latencies, histogram());
    let answers = recorder.answers;
    Ok(Load { answers, unanswered, elapsed, latencies, idle, cpu })
}

/// What drives one thread: its share of the rate, beginning in turn with the others.
fn drive(plan: &Plan, thread: usize, clients: usize, now_ns: u64) -> Drive {
    let Work::Rate(rate) = plan.work else { return Drive::Answers };
    let first_ns = Schedule::new(now_ns, rate as f64).due_ns(thread as u64);
    let share = rate as f64 * clients as f64 / plan.connections as f64;
    Drive::Clock { schedule: Schedule::new(first_ns, share), next: 0 }
}

impl<'p, F: Fleet<'p>> Loading<'_, F> {
    /// Sets every connection going.
    fn begin(&mut self, plan: &Plan) -> Result<(), Trouble> {
        let count = self.fleet.count();
        for index in 0..count {
            let (ledger, first) = match (self.drive, plan.work) {
                (Drive::Clock { schedule, .. }, _) => {
                    (Ledger::scheduled(schedule.lane(index, count)), 0)
                }
                (Drive::Answers, Work::InFlight(in_flight)) => (Ledger::batches(), in_flight),
                (Drive::Answers | Drive::Nothing, _) => (Ledger::batches(), 0),
            };
            self.fleet.begin(index, ledger, first.into())?;
            self.sent += u64::from(first);
        }
        Ok(())
    }

    /// From here on it counts. In a closed loop every answer does, whenever its message left: to
    /// leave out those under way would favour short latencies.
    fn open_window(&mut self, table: &Timetable) {
        self.fleet.take_idle();
        let due_from_ns = match self.drive {
            Drive::Answers | Drive::Nothing => 0,
            Drive::Clock { .. } => self.fleet.clock().ns(table.opens),
        };
        self.fleet.recorder().open(due_from_ns);
    }

    fn run_until(&mut self, until: Instant) -> Result<(), Trouble> {
        loop {
            let now = Instant::now();
            // Whatever happens, all is sent that was due until then, and nothing else.
            let due = self.send_due(now.min(until))?;
            if now >= until || self.signals.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let wake = until.min(now + TICK);
            let wake = due.map_or(wake, |due| wake.min(due));
            let answers = self.turn(wake)?;
            self.answered += answers;
            self.check_stall(now, answers)?;
        }
    }

    /// Sends what the clock made due before `now`; tells when more will be.
    fn send_due(&mut self, now: Instant) -> Result<Option<Instant>, Trouble> {
        let Drive::Clock { schedule, next } = &mut self.drive else { return Ok(None) };
        let clock = self.fleet.clock();
        let now_ns = clock.ns(now);
        let first = *next;
        while schedule.due_ns(*next) < now_ns {
            *next += 1;
        }
        let (due, clients) = (*next - first, self.fleet.count() as u64);
        let wake = clock.instant(schedule.due_ns(*next));
        self.sent += due;
        // They take turns, so that those with a message now stand one behind the other.
        for turn in 0..due.min(clients) {
            let count = due / clients + u64::from(turn < due % clients);
            self.fleet.send(((first + turn) % clients) as usize, count, now_ns)?;
        }
        Ok(Some(wake))
    }

    /// Waits, then handles what has come. Says how many answers that was.
    fn turn(&mut self, wake: Instant) -> Result<u64, Trouble> {
        let reaction = match self.drive {
            Drive::Answers => Reaction::Message,
            Drive::Clock { .. } | Drive::Nothing => Reaction::Nothing,
        };
        let answers = self.fleet.turn(wake, reaction)?;
        if reaction == Reaction::Message {
            self.sent += answers;
        }
        if answers > 0 {
            self.signals.answered.fetch_add(answers, Ordering::Relaxed);
        }
        Ok(answers)
    }

    fn check_stall(&mut self, now: Instant, answers: u64) -> Result<(), Trouble> {
        if answers > 0 || self.sent == self.answered {
            self.alive_at = now;
        }
        if now.saturating_duration_since(self.alive_at) < STALL {
            return Ok(());
        }
        let seconds = STALL.as_secs();
        Err(Trouble::Stalled(format!("the server stopped answering: nothing for {seconds} s")))
    }

    /// The time is over. What is under way is waited for a little: what the clock made due still
    /// counts, and the rest shall not be cut off. Says how many due messages were never answered.
    fn drain(&mut self) -> Result<u64, Trouble> {
        match std::mem::replace(&mut self.drive, Drive::Nothing) {
            Drive::Answers | Drive::Nothing => self.fleet.recorder().close(),
            Drive::Clock { .. } => self.fleet.recorder().drain(),
        }
        let until = Instant::now() + DRAIN;
        loop {
            let now = Instant::now();
            let is_stopped = self.signals.stop.load(Ordering::Relaxed);
            if self.sent == self.answered || now >= until || is_stopped {
                break;
            }
            self.answered += self.turn(until.min(now + TICK))?;
        }
        let now_ns = self.fleet.clock().now_ns();
        Ok(self.fleet.give_up(now_ns))
    }
}
