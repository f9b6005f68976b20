//! The report in Markdown, aligned so that it reads as plain text too.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::measurement::{Calls, Measurement};
use crate::peers::{End, Peer};
use crate::rows::{Bar, TIE, TOGETHER};
use crate::schedule::Plan;
use crate::statistics::Quartiles;
use crate::summary::{Judged, PeerSummary, RowSummary, Verdict};

/// Everything; this is what the JSON file holds.
#[derive(Serialize)]
pub struct Report<'a> {
    /// Where and how.
    pub machine: Machine,
    /// How long and how often.
    pub plan: Plan,
    /// Who raced.
    pub peers: &'a [Peer],
    /// What came of it.
    pub rows: Vec<RowSummary>,
    /// The mean of [`TOGETHER`], if all its rows were measured.
    pub together: Option<(f64, Verdict)>,
    /// What the reader must know.
    pub notes: &'a [String],
    /// Every round.
    pub measurements: &'a [Measurement],
    /// System calls.
    pub calls: &'a [Calls],
}

const ABSENT: &str = "–";

/// All of it but the single rounds.
pub fn markdown(report: &Report<'_>) -> String {
    let mut text = String::from("# The race\n\n");
    text += &introduction(report);
    text += "\n## Who races\n\n";
    text += &peers(report.peers);
    text += "\n## Bars\n\n";
    text += &bars(report);
    for row in &report.rows {
        let _ = writeln!(text, "\n## {}\n", row.row.title);
        text += &figures(row);
        text += &remarks(row);
    }
    text
}

fn introduction(report: &Report<'_>) -> String {
    let Report { machine, plan, .. } = report;
    let mut text = format!(
        "- Machine: {}, {} cores, {}; server or client on core {}, generator on core {}.\n\
         - Build: {}; RUSTFLAGS \"{}\"; {}; commit {}.\n\
         - Rounds: {}, each with a fresh process for everybody in every row, in changing order; \
         {} s each after {} s of warm-up.\n\
         - Ratios are of costs within one round, as median [lower quartile, upper quartile] over \
         the rounds; all else are medians. A result up to {TIE} above a bar is a tie.\n",
        machine.processor,
        machine.cores,
        machine.kernel,
        crate::process::SERVER_CORE,
        crate::process::GENERATOR_CORE,
        machine.rustc,
        machine.rustflags,
        machine.profile,
        machine.commit,
        plan.rounds,
        plan.seconds,
        plan.warm_up,
    );
    for note in report.notes {
        let _ = writeln!(text, "- {note}");
    }
    text
}

fn peers(peers: &[Peer]) -> String {
    let own = |text: Option<&str>| text.unwrap_or(ABSENT).to_owned();
    let row = |peer: &Peer| {
        vec![
            peer.name.clone(),
            peer.package.clone().unwrap_or_default(),
            peer.version.clone().unwrap_or_else(|| ABSENT.to_owned()),
            peer.protocol.word().to_owned(),
            own(peer.serves.then(|| peer.flushes.word())),
            own(peer.serves.then_some(&*peer.form)),
            own(peer.client.as_ref().map(|client| client.flushes.word())),
            own(peer.client.as_ref().map(|client| &*client.form)),
        ]
    };
    let rows: Vec<Vec<String>> = peers.iter().map(row).collect();
    let header = [
        "peer",
        "package",
        "version",
        "protocol",
        "server flushes",
        "written as in",
        "client flushes",
        "written as in",
    ];
    table(&header, &rows)
}

fn bars(report: &Report<'_>) -> String {
    let mut rows: Vec<Vec<String>> = report.rows.iter().map(bar_cells).collect();
    if let Some((mean, verdict)) = report.together {
        let bar = TOGETHER.of_uwebsockets;
        let mut cells = vec![String::new(); 6];
        cells[0] = TOGETHER.title.to_owned();
        cells[1] = format!("{mean:.3} ≤ {bar:.2}: {}", verdict.word());
        cells[5] = verdict.word().to_owned();
        rows.push(cells);
    }
    let header = [
        "row",
        "corewire / uWebSockets",
        "corewire / raw epoll",
        "corewire / best Rust peer",
        "further",
        "verdict",
    ];
    table(&header, &rows)
}

