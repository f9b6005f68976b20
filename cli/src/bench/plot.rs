//! Latencies as bars of text.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::units::display_ns;

/// Bars at most.
const ROWS_MAX: usize = 14;

/// Characters of the longest bar: with what stands around it, 80 columns.
const BAR_CHARS: usize = 46;

/// Neighbouring bars are at least this factor apart: within it, latencies count as alike.
const FACTOR_MIN: f64 = 1.1;

/// One bar for each range of latencies, ranges growing by one factor; a bar's length is its part
/// of all. Empty without latencies.
pub fn bars(latencies: &Histogram<u64>) -> String {
    let mut text = String::new();
    if latencies.is_empty() {
        return text;
    }
    let edges = edges(latencies);
    let mut counts = Vec::with_capacity(edges.len());
    let mut from = 0;
    for &edge in &edges {
        counts.push(latencies.count_between(from, edge));
        from = edge + 1;
    }
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    for (edge, count) in edges.iter().zip(counts) {
        let percent = count as f64 / latencies.len() as f64 * 100.0;
        let bar = bar(count as f64 / most as f64 * BAR_CHARS as f64, count);
        let _ = writeln!(text, "  ≤ {:>8} │{bar:<BAR_CHARS$} {percent:>7.3} %", display_ns(*edge));
    }
    text
}

/// The upper ends of the ranges. The slowest of a thousand share the last one, or a single outlier
/// would press all others into one bar.
fn edges(latencies: &Histogram<u64>) -> Vec<u64> {
    let (min, max) = (latencies.min().max(1), latencies.max());
    let body = latencies.value_at_quantile(0.999).max(min);
    let span = body as f64 / min as f64;
    let rows = (span.ln() / FACTOR_MIN.ln()).ceil().clamp(1.0, (ROWS_MAX - 1) as f64) as usize;
    let factor = span.powf(1.0 / rows as f64);
    let edge = |row: usize| (min as f64 * factor.powi(row as i32)).round() as u64;
    let mut edges: Vec<u64> = (1..rows).map(edge).chain([body, max]).collect();
    edges.dedup();
    edges
}

/// A bar of eighths of a character. What is there at all can be seen.
fn bar(chars: f64, count: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (chars * 8.0).round() as usize;
    let eighths = if count > 0 { eighths.max(1) } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pace::histogram;

    fn plot(latencies: &[(u64, u64)]) -> String {
        let mut all = histogram();
        latencies.iter().for_each(|(ns, count)| all.record_n(*ns, *count).unwrap());
        bars(&all)
    }

    #[test]
    fn plot_fits_the_terminal_and_shows_every_message() {
        assert_eq!(plot(&[]), "");
        assert_eq!(plot(&[(1000, 3)]).lines().count(), 1);
        let text = plot(&[(20_000, 500_000), (50_000, 400_000), (1_000_000, 1), (70_000_000, 1)]);
        assert!((10..=ROWS_MAX).contains(&text.lines().count()), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        // One message among a million is seen.
        assert!(text.lines().last().unwrap().contains('▏'), "{text}");
        let percent = |line: &str| -> f64 { line.rsplit(' ').nth(1).unwrap().parse().unwrap() };
        let sum: f64 = text.lines().map(percent).sum();
        assert!((sum - 100.0).abs() < 0.01, "{text}");
        assert_eq!(text.lines().map(|line| line.matches('█').count()).max(), Some(BAR_CHARS));
    }

    #[test]
    fn latencies_that_are_alike_share_a_bar() {
        assert_eq!(plot(&[(1_000_000, 1), (1_050_000, 1)]).lines().count(), 1);
    }
}
