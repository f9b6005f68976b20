//! From measurements to ratios and verdicts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::measurement::{Calls, Measurement, Outcome};
use crate::peers::{End, Flushes, OWN, Peer, RAW, UWEBSOCKETS};
use crate::rows::{Bar, Row, Shape, TIE, TOGETHER};
use crate::statistics::{Quartiles, geometric_mean};

/// A row in which corewire's ratios to uWebSockets or to raw epoll spread by more is measured
/// again, and then inconclusive.
const SPREAD_MAX: f64 = 0.10;

/// One row, over its rounds.
#[derive(Debug, Serialize)]
pub struct RowSummary {
    /// What was measured.
    pub row: &'static Row,
    /// How often all its rounds were measured; the last time counts.
    pub attempts: u32,
    /// Whether the rounds agree.
    pub conclusion: Conclusion,
    /// In the order of the list.
    pub peers: Vec<PeerSummary>,
    /// Names of servers that race, but not in this row.
    pub absent: Vec<String>,
    /// Corewire's bars.
    pub judged: Vec<Judged>,
    /// Who else used the machine, most first.
    pub disturbers: Vec<DisturberSummary>,
    /// What did not run, each once.
    pub failures: Vec<String>,
}

/// Whether a row says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Conclusion {
    /// The rounds agree.
    Conclusive,
    /// They spread too much.
    Inconclusive,
}

/// One server in one row; medians where nothing else is said.
#[derive(Debug, Serialize)]
pub struct PeerSummary {
    /// Its name in the report.
    pub name: String,
    /// Its binary.
    pub bin: String,
    /// Cost against uWebSockets' in the same round.
    pub of_uwebsockets: Option<Quartiles>,
    /// Cost against raw epoll's in the same round.
    pub of_raw: Option<Quartiles>,
    /// In the row's unit.
    pub cost: Option<f64>,
    /// Messages or handshakes a second.
    pub rate: Option<f64>,
    /// Percent of its core; far below 100 the generator was the bottleneck of the rate.
    pub busy_percent: Option<f64>,
    /// Round trips at p50, p99 and p99.9, in microseconds.
    pub round_trips: [Option<f64>; 3],
    /// System calls for each message.
    pub calls: Option<f64>,
    /// Megabytes of payload a second in each direction, where payloads are compressed.
    pub payload_rate: Option<f64>,
    /// Bytes of an answer on the wire with its header, where payloads are compressed.
    pub answer_bytes: Option<f64>,
}

/// What a bar says about corewire.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// The bound.
    pub bar: Bar,
    /// Who set it, if a peer did.
    pub against: Option<String>,
    /// What is compared with the bound.
    pub value: Option<Quartiles>,
    /// What follows.
    pub verdict: Verdict,
}

/// In the order from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// Whom it names did not race.
    Unmeasured,
    /// At or below the bar.
    Met,
    /// Above, but by no more than the machine can tell.
    Tie,
    /// Above.
    Missed,
}

/// One name of a process that disturbed a row.
#[derive(Debug, PartialEq, Serialize)]
pub struct DisturberSummary {
    /// Its name in /proc.
    pub name: String,
    /// The process with the largest share.
    pub pid: u32,
    /// The largest share of one core.
    pub share: f64,
    /// Measurements of the row in which it was among the disturbers.
    pub measurements: usize,
    /// All measurements of the row.
    pub of_measurements: usize,
}

impl Verdict {
    fn of(value: f64, bar: f64) -> Verdict {
        if value <= bar {
            Verdict::Met
        } else if value <= bar + TIE {
            Verdict::Tie
        } else {
            Verdict::Missed
        }
    }

    /// As the report says it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Unmeasured => "not measured",
            Verdict::Met => "met",
            Verdict::Tie => "tie",
            Verdict::Missed => "missed",
        }
    }
}

/// The last attempt at one row.
struct Run<'a> {
    row: &'static Row,
    measurements: Vec<&'a Measurement>,
}

