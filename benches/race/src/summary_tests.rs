//! A made-up race, through to its verdicts; the report is drawn from it as well.

use super::*;
use crate::disturbance::Disturber;
use crate::peers::{Client, FanOut, Protocol};
use crate::rows::ROWS;

/// A server of a made-up race.
pub fn peer(name: &str, bin: &str, protocol: Protocol, flushes: Flushes) -> Peer {
    Peer {
        name: name.to_owned(),
        bin: bin.to_owned(),
        features: Vec::new(),
        package: None,
        version: Some("1.2.3".to_owned()),
        form: "https://example.org/echo".to_owned(),
        protocol,
        flushes,
        compresses: [OWN, UWEBSOCKETS].contains(&bin),
        serves: true,
        client: (bin != UWEBSOCKETS).then(|| Client {
            bin: format!("client-{bin}"),
            form: "https://example.org/client".to_owned(),
            flushes,
        }),
        fan_out: (bin != "slow")
            .then(|| FanOut { bin: format!("fan-out-{bin}"), form: String::new() }),
    }
}

/// Those that bars name, and two rivals.
pub fn peers() -> Vec<Peer> {
    vec![
        peer("raw epoll", RAW, Protocol::Raw, Flushes::PerRead),
        peer("corewire", OWN, Protocol::Websocket, Flushes::PerRead),
        peer("uWebSockets", UWEBSOCKETS, Protocol::Websocket, Flushes::PerRead),
        peer("slow", "slow", Protocol::Websocket, Flushes::PerMessage),
        peer("batched", "batched", Protocol::Websocket, Flushes::PerRead),
    ]
}

/// A row by its id.
pub fn row(id: &str) -> &'static Row {
    ROWS.iter().find(|row| row.id == id).expect("a row of this id")
}

/// Rounds in which everybody gets slower, each by the same factor; costs in the order of [`peers`],
/// also of those who do not race in this row.
pub fn race(row: &'static Row, rounds: u32, costs: [f64; 5]) -> Vec<Measurement> {
    let mut measurements = Vec::new();
    for round in 0..rounds {
        let drift = 1.0 + f64::from(round) * 0.2;
        let peers = peers();
        let takers = peers.iter().zip(costs).filter(|(peer, _)| row.takes(peer));
        for (place, (peer, cost)) in takers.enumerate() {
            let cost = cost * drift;
            let figures = BTreeMap::from([
                (row.shape.cost_field().to_owned(), cost),
                (row.shape.rate_field().to_owned(), 1e9 / cost),
                (row.shape.busy_field().to_owned(), 99.5),
                ("round_trip_p50_us".to_owned(), 10.0),
                ("round_trip_p99_us".to_owned(), 20.0),
                ("round_trip_p999_us".to_owned(), 30.0),
                ("payload_megabytes_per_second".to_owned(), 1024e3 / cost),
                ("answer_bytes_per_message".to_owned(), 433.5),
            ]);
            measurements.push(Measurement {
                row: row.id,
                peer: peer.bin.clone(),
                attempt: 0,
                round,
                place,
                outcome: Outcome::Figures(figures),
                disturbers: Vec::new(),
            });
        }
    }
    measurements
}

fn summarise(row: &'static Row, measurements: &[Measurement]) -> RowSummary {
    rows(&[row], &peers(), measurements, &[]).remove(0)
}

fn verdicts(summary: &RowSummary) -> Vec<Verdict> {
    summary.judged.iter().map(|judged| judged.verdict).collect()
}

#[test]
fn ratios_are_taken_within_rounds_so_a_drift_falls_out() {
    let measurements = race(row("20b-50"), 9, [1000.0, 1020.0, 1000.0, 1100.0, 1050.0]);
    let summary = summarise(row("20b-50"), &measurements);
    let own = &summary.peers[1];
    let ratio = own.of_uwebsockets.expect("both ran");
    assert!((ratio.median - 1.02).abs() < 1e-9 && ratio.spread() < 1e-9);
    // The middle of the nine rounds is the fifth.
    assert!((own.cost.expect("it ran") - 1020.0 * 1.8).abs() < 1e-6);
    assert_eq!(own.round_trips, [Some(10.0), Some(20.0), Some(30.0)]);
    assert_eq!(summary.conclusion, Conclusion::Conclusive);
    assert_eq!(verdicts(&summary), [Verdict::Met; 3]);
    assert_eq!(summary.judged[2].against.as_deref(), Some("batched"));
    assert_eq!(summary.word(), "met");
}

