//! `corewire bench`: a load generator for echo servers.
//!
//! ```text
//!   plan ──► workers, one thread each ──► outcome ──► report
//!              dial: connect and shake hands, bounded
//!              load: closed or open loop
//! ```

mod client;
mod dial;
mod fleet;
mod load;
mod looped;
mod machine;
mod outcome;
mod pace;
mod plan;
mod plot;
mod progress;
mod report;
mod sources;
mod watch;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::args::Failure;
use crate::log::say;
use client::Trouble;
use fleet::Fleet;
use load::{Load, Timetable};
use looped::LoopWorker;
use machine::{Process, Sample};
use outcome::{Loaded, Opened, Outcome};
use plan::{Plan, Way, Work};
use progress::Progress;
use worker::{Signals, Worker};

pub use plan::{ABOUT, BenchArgs, EXAMPLES};

/// The server is done with its last handshake a little after we have seen the answer.
const SETTLE: Duration = Duration::from_millis(300);

/// Loads the server and prints what was measured.
pub fn run(args: &BenchArgs) -> Result<ExitCode, Failure> {
    let plan = Plan::new(args)?;
    let server = args.pid.map(Process::new).transpose()?;
    let signals = Signals::default();
    stop_on_interrupt(&signals.stop)?;
    let measured = match plan.way {
        Way::Sockets(_) => measure::<Worker<'_>>(&plan, server, &signals),
        Way::Loop(_) => measure::<LoopWorker<'_>>(&plan, server, &signals),
    };
    let outcome = match measured {
        Ok(outcome) => outcome,
        Err(trouble @ (Trouble::Unreachable { .. } | Trouble::Local(_))) => {
            return Err(Failure(trouble.to_string()));
        }
        Err(trouble) => {
            say(format_args!("corewire: {trouble}"));
            return Ok(ExitCode::FAILURE);
        }
    };
    let text =
        if args.json { report::json(&plan, &outcome) } else { report::text(&plan, &outcome) };
    // A reader that has gone away does not want the rest.
    let _ = io::stdout().write_all(text.as_bytes());
    if let Some(line) = outcome.bottleneck() {
        say(line);
    }
    Ok(ExitCode::SUCCESS)
}

/// The first Ctrl-C ends the run, the second one the process.
fn stop_on_interrupt(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal arms what the second one meets.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|error| Failure(format!("cannot catch signals: {error}")))?;
    }
    Ok(())
}

fn measure<'p, F: Fleet<'p>>(
    plan: &'p Plan,
    server: Option<Process>,
    signals: &'p Signals,
) -> Result<Outcome, Trouble> {
    let look = |error: io::Error| Trouble::Local(format!("cannot look at the server: {error}"));
    let workers: Result<Vec<F>, Failure> =
        (0..plan.threads).map(|index| F::new(plan, index, signals)).collect();
    let mut workers = workers.map_err(|Failure(text)| Trouble::Local(text))?;
    let rss_before = server.map(|server| server.resident_bytes()).transpose().map_err(look)?;
    let before = server.map(|server| server.sample()).transpose().map_err(look)?;
    let mut opened = dial(plan, &mut workers, signals)?;
    if let (Some(server), Some(before), Some(rss_before)) = (server, before, rss_before) {
        thread::sleep(SETTLE);
        opened.usage = Some(before.until(&server.sample().map_err(look)?));
        opened.rss_bytes = Some((rss_before, server.resident_bytes().map_err(look)?));
    }
    let is_interrupted = || signals.stop.load(Ordering::Relaxed);
    let mut loaded = None;
    if !matches!(plan.work, Work::ConnectOnly(_)) && !is_interrupted() {
        loaded = Some(load(plan, &mut workers, server, signals)?);
    }
    let is_interrupted = is_interrupted();
    workers.iter_mut().for_each(F::part);
    Ok(Outcome { opened, loaded, is_interrupted })
}

/// Opens all connections.
fn dial<'p, F: Fleet<'p>>(
    plan: &Plan,
    workers: &mut [F],
    signals: &Signals,
) -> Result<Opened, Trouble> {
    let progress = Progress::dialling(plan);
    let began = Instant::now();
    in_parallel(
        workers,
        signals,
        |_, worker| worker.dial(),
        |_| {
            progress.show_opened(signals.opened.load(Ordering::Relaxed));
            None
        },
    )?;
    Ok(Opened::new(began.elapsed(), workers.iter_mut().map(F::handshakes)))
}

/// Loads the server over all connections; looks at it when the measured time begins and ends.
fn load<'p, F: Fleet<'p>>(
    plan: &Plan,
    workers: &mut [F],
    server: Option<Process>,
    signals: &Signals,
) -> Result<Loaded, Trouble> {
    let progress = Progress::loading(plan);
    let began = Instant::now();
    let opens = began + plan.warm_up;
    let table = Timetable { opens, closes: opens + plan.duration };
    let look = || server.and_then(|server| server.sample().ok());
    let (mut first, mut last): (Option<Sample>, Option<Sample>) = (None, None);
    let load = |index, worker: &mut F| load::load(worker, plan, index, signals, &table);
    let loads: Vec<Load> = in_parallel(workers, signals, load, |now| {
        progress.show_answered(began.elapsed(), signals.answered.load(Ordering::Relaxed));
        if first.is_none() && now >= table.opens {
            first = look();
        }
        if last.is_none() && (now >= table.closes || signals.stop.load(Ordering::Relaxed)) {
            last = look();
        }
        [table.opens, table.closes].into_iter().find(|at| *at > now)
    })?;
    let usage = first.zip(last).map(|(first, last)| first.until(&last));
    Ok(Loaded::new(loads, usage))
}

/// How often the progress is shown.
const FRAME: Duration = Duration::from_millis(100);

/// Runs each worker on a thread of its own; meanwhile, and once at the end, calls `watch`, which
/// says when it wants to be called at the latest. The first trouble ends all.
fn in_parallel<'p, F: Fleet<'p>, T: Send>(
    workers: &mut [F],
    signals: &Signals,
    run: impl Fn(usize, &mut F) -> Result<T, Trouble> + Sync,
    mut watch: impl FnMut(Instant) -> Option<Instant>,
) -> Result<Vec<T>, Trouble> {
    let (sender, ended) = channel::<()>();
    let run = &run;
    thread::scope(|scope| {
        let start = |(index, worker)| {
            let sender = sender.clone();
            scope.spawn(move || {
                // Dropped at the end, whatever that is.
                let _sender = sender;
                let result = run(index, worker);
                if result.is_err() {
                    signals.stop.store(true, Ordering::Relaxed);
                }
                result
            })
        };
        let threads: Vec<_> = workers.iter_mut().enumerate().map(start).collect();
        drop(sender);
        loop {
            let now = Instant::now();
            let wanted = watch(now).map_or(FRAME, |at| FRAME.min(at - now));
            if ended.recv_timeout(wanted) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        watch(Instant::now());
        threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
    })
}