impl<'a> Run<'a> {
    fn last(row: &'static Row, all: &'a [Measurement]) -> Option<Run<'a>> {
        let own = || all.iter().filter(|measurement| measurement.row == row.id);
        let attempt = own().map(|measurement| measurement.attempt).max()?;
        let measurements = own().filter(|measurement| measurement.attempt == attempt).collect();
        Some(Run { row, measurements })
    }

    /// One figure of one peer by round.
    fn figures(&self, bin: &str, field: &str) -> BTreeMap<u32, f64> {
        let own = self.measurements.iter().filter(|measurement| measurement.peer == bin);
        own.filter_map(|own| Some((own.round, own.figure(field)?))).collect()
    }

    fn median(&self, bin: &str, field: &str) -> Option<f64> {
        let values: Vec<f64> = self.figures(bin, field).into_values().collect();
        Quartiles::of(&values).map(|quartiles| quartiles.median)
    }

    /// Of one peer's figure to another's in the same round.
    fn ratios(&self, bin: &str, base: &str, field: &str) -> Option<Quartiles> {
        let base = self.figures(base, field);
        let own = self.figures(bin, field).into_iter();
        let ratios: Vec<f64> =
            own.filter_map(|(round, value)| Some(value / base.get(&round)?)).collect();
        Quartiles::of(&ratios)
    }

    fn costs(&self, bin: &str, base: &str) -> Option<Quartiles> {
        self.ratios(bin, base, self.row.shape.cost_field())
    }

    fn conclusion(&self) -> Conclusion {
        let spreads = [UWEBSOCKETS, RAW].map(|base| self.costs(OWN, base));
        let is_wide = |ratios: &Quartiles| ratios.spread().abs() > SPREAD_MAX;
        if spreads.iter().flatten().any(is_wide) {
            Conclusion::Inconclusive
        } else {
            Conclusion::Conclusive
        }
    }

    fn judge(&self, bar: Bar, peers: &[Peer]) -> Judged {
        let (against, value) = match bar {
            Bar::OfUwebsockets(_) => (None, self.costs(OWN, UWEBSOCKETS)),
            Bar::OfRaw(_) => (None, self.costs(OWN, RAW)),
            Bar::OfBestRust(_) => {
                // The best peer is the one against which we look worst.
                let rivals = peers.iter().filter(|peer| peer.is_rust_rival());
                most(rivals, |peer| self.costs(OWN, &peer.bin), |ratio| ratio)
            }
            Bar::Cost(_) => {
                let costs = self.figures(OWN, self.row.shape.cost_field());
                (None, Quartiles::of(&costs.into_values().collect::<Vec<_>>()))
            }
            Bar::RateOfUnbatched(_) => {
                let end = self.row.shape.end();
                let is_unbatched =
                    |peer: &&Peer| peer.is_rust_rival() && peer.flushes(end) == Flushes::PerMessage;
                let rivals = peers.iter().filter(is_unbatched);
                let field = self.row.shape.rate_field();
                most(rivals, |peer| self.ratios(OWN, &peer.bin, field), |ratio| -ratio)
            }
        };
        let verdict = value.map_or(Verdict::Unmeasured, |value| match bar {
            Bar::OfUwebsockets(max) | Bar::OfRaw(max) | Bar::OfBestRust(max) => {
                Verdict::of(value.median, max)
            }
            Bar::Cost(max) => Verdict::of(value.median / max, 1.0),
            Bar::RateOfUnbatched(min) => Verdict::of(min / value.median, 1.0),
        });
        Judged { bar, against, value, verdict }
    }

    fn peer(&self, peer: &Peer, calls: &[Calls]) -> PeerSummary {
        let calls = calls.iter().find(|calls| calls.row == self.row.id && calls.peer == peer.bin);
        let median = |field| self.median(&peer.bin, field);
        PeerSummary {
            name: peer.name.clone(),
            bin: peer.bin.clone(),
            of_uwebsockets: self.costs(&peer.bin, UWEBSOCKETS),
            of_raw: self.costs(&peer.bin, RAW),
            cost: median(self.row.shape.cost_field()),
            rate: median(self.row.shape.rate_field()),
            busy_percent: median(self.row.shape.busy_field()),
            round_trips: ["round_trip_p50_us", "round_trip_p99_us", "round_trip_p999_us"]
                .map(median),
            calls: calls.map(|calls| calls.per_message),
            payload_rate: median("payload_megabytes_per_second"),
            answer_bytes: median("answer_bytes_per_message"),
        }
    }

    fn disturbers(&self) -> Vec<DisturberSummary> {
        let mut by_name: BTreeMap<&str, DisturberSummary> = BTreeMap::new();
        for measurement in &self.measurements {
            let mut names = Vec::new();
            for disturber in &measurement.disturbers {
                let summary = by_name.entry(&disturber.name).or_insert(DisturberSummary {
                    name: disturber.name.clone(),
                    pid: disturber.pid,
                    share: 0.0,
                    measurements: 0,
                    of_measurements: self.measurements.len(),
                });
                if disturber.share > summary.share {
                    (summary.pid, summary.share) = (disturber.pid, disturber.share);
                }
                if !names.contains(&&disturber.name) {
                    names.push(&disturber.name);
                    summary.measurements += 1;
                }
            }
        }
        let mut disturbers: Vec<DisturberSummary> = by_name.into_values().collect();
        disturbers.sort_by(|a, b| b.share.total_cmp(&a.share));
        disturbers
    }

    fn failures(&self, peers: &[Peer]) -> Vec<String> {
        let mut failures = Vec::new();
        for measurement in &self.measurements {
            let Outcome::Failure(reason) = &measurement.outcome else { continue };
            let peer = peers.iter().find(|peer| peer.bin == measurement.peer);
            let failure = format!("{}: {reason}", peer.map_or(&*measurement.peer, |p| &p.name));
            if !failures.contains(&failure) {
                failures.push(failure);
            }
        }
        failures
    }
}

