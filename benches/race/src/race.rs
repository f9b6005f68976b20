//! The rounds: a fresh server, the generator, and a look at who else was there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::artifacts::Artifacts;
use crate::disturbance::Snapshot;
use crate::measurement::{Calls, Measurement, Outcome};
use crate::peers::{End, Peer};
use crate::process::{GENERATOR_CORE, Interrupt, SERVER_CORE, Server, run};
use crate::rows::Row;
use crate::schedule::{self, Plan, TRACED_SECONDS};
use crate::summary::{self, Conclusion};
use crate::trace;

/// How much longer than its measurement the generator may take: it gives up by itself after ten
/// seconds without an answer, and opening ten thousand connections takes a while.
const PATIENCE: Duration = Duration::from_secs(90);

/// What races, how, and what came of it so far.
pub struct Race<'a> {
    /// What is measured.
    pub rows: Vec<&'static Row>,
    /// Who is.
    pub peers: &'a [Peer],
    /// Their programs, and the generator.
    pub artifacts: &'a Artifacts,
    /// How long and how often.
    pub plan: Plan,
    /// Whether to go on.
    pub interrupt: &'a Interrupt,
    /// For what servers and strace write.
    pub out: &'a Path,
    /// One step for each measurement.
    pub progress: ProgressBar,
    /// In the order in which they were made.
    pub measurements: Vec<Measurement>,
    /// For those rows that have them.
    pub calls: Vec<Calls>,
    /// What the reader must know.
    pub notes: Vec<String>,
}