fn bar_cells(row: &RowSummary) -> Vec<String> {
    let mut cells = vec![row.row.title.to_owned()];
    cells.extend((0..4).map(|_| String::new()));
    // Without a bar the ratio is worth a look, too.
    let own = row.peers.iter().find(|peer| peer.bin == crate::peers::OWN);
    if let Some(own) = own {
        cells[1] = ratio(own.of_uwebsockets);
        cells[2] = ratio(own.of_raw);
    }
    for judged in &row.judged {
        let column = match judged.bar {
            Bar::OfUwebsockets(_) => 1,
            Bar::OfRaw(_) => 2,
            Bar::OfBestRust(_) => 3,
            Bar::Cost(_) | Bar::RateOfUnbatched(_) => 4,
        };
        cells[column] = judgement(judged);
    }
    let word = row.word();
    cells.push(if row.failures.is_empty() { word.to_owned() } else { format!("{word}, failures") });
    cells
}

fn judgement(judged: &Judged) -> String {
    let Some(value) = judged.value else { return ABSENT.to_owned() };
    let against = judged.against.as_deref().unwrap_or_default();
    let (value, bar) = match judged.bar {
        Bar::OfUwebsockets(max) | Bar::OfRaw(max) => (ratio(Some(value)), format!("≤ {max:.2}")),
        Bar::OfBestRust(max) => (ratio(Some(value)), format!("≤ {max:.2} of {against}")),
        Bar::Cost(max) => (amount(Some(value.median)), format!("≤ {}", amount(Some(max)))),
        Bar::RateOfUnbatched(min) => {
            (format!("{:.1}", value.median), format!("≥ {min} × the rate of {against}"))
        }
    };
    format!("{value} {bar}: {}", judged.verdict.word())
}

fn figures(row: &RowSummary) -> String {
    let who = if row.is_of_clients() { "client" } else { "server" };
    let mut header = vec![who, "of uWebSockets", "of raw epoll", row.row.shape.cost_unit()];
    let rate = format!("{}/s", row.row.shape.things());
    header.push(&rate);
    if row.is_compressed() {
        header.extend(["payload MB/s", "B/answer"]);
    }
    header.push("busy");
    if row.has_round_trips() {
        header.extend(["p50 µs", "p99 µs", "p99.9 µs", row.row.shape.calls_unit()]);
    }
    let cells = |peer: &PeerSummary| {
        let mut cells = vec![peer.name.clone(), ratio(peer.of_uwebsockets), ratio(peer.of_raw)];
        cells.extend([amount(peer.cost), amount(peer.rate)]);
        if row.is_compressed() {
            cells.extend([amount(peer.payload_rate), amount(peer.answer_bytes)]);
        }
        let busy = peer.busy_percent.map(|percent| format!("{percent:.0} %"));
        cells.push(busy.unwrap_or_else(|| ABSENT.to_owned()));
        if row.has_round_trips() {
            cells.extend(peer.round_trips.map(amount));
            let calls = peer.calls.map(|calls| format!("{calls:.3}"));
            cells.push(calls.unwrap_or_else(|| ABSENT.to_owned()));
        }
        cells
    };
    let rows: Vec<Vec<String>> = row.peers.iter().map(cells).collect();
    table(&header, &rows)
}

/// Names in one sentence; the rest is in the JSON file.
const DISTURBERS_NAMED_MAX: usize = 5;

fn remarks(row: &RowSummary) -> String {
    let mut text = String::new();
    if !row.absent.is_empty() {
        let names = row.absent.join(", ");
        let lack = match row.row.shape.end() {
            End::Client => "have no client here",
            End::FanOut => "have no topics here",
            End::Server => "are built without compression",
        };
        let _ = writeln!(text, "\nNot in this row, for they {lack}: {names}.");
    }
    if row.attempts > 1 {
        let _ = writeln!(text, "\nMeasured twice, for the first rounds disagreed: {}.", row.word());
    }
    if !row.disturbers.is_empty() {
        let name = |disturber: &crate::summary::DisturberSummary| {
            format!(
                "{} (pid {}, up to {:.0} % of a core, in {} of {} measurements)",
                disturber.name,
                disturber.pid,
                disturber.share * 100.0,
                disturber.measurements,
                disturber.of_measurements
            )
        };
        let names: Vec<String> =
            row.disturbers.iter().take(DISTURBERS_NAMED_MAX).map(name).collect();
        let more = row.disturbers.len() - names.len();
        let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
        let _ = writeln!(text, "\nDisturbed by {}{rest}.", names.join(", "));
    }
    for failure in &row.failures {
        let _ = writeln!(text, "\nFailed: {failure}.");
    }
    text
}

