//! The outcome for people and for programs.

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use serde_json::{Value, json};

use super::outcome::{Loaded, Opened, Outcome};
use super::plan::{ConnectOnly, Plan, Work};
use super::plot;
use crate::units::{display_bytes, display_ns};

/// What is told of each histogram, by its name in text and in JSON.
const QUANTILES: [(&str, &str, f64); 5] = [
    ("p50", "p50", 0.5),
    ("p90", "p90", 0.9),
    ("p99", "p99", 0.99),
    ("p99.9", "p99_9", 0.999),
    ("max", "max", 1.0),
];

/// A report of 80 columns.
pub fn text(plan: &Plan, outcome: &Outcome) -> String {
    let mut lines = vec![title(plan)];
    if outcome.is_interrupted {
        lines.push("interrupted: what follows is what there was until then".into());
    }
    lines.push(String::new());
    match &outcome.loaded {
        Some(loaded) => {
            lines.extend(messages(plan, loaded));
            lines.extend(opened(&outcome.opened, outcome.opened.server_memory().as_deref()));
            lines.extend(server(loaded));
            lines.push(generator(loaded));
            lines.push(String::new());
            lines.push(plot::bars(&loaded.latencies));
        }
        None => {
            lines.extend(opened(&outcome.opened, outcome.opened.server_memory().as_deref()));
            lines.push(String::new());
            lines.push(plot::bars(&outcome.opened.latencies));
        }
    }
    lines.join("\n").trim_end().to_owned() + "\n"
}

fn title(plan: &Plan) -> String {
    let connections = count(plan.connections as u64);
    let size = display_bytes(plan.payload.bytes.len() as u64);
    let opcode = format!("{:?}", plan.payload.opcode()).to_lowercase();
    let work = match plan.work {
        Work::InFlight(in_flight) => format!("{in_flight} in flight, {size} {opcode}"),
        Work::Rate(rate) => format!("{}/s, {size} {opcode}", count(rate)),
        Work::ConnectOnly(ConnectOnly::Hold) => "opened and held".into(),
        Work::ConnectOnly(ConnectOnly::Repeat) => "opened and closed again and again".into(),
    };
    format!("{}: {connections} connections, {work}", plan.url)
}

fn line(name: &str, text: &str) -> String {
    format!("{name:<12} {text}")
}

fn messages(plan: &Plan, loaded: &Loaded) -> Vec<String> {
    let per_second = loaded.per_second();
    let volume = display_bytes((per_second * plan.payload.bytes.len() as f64) as u64);
    let mut lines = vec![
        line(
            "messages",
            &format!(
                "{}/s and {volume}/s each way ({} in {:.2} s)",
                count(per_second.round() as u64),
                count(loaded.answers),
                loaded.elapsed.as_secs_f64()
            ),
        ),
        line("latency", &quantiles(&loaded.latencies)),
    ];
    if loaded.unanswered > 0 {
        let text = format!(
            "{} messages, although they were waited for: the server did not keep up",
            count(loaded.unanswered)
        );
        lines.push(line("unanswered", &text));
    }
    lines
}

fn opened(opened: &Opened, memory: Option<&str>) -> Vec<String> {
    let mut lines = vec![
        line(
            "handshakes",
            &format!(
                "{}/s ({} in {})",
                count(opened.per_second().round() as u64),
                count(opened.latencies.len()),
                display_ns(opened.elapsed.as_nanos() as u64)
            ),
        ),
        line("", &quantiles(&opened.latencies)),
    ];
    lines.extend(memory.map(|memory| line("", memory)));
    lines
}

impl Opened {
    /// What a handshake and a connection take of the server.
    fn server_memory(&self) -> Option<String> {
        let (cpu_ns, bytes) = (self.server_cpu_ns()?, self.rss_bytes_per_connection()?);
        let cpu = display_ns(cpu_ns as u64);
        Some(format!("server: {cpu} of CPU and {bytes:.0} bytes of memory each"))
    }
}