#[test]
fn just_above_a_bar_is_a_tie_and_more_is_a_miss() {
    let judge = |own| {
        let measurements = race(row("20b-50"), 3, [1000.0, own, 1000.0, 2000.0, 2000.0]);
        summarise(row("20b-50"), &measurements)
    };
    assert_eq!(verdicts(&judge(1029.0)), [Verdict::Met; 3]);
    assert_eq!(verdicts(&judge(1050.0)), [Verdict::Tie, Verdict::Met, Verdict::Met]);
    assert_eq!(verdicts(&judge(1080.0)), [Verdict::Missed, Verdict::Tie, Verdict::Met]);
    assert_eq!(judge(1050.0).word(), "tie");
    assert_eq!(judge(1080.0).word(), "missed");
}

#[test]
fn a_rate_is_held_against_those_who_flush_per_message_only() {
    let judge = |slow| {
        let measurements = race(row("20b-deep"), 3, [330.0, 340.0, 350.0, slow, 341.0]);
        summarise(row("20b-deep"), &measurements)
    };
    let summary = judge(340.0 * 13.0);
    assert_eq!(verdicts(&summary), [Verdict::Met; 4]);
    assert_eq!(summary.judged[2].against.as_deref(), Some("slow"));
    assert_eq!(summary.judged[3].against.as_deref(), Some("batched"));
    assert_eq!(judge(340.0 * 11.8).judged[2].verdict, Verdict::Tie);
    assert_eq!(judge(340.0 * 11.0).judged[2].verdict, Verdict::Missed);
}

#[test]
fn memory_is_held_against_a_number_as_well() {
    let judge = |own| {
        let measurements = race(row("idle"), 1, [40.0, own, 257.0, 7000.0, 9000.0]);
        verdicts(&summarise(row("idle"), &measurements))
    };
    assert_eq!(judge(179.0), [Verdict::Met; 3]);
    assert_eq!(judge(185.0), [Verdict::Tie, Verdict::Tie, Verdict::Met]);
    assert_eq!(judge(190.0), [Verdict::Missed, Verdict::Missed, Verdict::Met]);
}

#[test]
fn rounds_that_disagree_are_inconclusive_until_a_second_attempt_agrees() {
    let mut measurements = race(row("512b"), 4, [1000.0, 1000.0, 1000.0, 1100.0, 1100.0]);
    for measurement in &mut measurements {
        if let Outcome::Figures(figures) = &mut measurement.outcome
            && measurement.peer == RAW
            && measurement.round >= 2
        {
            figures.insert("server_cpu_ns_per_message".to_owned(), 900.0);
        }
    }
    assert_eq!(conclusion(row("512b"), &measurements), Conclusion::Inconclusive);
    assert_eq!(summarise(row("512b"), &measurements).word(), "inconclusive");
    let again = race(row("512b"), 4, [1000.0, 1000.0, 1000.0, 1100.0, 1100.0]);
    measurements.extend(again.into_iter().map(|own| Measurement { attempt: 1, ..own }));
    let summary = summarise(row("512b"), &measurements);
    assert_eq!((summary.word(), summary.attempts), ("met", 2));
}

#[test]
fn who_did_not_race_is_no_bar() {
    let mut measurements = race(row("512b"), 2, [1000.0, 1000.0, 1000.0, 1100.0, 1100.0]);
    measurements.retain(|measurement| measurement.peer == OWN || measurement.peer == RAW);
    let summary = summarise(row("512b"), &measurements);
    assert_eq!(verdicts(&summary), [Verdict::Unmeasured, Verdict::Met, Verdict::Unmeasured]);
    assert_eq!(summary.word(), "met");
    assert!(rows(&[row("1kib")], &peers(), &measurements, &[]).is_empty());
}