impl<'a> Race<'a> {
    /// Measurements, without those that a second attempt will bring.
    pub fn steps(&self) -> u64 {
        let steps = |row: &&'static Row| {
            let traced = u32::from(schedule::is_traced(row.shape));
            u64::from(self.plan.rounds + traced) * self.takers(row).len() as u64
        };
        self.rows.iter().map(steps).sum()
    }

    /// Who runs in a row.
    fn takers(&self, row: &Row) -> Vec<&'a Peer> {
        self.peers.iter().filter(|peer| row.takes(peer)).collect()
    }

    /// All rounds, again those of rows whose rounds disagree, and then the system calls.
    ///
    /// # Errors
    /// Somebody asked us to stop. A server that fails is an [`Outcome::Failure`].
    pub fn run(&mut self) -> io::Result<()> {
        let rows = self.rows.clone();
        for row in &rows {
            if self.takers(row).is_empty() {
                self.notes.push(format!("Not measured, since nobody can: {}.", row.title));
            }
        }
        // Rounds outside, rows inside: what disturbs the machine for a minute spoils one round of
        // some rows, and not all rounds of one.
        self.attempt(0, &rows)?;
        let is_wide = |row: &&'static Row| {
            summary::conclusion(row, &self.measurements) == Conclusion::Inconclusive
        };
        let again: Vec<&'static Row> = rows.iter().copied().filter(is_wide).collect();
        let runs: usize = again.iter().map(|row| self.takers(row).len()).sum();
        self.progress.inc_length(u64::from(self.plan.rounds) * runs as u64);
        self.attempt(1, &again)?;
        match trace::obstacle() {
            Some(obstacle) => self.notes.push(obstacle),
            None => self.count_calls()?,
        }
        Ok(())
    }

    fn attempt(&mut self, attempt: u32, rows: &[&'static Row]) -> io::Result<()> {
        for round in 0..self.plan.rounds {
            for row in rows {
                let peers = self.takers(row);
                let order = schedule::order(peers.len(), round);
                for (place, index) in order.into_iter().enumerate() {
                    let peer = peers[index];
                    let again = if attempt > 0 { ", again" } else { "" };
                    let step = format!("round {}{again}", round + 1);
                    self.announce(&step, row, peer);
                    let measured = self.measure(row, peer);
                    let (outcome, disturbers) = self.settle(measured, row, peer)?;
                    let (row, peer) = (row.id, peer.bin.clone());
                    let measurement =
                        Measurement { row, peer, attempt, round, place, outcome, disturbers };
                    self.measurements.push(measurement);
                }
            }
        }
        Ok(())
    }

    fn announce(&self, step: &str, row: &Row, peer: &Peer) {
        self.progress.set_message(format!("{step}: {}: {}", row.title, peer.name));
    }

    /// One step is done. A failure is a result as well, unless it is because we must stop.
    fn settle<T: Default>(
        &self,
        result: io::Result<(Outcome, T)>,
        row: &Row,
        peer: &Peer,
    ) -> io::Result<(Outcome, T)> {
        self.progress.inc(1);
        if self.interrupt.is_asked() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(result.unwrap_or_else(|error| {
            let failure = format!("{}: {}: {error}", row.title, peer.name);
            self.progress.suspend(|| eprintln!("race: {failure}"));
            (Outcome::Failure(error.to_string()), T::default())
        }))
    }

    fn start(&self, row: &Row, peer: &Peer) -> io::Result<Server> {
        let program = peer.program(row.shape.end()).unwrap_or_default();
        let binary = &self.artifacts.programs[program];
        let compression = row.shape.compression().map(|own| ["--compression", own.server]);
        let arguments = compression.as_ref().map_or(&[][..], |words| words);
        Server::start(binary, arguments, &self.out.join("server.log"), self.interrupt)
    }

    fn measure(
        &self,
        row: &Row,
        peer: &Peer,
    ) -> io::Result<(Outcome, Vec<crate::disturbance::Disturber>)> {
        let server = match row.shape.end() {
            End::Server | End::FanOut => Some(self.start(row, peer)?),
            End::Client => None,
        };
        let (before, began) = (Snapshot::take()?, Instant::now());
        let (warm_up, seconds) = (self.plan.warm_up, self.plan.seconds);
        let mut arguments = row.shape.arguments(warm_up, seconds);
        let figures = match &server {
            Some(server) => {
                arguments.extend(["--pid".to_owned(), server.id().to_string()]);
                self.load(peer, server, &arguments, warm_up + seconds)
                    .map_err(|error| server.with_last_words(&error.to_string()))?
            }
            None => self.answer(peer, &arguments, warm_up + seconds)?,
        };
        if let Some(compression) = row.shape.compression() {
            compression.check(&figures)?;
        }
        let (elapsed, after) = (began.elapsed(), Snapshot::take()?);
        // A client has ended with the generator that has started it.
        let mut measured = vec![std::process::id()];
        measured.extend(server.iter().map(Server::id));
        let disturbers = before.disturbers(&after, elapsed, &measured);
        Ok((Outcome::Figures(figures), disturbers))
    }

    /// The generator starts the client, for it knows its own address first.
    fn answer(
        &self,
        peer: &Peer,
        arguments: &[String],
        seconds: f64,
    ) -> io::Result<BTreeMap<String, f64>> {
        let program = peer.program(End::Client).unwrap_or_default();
        let mut command = self.generator();
        command.arg("--client").arg(&self.artifacts.programs[program]);
        command.args(["--client-pin", &SERVER_CORE.to_string()]).args(arguments);
        self.figures(&mut command, seconds)
    }

    fn generator(&self) -> Command {
        let mut command = Command::new(&self.artifacts.load);
        command.args(["--json", "--pin", &GENERATOR_CORE.to_string()]);
        command
    }

    fn figures(&self, command: &mut Command, seconds: f64) -> io::Result<BTreeMap<String, f64>> {
        let deadline = Instant::now() + Duration::from_secs_f64(seconds) + PATIENCE;
        let line = run(command, deadline, self.interrupt)?;
        serde_json::from_str(&line).map_err(io::Error::other)
    }

    fn load(
        &self,
        peer: &Peer,
        server: &Server,
        arguments: &[String],
        seconds: f64,
    ) -> io::Result<BTreeMap<String, f64>> {
        let mut command = self.generator();
        command.args(["--url", &server.address.to_string()]);
        command.args(["--protocol", peer.protocol.word()]).args(arguments);
        self.figures(&mut command, seconds)
    }

    fn count_calls(&mut self) -> io::Result<()> {
        let rows = self.rows.clone();
        for row in rows.iter().filter(|row| schedule::is_traced(row.shape)) {
            for peer in self.takers(row) {
                self.announce("system calls", row, peer);
                let counted = TRACED_SECONDS.map(|seconds| self.trace(row, peer, seconds));
                let by_name = match counted {
                    [Ok(short), Ok(long)] => trace::per_message(&short, &long)
                        .ok_or_else(|| io::Error::other("too few messages under strace")),
                    [Err(error), _] | [_, Err(error)] => Err(error),
                };
                let counted = by_name.map(|calls| (Outcome::Figures(calls), ()));
                match self.settle(counted, row, peer)?.0 {
                    Outcome::Figures(by_name) => self.calls.push(Calls {
                        row: row.id,
                        peer: peer.bin.clone(),
                        per_message: by_name.values().sum(),
                        by_name,
                    }),
                    Outcome::Failure(reason) => self.notes.push(format!(
                        "No system calls for {} in \"{}\": {reason}.",
                        peer.name, row.title
                    )),
                }
            }
        }
        Ok(())
    }

    fn trace(&self, row: &Row, peer: &Peer, seconds: f64) -> io::Result<trace::Count> {
        let server = self.start(row, peer)?;
        let count = trace::count(&server, &self.out.join("calls.txt"), || {
            // strace counts from the first message on, and so must we: no warm-up.
            let figures = self.load(peer, &server, &row.shape.arguments(0.0, seconds), seconds)?;
            let messages = figures.get(row.shape.things()).copied();
            Ok(messages.ok_or_else(|| io::Error::other("the generator counts nothing"))? as u64)
        })?;
        Ok(count)
    }
}
