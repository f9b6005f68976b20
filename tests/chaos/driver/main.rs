//! What tests/chaos/run.sh runs: three back ends that are killed, stopped and restarted at random
//! while clients and a pool send to them, and the judge of what was told of each message.
//!
//! ```console
//! $ chaos SEED SECONDS OUTDIR -- NAME PROGRAM [ARGUMENT]... [-- NAME PROGRAM [ARGUMENT]...]...
//! $ chaos back-end PORT LOG
//! ```
//!
//! The seed says what is done to the back ends and what is sent; how that falls together is the
//! machine's. The second form is one of the back ends.

mod back_end;
mod disturber;
mod ledger;
mod load;
mod recovery;
#[path = "../../support/rng.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod rng;
mod stream;
mod workers;

use std::error::Error;
use std::fs;
use std::io;
use std::iter;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use corewire::{ClientLayer, Reactor, Usage};

use disturber::{BackEnd, Disturber, Tally};
use ledger::{Line, Totals};
use load::{Load, RECOVERY_BOUND};
use rng::Rng;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (who, result) = match words.as_slice() {
        ["back-end", port, log] => {
            let served =
                port.parse().map_err(Into::into).and_then(|port| back_end::serve(port, log));
            ("back end".to_owned(), served)
        }
        [seed, seconds, out, "--", commands @ ..] => {
            (format!("seed {seed}"), run_named(seed, seconds, out, commands))
        }
        _ => ("usage".to_owned(), Err("see tests/chaos/run.sh".into())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {who}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_named(
    seed: &str,
    seconds: &str,
    out: &str,
    commands: &[&str],
) -> Result<(), Box<dyn Error>> {
    let (seed, seconds) = (seed.parse()?, seconds.parse()?);
    let commands: Vec<_> = commands.split(|word| *word == "--").collect();
    let ports = free_ports(commands.len())?;
    let back_ends = commands
        .iter()
        .zip(ports)
        .map(|(command, port)| {
            let (name, command) = command.split_first().ok_or("a back end without a name")?;
            Ok(BackEnd {
                name: (*name).to_owned(),
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                port,
                log: Path::new(out).join(format!("{name}.log")),
            })
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    println!("chaos: seed {seed}, {seconds} s");
    run(seed, Duration::from_secs(seconds), &back_ends)
}

fn run(seed: u64, time: Duration, back_ends: &[BackEnd]) -> Result<(), Box<dyn Error>> {
    let descriptors = fs::read_dir("/proc/self/fd")?.count();
    let layer = ClientLayer::build(|clients| Load::new(clients, back_ends, seed));
    let mut reactor = layer.reactor()?;
    let until = Instant::now() + time;
    let (turned, tallies) = thread::scope(|scope| {
        let mut running = Vec::new();
        for (index, back_end) in back_ends.iter().enumerate() {
            let (end, over) = mpsc::channel();
            let disturber = Disturber::new(index, back_end, seed, reactor.handle(), over);
            running.push((end, scope.spawn(move || disturber.run(until))));
        }
        let turned = reactor.run();
        let ended = running.into_iter().map(|(end, disturber)| {
            drop(end);
            disturber.join().expect("a disturber does not panic")
        });
        (turned, ended.collect::<Vec<_>>())
    });
    turned?;
    let used = in_use(&reactor);
    let load = reactor.handler().handler();
    if let Some(complaint) = load.complaint.take() {
        return Err(complaint.into());
    }
    let logs = back_ends.iter().map(|back_end| read_log(&back_end.log));
    let totals = load.ledger.judge(&logs.collect::<Result<Vec<_>, _>>()?)?;
    print_table(back_ends, load, &totals, &tallies);
    if let Some((what, count)) = used.into_iter().find(|(_, count)| *count > 0) {
        return Err(format!("{count} {what} are left").into());
    }
    drop(reactor);
    let left = fs::read_dir("/proc/self/fd")?.count();
    if left != descriptors {
        return Err(format!("{left} descriptors are open, {descriptors} were before").into());
    }
    println!("chaos: all is well");
    Ok(())
}

/// What a loop without connections must not hold.
fn in_use<N: corewire::Net, H: corewire::Handler>(
    reactor: &Reactor<N, H>,
) -> [(&'static str, usize); 8] {
    let Usage { sockets, open, timers, backlogs, assemblies, blocks, rings, segments, .. } =
        reactor.usage();
    [
        ("sockets", sockets),
        ("open connections", open),
        ("timers", timers),
        ("backlogs", backlogs),
        ("assemblies", assemblies),
        ("blocks", blocks),
        ("rings", rings),
        ("segments", segments),
    ]
}

/// Ports that nobody listens on, and below those that the system gives to who calls: one of these
/// could be taken while the back end is down, even by the call of its own client.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut rng = Rng::new(UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64));
    let port = || 20_000 + rng.below(10_000) as u16;
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
    // Held until all are found, so that none is found twice.
    let found: Vec<_> = iter::repeat_with(port).take(1000).filter_map(bind).take(count).collect();
    found.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect()
}

fn read_log(path: &Path) -> Result<Vec<Line>, Box<dyn Error>> {
    let parse = |line: &str| {
        let (name, number) = line.trim_end().split_once(' ')?;
        Some(Line { name: name.to_owned(), number: number.parse().ok()? })
    };
    let text = fs::read_to_string(path)?;
    let lines = text.lines().map(|line| parse(line).ok_or(format!("{}: {line}", path.display())));
    Ok(lines.collect::<Result<_, _>>()?)
}

fn print_table(back_ends: &[BackEnd], load: &Load, totals: &[Totals], tallies: &[Tally]) {
    let row = |what: &str, cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = (0..back_ends.len()).map(|i| format!("{:>15}", cell(i))).collect();
        println!("  {what:<32}{}", cells.concat());
    };
    row("", &|i| back_ends[i].name.clone());
    row("killed, stopped, restarted", &|i| {
        let Tally { kills, stops, restarts } = tallies[i];
        format!("{kills}, {stops}, {restarts}")
    });
    row("connections", &|i| totals[i].connections.to_string());
    row("messages logged", &|i| totals[i].logged.to_string());
    row("  confirmed", &|i| totals[i].confirmed.to_string());
    row("  unconfirmed, of these logged", &|i| {
        format!("{}, {}", totals[i].unconfirmed, totals[i].unconfirmed_logged)
    });
    row("unsent by the summary", &|i| totals[i].unsent.to_string());
    row("taken, then reported as unsent", &|i| totals[i].reported.to_string());
    row("refused", &|i| totals[i].refused.to_string());
    row("recoveries", &|i| load.recoveries[i].count.to_string());
    row("longest recovery, ms", &|i| load.recoveries[i].longest.as_millis().to_string());
    let bound = RECOVERY_BOUND;
    let tally = load.workers.tally;
    println!("  bound of a recovery {bound:?}");
    println!(
        "  leases: {} granted, {} of them after waiting; {} waited in vain\n  ended: {} released, \
         {} failed, {} broken, {} revoked, {} closed",
        tally.granted,
        tally.waits - tally.expired,
        tally.expired,
        tally.released,
        tally.failed,
        tally.broken,
        tally.revoked,
        tally.closed,
    );
    println!("  reuse rate {:.2} %", 100.0 * load.pool_stats.reuse_rate());
}