#[test]
fn who_does_not_compress_is_absent_and_no_failure() {
    let row = row("deflate-shared");
    let summary = summarise(row, &race(row, 3, [0.0, 9000.0, 10_000.0, 0.0, 0.0]));
    let names: Vec<&str> = summary.peers.iter().map(|peer| &*peer.bin).collect();
    assert_eq!(names, [OWN, UWEBSOCKETS]);
    assert_eq!(summary.absent, ["raw epoll", "slow", "batched"]);
    assert!(summary.failures.is_empty());
    assert_eq!(verdicts(&summary), [Verdict::Met, Verdict::Unmeasured]);
    assert_eq!(summary.word(), "met");
    assert_eq!(summary.peers[0].answer_bytes, Some(433.5));
    assert!(summary.peers[0].payload_rate > summary.peers[1].payload_rate);
}

#[test]
fn clients_are_judged_by_their_own_figures() {
    let row = row("client-deep");
    let summary = summarise(row, &race(row, 3, [250.0, 300.0, 0.0, 2900.0, 310.0]));
    let names: Vec<&str> = summary.peers.iter().map(|peer| &*peer.bin).collect();
    assert_eq!(names, [RAW, OWN, "slow", "batched"]);
    assert_eq!(summary.absent, ["uWebSockets"]);
    assert_eq!(verdicts(&summary), [Verdict::Missed, Verdict::Met]);
    assert_eq!(summary.judged[1].against.as_deref(), Some("batched"));
    let own = &summary.peers[1];
    assert_eq!((own.of_base(row.shape), own.of_uwebsockets), (own.of_raw, None));
    assert_eq!(own.busy_percent, Some(99.5));
}

#[test]
fn who_is_a_client_alone_is_in_no_row_of_servers() {
    let mut all = peers();
    all[3].serves = false;
    let takers = |id| all.iter().filter(|peer| row(id).takes(peer)).count();
    assert_eq!((takers("20b-50"), takers("client-50"), takers("deflate-shared")), (4, 4, 2));
}

#[test]
fn a_failure_is_named_once_and_its_round_is_left_out() {
    let mut measurements = race(row("512b"), 3, [1000.0, 1000.0, 1000.0, 1100.0, 1100.0]);
    for own in measurements.iter_mut().filter(|own| own.peer == UWEBSOCKETS && own.round > 0) {
        own.outcome = Outcome::Failure("it fell over".to_owned());
    }
    let summary = summarise(row("512b"), &measurements);
    assert_eq!(summary.failures, ["uWebSockets: it fell over"]);
    assert_eq!(summary.peers[1].of_uwebsockets.map(|ratio| ratio.median), Some(1.0));
}

#[test]
fn disturbers_are_counted_by_name_with_their_largest_share() {
    let mut measurements = race(row("512b"), 2, [1000.0; 5]);
    let disturber = |pid, share| Disturber { pid, name: "rustc".to_owned(), share };
    measurements[0].disturbers = vec![disturber(7, 0.3), disturber(8, 0.1)];
    measurements[4].disturbers = vec![disturber(9, 0.9)];
    let summary = summarise(row("512b"), &measurements);
    let expected = DisturberSummary {
        name: "rustc".to_owned(),
        pid: 9,
        share: 0.9,
        measurements: 2,
        of_measurements: 10,
    };
    assert_eq!(summary.disturbers, [expected]);
}

#[test]
fn rows_together_have_a_bar_only_if_all_were_measured() {
    let all: Vec<&'static Row> = TOGETHER.rows.iter().map(|id| row(id)).collect();
    let measurements: Vec<Measurement> = (all.iter().zip([0.98, 1.02, 1.02, 1.02, 0.95]))
        .flat_map(|(row, ratio)| race(row, 3, [1000.0, 1000.0 * ratio, 1000.0, 2000.0, 2000.0]))
        .collect();
    let summaries = rows(&all, &peers(), &measurements, &[]);
    let (mean, verdict) = together(&summaries).expect("all rows");
    assert!((mean - 0.9976).abs() < 1e-3);
    assert_eq!(verdict, Verdict::Met);
    assert_eq!(together(&summaries[1..]), None);
}
