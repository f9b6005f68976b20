//! The loops that carry messages: closed, where answers make messages due, and open, where the
//! clock does.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::{Client, Kit, Reading, Trouble};
use super::machine::own_thread_cpu;
use super::pace::{Ledger, Schedule, histogram};
use super::plan::{Plan, Work};
use super::watch::{Idle, Watch};
use super::worker::{Signals, TICK, Worker, unwaitable};

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
struct Loading<'w> {
    watch: &'w mut Watch,
    kit: &'w mut Kit,
    signals: &'w Signals,
    /// At the index that is their token.
    clients: Vec<Client>,
    drive: Drive,
    sent: u64,
    answered: u64,
    /// When the server last showed that it answers, or owed no answer.
    alive_at: Instant,
}

impl Worker<'_> {
    /// Loads the server by the timetable. All connections are open.
    pub fn load(&mut self, table: &Timetable) -> Result<Load, Trouble> {
        let clients = self.take_clients();
        let drive = drive(self.plan, self.index, clients.len(), self.kit.now_ns());
        let mut loading = Loading {
            watch: &mut self.watch,
            kit: &mut self.kit,
            signals: self.signals,
            clients,
            drive,
            sent: 0,
            answered: 0,
            alive_at: Instant::now(),
        };
        loading.begin(self.plan)?;
        loading.run_until(table.opens)?;
        loading.open_window(table);
        let (opened_at, cpu_before) = (Instant::now(), own_thread_cpu());
        loading.run_until(table.closes)?;
        let (elapsed, cpu) = (opened_at.elapsed(), own_thread_cpu() - cpu_before);
        let idle = loading.watch.take_idle();
        let is_open_loop = matches!(drive, Drive::Clock { .. });
        let unanswered = loading.drain()?;
        let unanswered = if is_open_loop { unanswered } else { 0 };
        let clients = std::mem::take(&mut loading.clients);
        let recorder = &mut self.kit.recorder;
        let latencies = std::mem::replace(&mut recorder.latencies, histogram());
        let answers = recorder.answers;
        self.put_back(clients);
        Ok(Load { answers, unanswered, elapsed, latencies, idle, cpu })
    }
}

/// What drives one thread: its share of the rate, beginning in turn with the others.
fn drive(plan: &Plan, thread: usize, clients: usize, now_ns: u64) -> Drive {
    let Work::Rate(rate) = plan.work else { return Drive::Answers };
    let first_ns = Schedule::new(now_ns, rate as f64).due_ns(thread as u64);
    let share = rate as f64 * clients as f64 / plan.connections as f64;
    Drive::Clock { schedule: Schedule::new(first_ns, share), next: 0 }
}

impl Loading<'_> {
    /// Sets every connection going. An event that came before is not lost: each is read once.
    fn begin(&mut self, plan: &Plan) -> Result<(), Trouble> {
        let count = self.clients.len();
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.receive(self.kit, Reading::ToTheEnd)?;
            match (self.drive, plan.work) {
                (Drive::Clock { schedule, .. }, _) => {
                    client.ledger = Ledger::scheduled(schedule.lane(index, count));
                }
                (Drive::Answers, Work::InFlight(in_flight)) => {
                    client.owe(in_flight.into(), self.kit.now_ns());
                    self.sent += u64::from(in_flight);
                }
                (Drive::Answers | Drive::Nothing, _) => {}
            }
            client.pump(self.kit)?;
        }
        Ok(())
    }

    /// From here on it counts. In a closed loop every answer does, whenever its message left: to
    /// leave out those under way would favour short latencies.
    fn open_window(&mut self, table: &Timetable) {
        self.watch.take_idle();
        let due_from_ns = match self.drive {
            Drive::Answers | Drive::Nothing => 0,
            Drive::Clock { .. } => self.kit.ns(table.opens),
        };
        self.kit.recorder.open(due_from_ns);
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
        let now_ns = self.kit.ns(now);
        let first = *next;
        while schedule.due_ns(*next) < now_ns {
            *next += 1;
        }
        let (due, clients) = (*next - first, self.clients.len() as u64);
        let wake = self.kit.instant(schedule.due_ns(*next));
        self.sent += due;
        // They take turns, so that those with a message now stand one behind the other.
        for turn in 0..due.min(clients) {
            let client = &mut self.clients[((first + turn) % clients) as usize];
            client.owe(due / clients + u64::from(turn < due % clients), now_ns);
            client.pump(self.kit)?;
        }
        Ok(Some(wake))
    }

    /// Waits, then handles every connection that is ready: one read, one write.
    /// Says how many answers came.
    fn turn(&mut self, wake: Instant) -> Result<u64, Trouble> {
        let Self { watch, kit, clients, .. } = self;
        let mut answers = 0;
        for event in watch.wait(wake).map_err(unwaitable)? {
            let client = &mut clients[event.token().0];
            if event.is_writable() {
                client.handle_writable();
            }
            // Data and the end in one event bring no second one.
            let ends = event.is_read_closed() || event.is_error();
            let reading = if ends { Reading::ToTheEnd } else { Reading::ToAShortRead };
            if event.is_readable() || ends {
                let received = client.receive(kit, reading)?;
                answers += received.answers;
                if let (Drive::Answers, 1..) = (self.drive, received.answers) {
                    client.owe(received.answers, received.at_ns);
                    self.sent += received.answers;
                }
            }
            client.pump(kit)?;
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
            Drive::Answers | Drive::Nothing => self.kit.recorder.close(),
            Drive::Clock { .. } => self.kit.recorder.drain(),
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
        let now_ns = self.kit.now_ns();
        let give_up = |client: &mut Client| client.ledger.give_up(now_ns, &mut self.kit.recorder);
        Ok(self.clients.iter_mut().map(give_up).sum())
    }
}