/// Median and quartiles. Far from 1 nobody asks for thousandths.
fn ratio(quartiles: Option<Quartiles>) -> String {
    quartiles.map_or(ABSENT.to_owned(), |Quartiles { lower, median, upper }| {
        let digits = if median < 10.0 { 3 } else { 1 };
        format!("{median:.digits$} [{lower:.digits$}, {upper:.digits$}]")
    })
}

/// Three digits or whole, with a comma for each thousand.
fn amount(value: Option<f64>) -> String {
    let Some(value) = value else { return ABSENT.to_owned() };
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The first column to the left, the others to the right.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count(), 3]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cell = |(column, cell): (usize, &str)| match (column, widths[column]) {
            (0, width) => format!("| {cell:<width$} "),
            (_, width) => format!("| {cell:>width$} "),
        };
        cells.enumerate().map(cell).collect::<String>() + "|\n"
    };
    let rule = |(column, width): (usize, &usize)| match column {
        0 => "-".repeat(*width),
        _ => "-".repeat(width - 1) + ":",
    };
    let rules: Vec<String> = widths.iter().enumerate().map(rule).collect();
    let mut text = line(&mut header.iter().copied());
    text += &line(&mut rules.iter().map(String::as_str));
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::measurement::Outcome;
    use crate::summary::{self, tests};

    /// A made-up race of six rows, and what is drawn from it.
    pub fn with_report(check: impl FnOnce(&Report<'_>)) {
        let rows =
            ["20b-50", "20b-deep", "idle", "deflate-shared", "client-deep", "fan-out-64b-1000"]
                .map(tests::row);
        let peers = tests::peers();
        let mut measurements = tests::race(rows[0], 3, [1000.0, 1020.0, 1000.0, 1100.0, 1050.0]);
        measurements.extend(tests::race(rows[1], 3, [330.0, 340.0, 350.0, 5000.0, 500.0]));
        measurements.extend(tests::race(rows[2], 3, [40.0, 190.0, 257.0, 7000.0, 9000.0]));
        measurements.extend(tests::race(rows[3], 3, [0.0, 9000.0, 10_000.0, 0.0, 0.0]));
        measurements.extend(tests::race(rows[4], 3, [250.0, 300.0, 0.0, 3600.0, 310.0]));
        measurements.extend(tests::race(rows[5], 3, [4500.0, 4850.0, 5000.0, 0.0, 6500.0]));
        measurements[4].outcome = Outcome::Failure("it fell over".to_owned());
        let calls = [Calls {
            row: rows[0].id,
            peer: "corewire".to_owned(),
            per_message: 2.05,
            by_name: Default::default(),
        }];
        let summaries = summary::rows(&rows, &peers, &measurements, &calls);
        check(&Report {
            machine: Machine {
                kernel: "Linux 6.1".to_owned(),
                processor: "A processor".to_owned(),
                cores: 2,
                rustc: "rustc 1.88".to_owned(),
                rustflags: "-C target-cpu=native".to_owned(),
                profile: "lto = \"fat\"".to_owned(),
                commit: "abc".to_owned(),
            },
            plan: Plan { rounds: 3, seconds: 2.0, warm_up: 0.5 },
            peers: &peers,
            together: summary::together(&summaries),
            rows: summaries,
            notes: &["A note.".to_owned()],
            measurements: &measurements,
            calls: &calls,
        });
    }

    #[test]
    fn the_report_says_what_was_measured_and_what_follows() {
        with_report(|report| {
            let text = markdown(report);
            let line = |start: &str| {
                let found = text.lines().find(|line| line.starts_with(start));
                found.unwrap_or_else(|| panic!("{start}\n{text}")).to_owned()
            };
            assert!(line("- Machine").contains("A processor, 2 cores, Linux 6.1"));
            assert!(line("- Build").contains("\"-C target-cpu=native\""));
            line("- A note.");
            let bars = line("| 20 B binary, 50 connections ");
            assert!(bars.contains("1.020 [1.020, 1.020] ≤ 1.03: met"), "{bars}");
            assert!(bars.ends_with("met, failures |"), "{bars}");
            let deep = line("| 20 B binary, 200 connections, 16 in flight");
            assert!(deep.contains("14.7 ≥ 12 × the rate of slow: met"), "{deep}");
            let idle = line("| Memory of an idle connection, of 10,000 ");
            assert!(idle.contains("≤ 180: missed") && idle.ends_with(" missed |"), "{idle}");
            let own = line("| corewire    | 1.020 [");
            assert!(own.contains(" 1,224 ") && own.contains(" 2.050 "), "{own}");
            line("Failed: batched: it fell over.");
            let compressed = line("| 1 KiB JSON, shared compressor, 50 connections");
            assert!(compressed.contains("0.900 [0.900, 0.900] ≤ 1.05: met |"), "{compressed}");
            line(
                "| server      |       of uWebSockets | of raw epoll | CPU ns/message | messages/s | payload MB/s | B/answer |",
            );
            line(
                "Not in this row, for they are built without compression: raw epoll, slow, batched.",
            );
            let publishing = line("| 64 B to 1,000 subscribers");
            assert!(publishing.contains(" 0.970 [0.970, 0.970] ≤ 0.98: met"), "{publishing}");
            assert!(publishing.contains(" 1.078 [1.078, 1.078] ≤ 1.10: met"), "{publishing}");
            assert!(text.contains("CPU ns/delivery | deliveries/s |"), "{text}");
            line("Not in this row, for they have no topics here: slow.");
            let client = line("| Client, 20 B, 200 connections, 16 in flight");
            assert!(client.contains(" 1.200 [1.200, 1.200] "), "{client}");
            assert!(client.contains("≤ 1.00 of batched: met"), "{client}");
            assert!(client.contains("12.0 ≥ 10 × the rate of slow: met"), "{client}");
            line("| client    | of uWebSockets |");
            line("Not in this row, for they have no client here: uWebSockets.");
        });
    }

    #[test]
    fn json_holds_every_round() {
        with_report(|report| {
            let json = serde_json::to_value(report).expect("it can be written");
            assert_eq!(json["measurements"].as_array().map(Vec::len), Some(75));
            let first = &json["measurements"][0];
            assert_eq!(first["outcome"]["figures"]["server_cpu_ns_per_message"], 1000.0);
            assert_eq!(json["measurements"][4]["outcome"]["failure"], "it fell over");
            assert_eq!(json["rows"][0]["judged"][0]["verdict"], "Met");
            assert_eq!(json["machine"]["kernel"], "Linux 6.1");
        });
    }

    #[test]
    fn lines_of_a_table_are_equally_long() {
        let rows = [vec!["a".to_owned(), "–".to_owned()], vec!["bcdef".to_owned(), "1".to_owned()]];
        let text = table(&["x", "µs"], &rows);
        assert_eq!(text, "| x     |  µs |\n| ----- | --: |\n| a     |   – |\n| bcdef |   1 |\n");
    }

    #[test]
    fn ratios_far_from_one_have_fewer_digits() {
        let ratio = |median| ratio(Some(Quartiles { lower: 0.98, median, upper: 12.25 }));
        assert_eq!(ratio(1.0), "1.000 [0.980, 12.250]");
        assert_eq!(ratio(12.0), "12.0 [1.0, 12.2]");
    }

    #[test]
    fn amounts_have_a_comma_for_each_thousand() {
        let amount = |value| amount(Some(value));
        assert_eq!(amount(12.34), "12.3");
        assert_eq!(amount(999.4), "999");
        assert_eq!(amount(1_234_567.0), "1,234,567");
        assert_eq!(amount(-1_234.0), "-1,234");
    }
}