/// The rival with the largest `key` of its median.
fn most<'a>(
    rivals: impl Iterator<Item = &'a Peer>,
    ratios: impl Fn(&Peer) -> Option<Quartiles>,
    key: impl Fn(f64) -> f64,
) -> (Option<String>, Option<Quartiles>) {
    rivals
        .filter_map(|peer| Some((peer.name.clone(), ratios(peer)?)))
        .max_by(|(_, a), (_, b)| key(a.median).total_cmp(&key(b.median)))
        .map_or((None, None), |(name, ratios)| (Some(name), Some(ratios)))
}

/// Whether the rounds of a row agree so far.
pub fn conclusion(row: &'static Row, measurements: &[Measurement]) -> Conclusion {
    Run::last(row, measurements).map_or(Conclusion::Conclusive, |run| run.conclusion())
}

/// All rows of which anything was measured.
pub fn rows(
    rows: &[&'static Row],
    peers: &[Peer],
    measurements: &[Measurement],
    calls: &[Calls],
) -> Vec<RowSummary> {
    let summary = |row: &&'static Row| {
        let run = Run::last(row, measurements)?;
        let (takers, absent): (Vec<&Peer>, Vec<&Peer>) =
            peers.iter().partition(|peer| row.takes(peer));
        Some(RowSummary {
            row,
            attempts: 1 + run.measurements.first()?.attempt,
            conclusion: run.conclusion(),
            peers: takers.iter().map(|peer| run.peer(peer, calls)).collect(),
            absent: absent
                .into_iter()
                .filter(|peer| peer.serves)
                .map(|peer| peer.name.clone())
                .collect(),
            judged: row.all_bars().map(|bar| run.judge(bar, peers)).collect(),
            disturbers: run.disturbers(),
            failures: run.failures(peers),
        })
    };
    rows.iter().filter_map(summary).collect()
}

/// The geometric mean of [`TOGETHER`] and what it says, if all its rows were measured.
pub fn together(rows: &[RowSummary]) -> Option<(f64, Verdict)> {
    let ratio = |id: &&str| {
        let summary = rows.iter().find(|summary| summary.row.id == *id)?;
        let own = summary.peers.iter().find(|peer| peer.bin == OWN)?;
        Some(own.of_uwebsockets?.median)
    };
    let ratios: Option<Vec<f64>> = TOGETHER.rows.iter().map(ratio).collect();
    let mean = geometric_mean(&ratios?)?;
    Some((mean, Verdict::of(mean, TOGETHER.of_uwebsockets)))
}

impl PeerSummary {
    /// Cost against whom a picture compares with: uWebSockets has no client.
    pub fn of_base(&self, shape: Shape) -> Option<Quartiles> {
        match shape.end() {
            End::Server | End::FanOut => self.of_uwebsockets,
            End::Client => self.of_raw,
        }
    }
}

impl RowSummary {
    /// One word for the row: the worst of its bars, unless its rounds disagree.
    pub fn word(&self) -> &'static str {
        let worst = self.judged.iter().map(|judged| judged.verdict).max();
        match (self.conclusion, worst.unwrap_or(Verdict::Unmeasured)) {
            (Conclusion::Conclusive, verdict) => verdict.word(),
            (Conclusion::Inconclusive, _) => "inconclusive",
        }
    }

    /// Whether payloads are compressed.
    pub fn is_compressed(&self) -> bool {
        self.row.shape.compression().is_some()
    }

    /// Whether there are round trips and system calls.
    pub fn has_round_trips(&self) -> bool {
        matches!(self.row.shape, Shape::Echo { .. } | Shape::FanOut { .. })
    }

    /// Whether clients are measured, and not servers.
    pub fn is_of_clients(&self) -> bool {
        self.row.shape.end() == End::Client
    }
}

#[cfg(test)]
#[path = "summary_tests.rs"]
pub mod tests;