fn server(loaded: &Loaded) -> Option<String> {
    let usage = loaded.usage?;
    let cpu = display_ns(loaded.server_cpu_ns()? as u64);
    let text = format!(
        "{cpu} of CPU a message, {} of a core, busiest thread {}",
        percent(usage.cpu_share()),
        percent(usage.busiest_thread_share)
    );
    Some(line("server", &text))
}

fn generator(loaded: &Loaded) -> String {
    let text = format!(
        "busy {} of the time, {} of a core, {} of its polls were empty",
        percent(loaded.busy_share),
        percent(loaded.cpu_share),
        percent(loaded.empty_polls_share)
    );
    line("generator", &text)
}

fn quantiles(latencies: &Histogram<u64>) -> String {
    if latencies.is_empty() {
        return "nothing was measured".into();
    }
    let quantile = |(name, _, quantile): &(&str, &str, f64)| {
        format!("{name} {}", display_ns(latencies.value_at_quantile(*quantile)))
    };
    QUANTILES.iter().map(quantile).collect::<Vec<_>>().join("  ")
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// One JSON object on one line. What does not apply is null.
pub fn json(plan: &Plan, outcome: &Outcome) -> String {
    let (in_flight, rate) = match plan.work {
        Work::InFlight(in_flight) => (Some(in_flight), None),
        Work::Rate(rate) => (None, Some(rate)),
        Work::ConnectOnly(_) => (None, None),
    };
    let has_messages = !matches!(plan.work, Work::ConnectOnly(_));
    let opcode = format!("{:?}", plan.payload.opcode()).to_lowercase();
    let object = json!({
        "url": plan.url,
        "connections": plan.connections,
        "threads": plan.threads,
        "in_flight": in_flight,
        "rate_per_second": rate,
        "payload_bytes": has_messages.then_some(plan.payload.bytes.len()),
        "opcode": has_messages.then_some(opcode),
        "is_interrupted": outcome.is_interrupted,
        "handshakes": opened_json(&outcome.opened),
        "messages": outcome.loaded.as_ref().map(loaded_json),
        "bottleneck": outcome.bottleneck(),
    });
    format!("{object}\n")
}

fn opened_json(opened: &Opened) -> Value {
    json!({
        "count": opened.latencies.len(),
        "seconds": opened.elapsed.as_secs_f64(),
        "per_second": opened.per_second(),
        "latency_ns": latency_json(&opened.latencies),
        "server_cpu_ns_each": opened.server_cpu_ns(),
        "server_rss_bytes_before": opened.rss_bytes.map(|(before, _)| before),
        "server_rss_bytes_after": opened.rss_bytes.map(|(_, after)| after),
        "server_rss_bytes_each": opened.rss_bytes_per_connection(),
    })
}

fn loaded_json(loaded: &Loaded) -> Value {
    json!({
        "count": loaded.answers,
        "seconds": loaded.elapsed.as_secs_f64(),
        "per_second": loaded.per_second(),
        "measured_latencies": loaded.latencies.len(),
        "unanswered": loaded.unanswered,
        "latency_ns": latency_json(&loaded.latencies),
        "server_cpu_ns_each": loaded.server_cpu_ns(),
        "server_cpu_share": loaded.usage.map(|usage| usage.cpu_share()),
        "server_busiest_thread_share": loaded.usage.map(|usage| usage.busiest_thread_share),
        "generator_busy_share": loaded.busy_share,
        "generator_cpu_share": loaded.cpu_share,
        "generator_empty_polls_share": loaded.empty_polls_share,
    })
}

fn latency_json(latencies: &Histogram<u64>) -> Option<Value> {
    if latencies.is_empty() {
        return None;
    }
    let quantile = |(_, name, quantile): &(&str, &str, f64)| {
        ((*name).to_owned(), Value::from(latencies.value_at_quantile(*quantile)))
    };
    let mean = ("mean".to_owned(), Value::from(latencies.mean()));
    Some(QUANTILES.iter().map(quantile).chain([mean]).collect())
}
