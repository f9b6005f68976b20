//! The ratios to uWebSockets, of clients those to raw epoll, as a picture: a band for each row, a
//! lane in it for each server.

use std::fmt::Write as _;

use crate::peers::{OWN, UWEBSOCKETS};
use crate::report::Report;
use crate::rows::Bar;
use crate::statistics::Quartiles;

/// The scale is logarithmic; what lies outside stands at its end, as an arrow.
const SCALE: std::ops::Range<f64> = 0.2..10.0;
const TICKS: [f64; 10] = [0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];

// In pixels.
const LEFT: f64 = 290.0;
const WIDTH: f64 = 640.0;
const RIGHT: f64 = 150.0;
const LANE: f64 = 7.0;
const BAND_GAP: f64 = 8.0;
const LEGEND_COLUMN: f64 = 170.0;

/// Light enough for a dark page, and dark enough for a light one. Ours is the first.
const COLOURS: [&str; 12] = [
    "#d6336c", "#868e96", "#adb5bd", "#1c7ed6", "#2b8a3e", "#e8590c", "#7048e8", "#0c8599",
    "#f08c00", "#9c6644", "#66a80f", "#c2255c",
];

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #212529 }
.quiet { fill: #868e96 } .title { font-size: 15px; font-weight: 600 } .own { font-weight: 600 }
.page { fill: #ffffff } .band { fill: #f1f3f5 } .grid { stroke: #ced4da } .one { stroke: #495057 }
.bar { stroke: #d6336c; stroke-width: 2; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e9ecef } .quiet { fill: #adb5bd } .page { fill: #16181b } .band { fill: #212529 }
  .grid { stroke: #495057 } .one { stroke: #ced4da }
}
";

/// Draws the report's rows.
pub fn svg(report: &Report<'_>) -> String {
    // uWebSockets is the line at 1. Ours comes first, so that it always has the same colour.
    let mut servers: Vec<(&str, &str)> = report
        .peers
        .iter()
        .filter(|peer| peer.bin != UWEBSOCKETS)
        .map(|peer| (&*peer.bin, &*peer.name))
        .collect();
    servers.sort_by_key(|(bin, _)| *bin != OWN);
    let columns = ((LEFT + WIDTH + RIGHT) / LEGEND_COLUMN) as usize;
    let top = 50.0 + servers.len().div_ceil(columns) as f64 * 18.0 + 24.0;
    let band = servers.len() as f64 * LANE + 8.0;
    let bottom = top + report.rows.len() as f64 * (band + BAND_GAP);
    let mut body = legend(&servers, columns);
    body += &grid(top, bottom);
    for (index, row) in report.rows.iter().enumerate() {
        let y = top + index as f64 * (band + BAND_GAP);
        let ratios = servers.iter().map(|(bin, _)| {
            let peer = row.peers.iter().find(|peer| peer.bin == *bin);
            peer.and_then(|peer| peer.of_base(row.row.shape))
        });
        let ratios: Vec<Option<Quartiles>> = ratios.collect();
        body += &labels(row.row.title, row.word(), ratios.first().copied().flatten(), y, band);
        for bar in row.row.bars {
            if let Bar::OfUwebsockets(max) = bar {
                let (x, end) = (x(*max), y + band);
                let _ = writeln!(
                    body,
                    r#"<line class="bar" x1="{x:.1}" x2="{x:.1}" y1="{y}" y2="{end}"/>"#
                );
            }
        }
        for (lane, ratio) in ratios.into_iter().enumerate() {
            let y = y + 4.0 + (lane as f64 + 0.5) * LANE;
            body += &ratio.map_or(String::new(), |ratio| mark(lane, ratio, y));
        }
    }
    let (width, height) = (LEFT + WIDTH + RIGHT, bottom + 30.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\">\n<style>\n{STYLE}</style>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n{body}</svg>\n"
    )
}

fn x(ratio: f64) -> f64 {
    let position = (ratio / SCALE.start).ln() / (SCALE.end / SCALE.start).ln();
    LEFT + position.clamp(0.0, 1.0) * WIDTH
}

fn legend(servers: &[(&str, &str)], columns: usize) -> String {
    let mut text = String::from(
        "<text class=\"title\" x=\"12\" y=\"24\">Cost against uWebSockets = 1, of clients \
         against raw epoll = 1; less is better \
         <tspan class=\"quiet\">(dashed: corewire's bar)</tspan></text>\n",
    );
    for (index, (_, name)) in servers.iter().enumerate() {
        let x = 18.0 + (index % columns) as f64 * LEGEND_COLUMN;
        let y = 50.0 + (index / columns) as f64 * 18.0;
        let (colour, class) = (colour(index), if index == 0 { "own" } else { "" });
        let (baseline, indent, name) = (y + 4.0, x + 10.0, escaped(name));
        let _ = writeln!(text, r#"<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>"#);
        let _ =
            writeln!(text, r#"<text class="{class}" x="{indent}" y="{baseline}">{name}</text>"#);
    }
    text
}

fn grid(top: f64, bottom: f64) -> String {
    let mut text = String::new();
    for tick in TICKS {
        let (x, class) = (x(tick), if tick == 1.0 { "one" } else { "grid" });
        let _ = writeln!(
            text,
            r#"<line class="{class}" x1="{x:.1}" x2="{x:.1}" y1="{top}" y2="{bottom}"/>"#
        );
        for y in [top - 6.0, bottom + 14.0] {
            let _ = writeln!(
                text,
                r#"<text class="quiet" text-anchor="middle" x="{x:.1}" y="{y}">{tick}</text>"#
            );
        }
    }
    text
}

fn labels(title: &str, word: &str, own: Option<Quartiles>, y: f64, band: f64) -> String {
    let (end, beside, middle) = (LEFT - 12.0, LEFT + WIDTH + 14.0, y + band / 2.0 + 4.0);
    let own = own.map_or("–".to_owned(), |own| format!("{:.3}", own.median));
    // A title may be long: it breaks at its last comma.
    let lines: Vec<&str> = match title.rfind(", ") {
        Some(comma) if title.len() > 38 => vec![&title[..=comma], title[comma + 1..].trim()],
        _ => vec![title],
    };
    let mut text = format!(
        "<rect class=\"band\" x=\"{LEFT}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{band}\" \
         opacity=\"0.6\"/>\n<text x=\"{beside}\" y=\"{middle}\"><tspan class=\"own\">{own}</tspan> \
         <tspan class=\"quiet\">{word}</tspan></text>\n"
    );
    let first = middle - (lines.len() - 1) as f64 * 7.0;
    for (index, line) in lines.iter().enumerate() {
        let (y, line) = (first + index as f64 * 14.0, escaped(line));
        let _ = writeln!(text, r#"<text text-anchor="end" x="{end}" y="{y}">{line}</text>"#);
    }
    text
}

/// The median as a point over the quartiles as a line, or an arrow where the scale ends.
fn mark(lane: usize, ratio: Quartiles, y: f64) -> String {
    let (colour, radius) = (colour(lane), if lane == 0 { 4.5 } else { 3.0 });
    let (x0, x1, x) = (x(ratio.lower), x(ratio.upper), x(ratio.median));
    if !SCALE.contains(&ratio.median) {
        let tip = if ratio.median < SCALE.start { -7 } else { 7 };
        return format!(
            "<path d=\"M{x:.1} {y} l0 -4 l{tip} 4 l{} 4 z\" fill=\"{colour}\"/>\n",
            -tip
        );
    }
    format!(
        "<line x1=\"{x0:.1}\" x2=\"{x1:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" \
         stroke-width=\"2\"/><circle cx=\"{x:.1}\" cy=\"{y}\" r=\"{radius}\" fill=\"{colour}\"/>\n"
    )
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::with_report;

    #[test]
    fn every_server_but_the_base_has_a_mark_in_every_row() {
        with_report(|report| {
            let picture = svg(report);
            // Four rows of four peers, one of three, one of ours alone, and the legend. The slow one
            // and most of the memory are off the scale.
            assert_eq!(picture.matches("<circle").count() + picture.matches("<path").count(), 24);
            assert_eq!(picture.matches("<path").count(), 5);
            assert!(
                picture.contains(">corewire</text>") && !picture.contains(">uWebSockets</text>")
            );
            assert_eq!(picture.matches("class=\"bar\"").count(), 5);
        });
    }

    #[test]
    fn the_scale_is_logarithmic_and_ends_where_it_ends() {
        assert_eq!(x(0.01), LEFT);
        assert_eq!(x(0.2), LEFT);
        assert!((x(2.0_f64.sqrt()) - (LEFT + WIDTH / 2.0)).abs() < 1e-9);
        assert_eq!(x(1e9), LEFT + WIDTH);
    }
}
