//! Corewire against its peers, on one machine, by one command.
//!
//! Times drift on a shared machine, so nothing is compared but what ran within the same round: each
//! server or client once, fresh, alone on its core, with the generator on another. What is reported
//! is the median of the rounds' ratios, with the quartiles beside it.

mod artifacts;
mod chart;
mod disturbance;
mod machine;
mod measurement;
mod peers;
mod process;
mod race;
mod report;
mod rows;
mod schedule;
mod statistics;
mod summary;
mod trace;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::machine::Machine;
use crate::peers::Peer;
use crate::process::{GENERATOR_CORE, Interrupt};
use crate::race::Race;
use crate::report::Report;
use crate::rows::{QUICK, ROWS, Row};
use crate::schedule::Plan;

/// Races corewire against other WebSocket engines, and against an epoll loop without a protocol.
///
/// Builds the servers, the clients and the load generator, runs them in alternating rounds, and
/// writes race.md, race.json and race.svg. Exit status: 0 when all was measured, whatever came of
/// it; 2 otherwise.
#[derive(Parser)]
struct Arguments {
    /// How often each server or client runs in each row [default: 9].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seconds that one run counts; a quarter of that is the warm-up before [default: 2].
    #[arg(long)]
    seconds: Option<f64>,
    /// Only these rows: words between commas, each the id of a row or a part of ids.
    #[arg(long, value_name = "FILTER")]
    rows: Option<String>,
    /// Only these peers: words between commas, each the name of a server or a part of names.
    #[arg(long, value_name = "FILTER", default_value = "")]
    peers: String,
    /// Directory for the report.
    #[arg(long, default_value = "target/race")]
    out: PathBuf,
    /// One short round of a few rows, to see that all of it works.
    #[arg(long)]
    quick: bool,
    /// Crate with other peers: a peers.toml, a Cargo.lock, and the binaries that the first names.
    #[arg(long, value_name = "DIRECTORY")]
    peers_crate: Option<PathBuf>,
    /// Prints the ids of rows, and ends.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for row in ROWS {
            println!("{:<20}{}", row.id, row.title);
        }
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("race: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let peers_crate = arguments.peers_crate.clone().unwrap_or_else(|| benches.join("peers"));
    let filter = arguments.rows.as_deref().unwrap_or(if arguments.quick { QUICK } else { "" });
    let rows = rows::select(ROWS, filter, |row| row.id)
        .ok_or_else(|| io::Error::other(format!("no row for each of \"{filter}\": see --list")))?;
    let all = peers::read(&peers_crate)?;
    let peers = rows::select(&all, &arguments.peers, |peer| &peer.bin).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|peer| &*peer.bin).collect();
        io::Error::other(format!("no peer for each of \"{}\": {names:?}", arguments.peers))
    })?;
    let peers: Vec<Peer> = peers.into_iter().cloned().collect();
    let plan = plan(arguments)?;
    let most = rows.iter().map(|row| row.shape.connections()).max().unwrap_or(0);
    machine::prepare(most)?;
    fs::create_dir_all(&arguments.out)?;

    // Everything that ends a measurement early must come by here, so that servers are stopped.
    let interrupt = Interrupt::listen()?;
    let machine = Machine::look(&peers_crate);
    println!("RUSTFLAGS=\"{}\" for all", machine.rustflags);
    let artifacts = artifacts::build(&benches.join("load"), &peers_crate, &rows, &peers)?;
    process::pin_to_core(GENERATOR_CORE)?;
    announce(&rows, &peers, &plan);
    let mut race = Race {
        rows,
        peers: &peers,
        artifacts: &artifacts,
        plan,
        interrupt: &interrupt,
        out: &arguments.out,
        progress: ProgressBar::hidden(),
        measurements: Vec::new(),
        calls: Vec::new(),
        notes: Vec::new(),
    };
    race.progress = progress(race.steps())?;
    let ended = race.run();
    race.progress.finish_and_clear();
    if ended.is_err() {
        let (done, steps) = (race.measurements.len() + race.calls.len(), race.steps());
        race.notes.push(format!("Stopped after {done} of {steps} measurements."));
    }
    write(&race, machine, &arguments.out)?;
    let is_whole = race.measurements.iter().all(|own| own.figure(cost_field(own)).is_some());
    match ended {
        Ok(()) if is_whole => Ok(()),
        Ok(()) => Err(io::Error::other("not everything could be measured: see the report")),
        Err(error) => Err(error),
    }
}

fn cost_field(measurement: &measurement::Measurement) -> &'static str {
    let row = ROWS.iter().find(|row| row.id == measurement.row);
    row.map_or("", |row| row.shape.cost_field())
}

fn plan(arguments: &Arguments) -> io::Result<Plan> {
    let (rounds, seconds) = if arguments.quick { (1, 0.3) } else { (9, 2.0) };
    let seconds = arguments.seconds.unwrap_or(seconds);
    if !(0.05..=3600.0).contains(&seconds) {
        return Err(io::Error::other("--seconds is from 0.05 to 3600"));
    }
    Ok(Plan { rounds: arguments.rounds.unwrap_or(rounds), seconds, warm_up: seconds / 4.0 })
}

fn announce(rows: &[&Row], peers: &[Peer], plan: &Plan) {
    let expected = HumanDuration(schedule::expected(rows, peers, plan));
    println!(
        "{} rows × up to {} peers × {} × {} s: about {expected}",
        rows.len(),
        peers.len(),
        plan.rounds,
        plan.seconds
    );
}

/// Drawn between measurements only: a thread that ticks would be a disturbance.
fn progress(steps: u64) -> io::Result<ProgressBar> {
    let style = "{elapsed} {bar:24} {pos}/{len}, {eta} left; {wide_msg}";
    let style = ProgressStyle::with_template(style).map_err(io::Error::other)?;
    Ok(ProgressBar::new(steps).with_style(style))
}

fn write(race: &Race<'_>, machine: Machine, out: &Path) -> io::Result<()> {
    let rows = summary::rows(&race.rows, race.peers, &race.measurements, &race.calls);
    let report = Report {
        machine,
        plan: race.plan,
        peers: race.peers,
        together: summary::together(&rows),
        rows,
        notes: &race.notes,
        measurements: &race.measurements,
        calls: &race.calls,
    };
    let markdown = report::markdown(&report);
    print!("\n{markdown}");
    fs::write(out.join("race.md"), format!("{markdown}\n![Ratios to uWebSockets](race.svg)\n"))?;
    let json = serde_json::to_string_pretty(&report).map_err(io::Error::other)?;
    fs::write(out.join("race.json"), json)?;
    fs::write(out.join("race.svg"), chart::svg(&report))?;
    println!("\nwritten: race.md, race.json and race.svg in {}", out.display());
    Ok(())
}
