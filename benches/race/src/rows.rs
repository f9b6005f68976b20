//! What is measured, and the bars that corewire is held to: data, not code.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;

use serde::Serialize;

use crate::peers::{End, Peer};

/// One line of the race: every server is measured in this shape.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What `--rows` selects by.
    pub id: &'static str,
    /// What the report says.
    pub title: &'static str,
    /// What the generator does.
    pub shape: Shape,
    /// What corewire's result must reach, besides [`EVERY_ROW`].
    pub bars: &'static [Bar],
}

/// What the generator does to a server, or to a client.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Shape {
    /// A closed loop of echoed messages.
    Echo {
        /// Connections at once.
        connections: u32,
        /// Messages under way on each of them.
        in_flight: u32,
        /// As the generator's `--opcode`.
        opcode: &'static str,
        /// Payload of a message, before it is compressed.
        payload_bytes: u32,
        /// Only for servers that compress.
        compression: Option<Compression>,
    },
    /// A closed loop of messages that a client sends and the generator sends back.
    Client {
        /// Connections at once.
        connections: u32,
        /// Messages under way on each of them.
        in_flight: u32,
        /// Payload of a message.
        payload_bytes: u32,
    },
    /// A closed loop of messages from one publisher to all subscribers.
    FanOut {
        /// How many.
        subscribers: u32,
        /// Messages that leave in one write.
        at_once: u32,
        /// Payload of a message.
        payload_bytes: u32,
    },
    /// Connections that are held and do nothing.
    Idle {
        /// How many.
        connections: u32,
        /// Each echoes one message of this size before the memory is read.
        message_bytes: Option<u32>,
    },
    /// Connect, upgrade and close, over and over.
    Handshakes {
        /// Connections at once.
        at_once: u32,
    },
}

/// How messages are compressed, by everybody in the row.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Compression {
    /// As the servers' `--compression`.
    pub server: &'static str,
    /// As the generator's.
    pub offer: &'static str,
    /// Window of the server's compressor; the generator's is always the largest.
    pub window_bits: u32,
}

/// A bound on corewire's result. Ratios are medians of the ratios within each round.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Bar {
    /// Cost at most so many times uWebSockets'.
    OfUwebsockets(f64),
    /// Cost at most so many times that of the epoll loop without a protocol.
    OfRaw(f64),
    /// Cost at most so many times that of the Rust peer that is best in this row.
    OfBestRust(f64),
    /// Cost at most this, in the row's unit.
    Cost(f64),
    /// Messages per second at least so many times those of every Rust peer that flushes for each.
    RateOfUnbatched(f64),
}

/// A bar on the geometric mean of several rows' ratios to uWebSockets.
pub struct Together {
    /// Ids of the rows; all of them must have been measured.
    pub rows: &'static [&'static str],
    /// What the report calls them.
    pub title: &'static str,
    /// The mean is at most this.
    pub of_uwebsockets: f64,
}

/// So far above a bar a result is a tie: the machine does not tell smaller gaps apart.
pub const TIE: f64 = 0.03;

/// What holds in each row besides its own bars.
pub const EVERY_ROW: &[Bar] = &[Bar::OfBestRust(1.00)];

/// The rows of single small messages, taken together.
pub const TOGETHER: Together = Together {
    rows: &["20b-1", "20b-50", "20b-200", "20b-1000", "20b-10000"],
    title: "20 B, 1 in flight, geometric mean of 1 to 10,000 connections",
    of_uwebsockets: 1.00,
};

/// All rows, in the order of the report.
pub const ROWS: &[Row] = &[
    echo("20b-1", "20 B binary, 1 connection", (1, 1), BINARY, 20, SMALL),
    echo("20b-50", "20 B binary, 50 connections", (50, 1), BINARY, 20, SMALL),
    echo("20b-200", "20 B binary, 200 connections", (200, 1), BINARY, 20, SMALL),
    echo("20b-1000", "20 B binary, 1,000 connections", (1_000, 1), BINARY, 20, SMALL),
    echo("20b-10000", "20 B binary, 10,000 connections", (10_000, 1), BINARY, 20, SMALL),
    echo(
        "20b-deep",
        "20 B binary, 200 connections, 16 in flight",
        (200, 16),
        BINARY,
        20,
        &[Bar::OfUwebsockets(1.00), Bar::OfRaw(1.08), Bar::RateOfUnbatched(12.0)],
    ),
    echo("512b", "512 B binary, 50 connections", (50, 1), BINARY, 512, MEDIUM),
    echo("1kib", "1 KiB binary, 50 connections", (50, 1), BINARY, 1 << 10, MEDIUM),
    echo("16kib", "16 KiB binary, 50 connections", (50, 1), BINARY, 16 << 10, MEDIUM),
    echo(
        "64kib",
        "64 KiB binary, 50 connections",
        (50, 1),
        BINARY,
        64 << 10,
        &[Bar::OfUwebsockets(0.92)],
    ),
    echo(
        "1mib",
        "1 MiB binary, 50 connections",
        (50, 1),
        BINARY,
        1 << 20,
        &[Bar::OfUwebsockets(0.78)],
    ),
    echo(
        "512b-text",
        "512 B text, 50 connections",
        (50, 1),
        TEXT,
        512,
        &[Bar::OfUwebsockets(0.93)],
    ),
    echo(
        "16kib-text",
        "16 KiB text, 50 connections",
        (50, 1),
        TEXT,
        16 << 10,
        &[Bar::OfUwebsockets(0.30)],
    ),
    echo(
        "125b-text-deep",
        "125 B text, 200 connections, 16 in flight",
        (200, 16),
        TEXT,
        125,
        &[Bar::OfUwebsockets(0.66)],
    ),
    compressed(
        "deflate-shared",
        "1 KiB JSON, shared compressor, 50 connections",
        Compression { server: "shared", offer: "shared", window_bits: 15 },
    ),
    compressed(
        "deflate-dedicated",
        "1 KiB JSON, dedicated compressors 15:8, 50 connections",
        Compression { server: "dedicated:15:8", offer: "dedicated", window_bits: 15 },
    ),
    compressed(
        "deflate-dedicated-small",
        "1 KiB JSON, dedicated compressors 9:1, 50 connections",
        Compression { server: "dedicated:9:1", offer: "dedicated", window_bits: 9 },
    ),
    Row {
        id: "idle",
        title: "Memory of an idle connection, of 10,000",
        shape: Shape::Idle { connections: 10_000, message_bytes: None },
        bars: MEMORY,
    },
    Row {
        id: "idle-after-message",
        title: "Memory of an idle connection, of 10,000, after an echo of 4 KiB on each",
        shape: Shape::Idle { connections: 10_000, message_bytes: Some(4 << 10) },
        bars: MEMORY,
    },
    Row {
        id: "handshakes",
        title: "Connect, upgrade and close, 50 at once",
        shape: Shape::Handshakes { at_once: 50 },
        bars: &[Bar::OfUwebsockets(1.03)],
    },
    fan_out("fan-out-64b-1000", "64 B to 1,000 subscribers", (1_000, 1), 64, FAN_OUT_SMALL),
    fan_out(
        "fan-out-64b-deep",
        "64 B to 1,000 subscribers, 16 at once",
        (1_000, 16),
        64,
        FAN_OUT_SMALL,
    ),
    fan_out("fan-out-64b-10000", "64 B to 10,000 subscribers", (10_000, 1), 64, FAN_OUT_SMALL),
    fan_out("fan-out-1kib-1000", "1 KiB to 1,000 subscribers", (1_000, 1), 1 << 10, FAN_OUT_MEDIUM),
    fan_out(
        "fan-out-1kib-deep",
        "1 KiB to 1,000 subscribers, 16 at once",
        (1_000, 16),
        1 << 10,
        FAN_OUT_MEDIUM,
    ),
    fan_out(
        "fan-out-1kib-10000",
        "1 KiB to 10,000 subscribers",
        (10_000, 1),
        1 << 10,
        FAN_OUT_MEDIUM,
    ),
    client("client-1", "Client, 20 B, 1 connection", (1, 1), 20, &[]),
    client("client-50", "Client, 20 B, 50 connections", (50, 1), 20, &[]),
    client("client-200", "Client, 20 B, 200 connections", (200, 1), 20, &[]),
    client(
        "client-deep",
        "Client, 20 B, 200 connections, 16 in flight",
        (200, 16),
        20,
        &[Bar::RateOfUnbatched(10.0)],
    ),
    client("client-1kib", "Client, 1 KiB, 50 connections", (50, 1), 1 << 10, &[]),
];

/// What `--quick` measures: one row of each way through the generator that takes no time.
pub const QUICK: &str =
    "20b-50,20b-deep,16kib-text,deflate-shared,handshakes,fan-out-64b-1000,client-deep";

const BINARY: &str = "binary";
const TEXT: &str = "text";
const SMALL: &[Bar] = &[Bar::OfUwebsockets(1.03), Bar::OfRaw(1.06)];
const MEDIUM: &[Bar] = &[Bar::OfUwebsockets(1.02), Bar::OfRaw(1.06)];
const COMPRESSED: &[Bar] = &[Bar::OfUwebsockets(1.05)];
const FAN_OUT_SMALL: &[Bar] = &[Bar::OfUwebsockets(0.98), Bar::OfRaw(1.10)];
const FAN_OUT_MEDIUM: &[Bar] = &[Bar::OfUwebsockets(1.02), Bar::OfRaw(1.10)];
const MEMORY: &[Bar] = &[Bar::OfUwebsockets(0.70), Bar::Cost(180.0)];

const fn echo(
    id: &'static str,
    title: &'static str,
    (connections, in_flight): (u32, u32),
    opcode: &'static str,
    payload_bytes: u32,
    bars: &'static [Bar],
) -> Row {
    let compression = None;
    let shape = Shape::Echo { connections, in_flight, opcode, payload_bytes, compression };
    Row { id, title, shape, bars }
}

const fn client(
    id: &'static str,
    title: &'static str,
    (connections, in_flight): (u32, u32),
    payload_bytes: u32,
    bars: &'static [Bar],
) -> Row {
    Row { id, title, shape: Shape::Client { connections, in_flight, payload_bytes }, bars }
}

const fn fan_out(
    id: &'static str,
    title: &'static str,
    (subscribers, at_once): (u32, u32),
    payload_bytes: u32,
    bars: &'static [Bar],
) -> Row {
    Row { id, title, shape: Shape::FanOut { subscribers, at_once, payload_bytes }, bars }
}

const fn compressed(id: &'static str, title: &'static str, compression: Compression) -> Row {
    let shape = Shape::Echo {
        connections: 50,
        in_flight: 1,
        opcode: TEXT,
        payload_bytes: 1 << 10,
        compression: Some(compression),
    };
    Row { id, title, shape, bars: COMPRESSED }
}

impl Row {
    /// Its own bars and those of every row.
    pub fn all_bars(&self) -> impl Iterator<Item = Bar> {
        self.bars.iter().chain(EVERY_ROW).copied()
    }

    /// Whether a peer races in it.
    pub fn takes(&self, peer: &Peer) -> bool {
        let can = self.shape.compression().is_none() || peer.compresses;
        can && peer.program(self.shape.end()).is_some()
    }
}

impl Compression {
    /// Whether a server has agreed on what the row is about.
    ///
    /// # Errors
    /// It compresses with another window, or lets the generator do so.
    pub fn check(self, figures: &BTreeMap<String, f64>) -> io::Result<()> {
        let bits = |field| figures.get(field).copied();
        let agreed = [bits("server_window_bits"), bits("client_window_bits")];
        let expected = [Some(f64::from(self.window_bits)), Some(CLIENT_WINDOW_BITS)];
        if agreed == expected {
            return Ok(());
        }
        Err(io::Error::other(format!("windows of {expected:?} bits, but agreed on {agreed:?}")))
    }
}

const CLIENT_WINDOW_BITS: f64 = 15.0;

impl Shape {
    /// Connections that are open at the same time.
    pub fn connections(self) -> u32 {
        match self {
            Shape::Echo { connections, .. }
            | Shape::Client { connections, .. }
            | Shape::Idle { connections, .. } => connections,
            // The publisher is one more.
            Shape::FanOut { subscribers, .. } => subscribers + 1,
            Shape::Handshakes { at_once } => at_once,
        }
    }

    /// Which end of a peer it is about.
    pub fn end(self) -> End {
        match self {
            Shape::Client { .. } => End::Client,
            Shape::FanOut { .. } => End::FanOut,
            Shape::Echo { .. } | Shape::Idle { .. } | Shape::Handshakes { .. } => End::Server,
        }
    }

    /// How its messages are compressed, if they are.
    pub fn compression(self) -> Option<Compression> {
        match self {
            Shape::Echo { compression, .. } => compression,
            Shape::Client { .. }
            | Shape::FanOut { .. }
            | Shape::Idle { .. }
            | Shape::Handshakes { .. } => None,
        }
    }

    /// Name of the generator's field that says what one thing cost.
    pub fn cost_field(self) -> &'static str {
        match self {
            Shape::Echo { .. } => "server_cpu_ns_per_message",
            Shape::Client { .. } => "client_cpu_ns_per_message",
            Shape::FanOut { .. } => "server_cpu_ns_per_delivery",
            Shape::Idle { message_bytes: None, .. } => "rss_per_connection_bytes",
            Shape::Idle { message_bytes: Some(_), .. } => "rss_per_connection_after_message_bytes",
            Shape::Handshakes { .. } => "server_cpu_ns_per_handshake",
        }
    }

    /// Unit of the cost.
    pub fn cost_unit(self) -> &'static str {
        match self {
            Shape::Echo { .. } | Shape::Client { .. } => "CPU ns/message",
            Shape::FanOut { .. } => "CPU ns/delivery",
            Shape::Idle { .. } => "B/connection",
            Shape::Handshakes { .. } => "CPU ns/handshake",
        }
    }

    /// What is counted: also the name of the generator's field.
    pub fn things(self) -> &'static str {
        match self {
            Shape::Echo { .. } | Shape::Client { .. } => "messages",
            Shape::FanOut { .. } => "deliveries",
            Shape::Idle { .. } | Shape::Handshakes { .. } => "handshakes",
        }
    }

    /// What system calls are counted for, where they are.
    pub fn calls_unit(self) -> &'static str {
        match self.end() {
            End::FanOut => "calls/delivery",
            End::Server | End::Client => "calls/message",
        }
    }

    /// Name of the generator's field that says how many things were done in a second.
    pub fn rate_field(self) -> &'static str {
        match self {
            Shape::Echo { .. } | Shape::Client { .. } => "messages_per_second",
            Shape::FanOut { .. } => "deliveries_per_second",
            Shape::Idle { .. } | Shape::Handshakes { .. } => "handshakes_per_second",
        }
    }

    /// Name of the generator's field that says how busy the core was.
    pub fn busy_field(self) -> &'static str {
        match self.end() {
            End::Server | End::FanOut => "server_cpu_percent",
            End::Client => "client_cpu_percent",
        }
    }

    /// The generator's arguments. Idle connections are not a matter of time.
    pub fn arguments(self, warm_up: f64, seconds: f64) -> Vec<String> {
        let option = |name: &str, value: &dyn Display| [format!("--{name}"), value.to_string()];
        let duration = [option("warm-up", &warm_up), option("duration", &seconds)];
        let mut options = Vec::new();
        match self {
            Shape::Echo { connections, in_flight, opcode, payload_bytes, compression } => {
                options.push(option("connections", &connections));
                options.push(option("in-flight", &in_flight));
                options.push(match compression {
                    None => option("opcode", &opcode),
                    Some(compression) => option("compression", &compression.offer),
                });
                options.push(option("bytes", &payload_bytes));
                options.extend(duration);
            }
            Shape::Client { connections, in_flight, payload_bytes } => {
                options.push(option("connections", &connections));
                options.push(option("in-flight", &in_flight));
                options.push(option("bytes", &payload_bytes));
                options.extend(duration);
            }
            Shape::FanOut { subscribers, at_once, payload_bytes } => {
                options.push(option("fan-out", &subscribers));
                options.push(option("in-flight", &at_once));
                options.push(option("bytes", &payload_bytes));
                options.extend(duration);
            }
            Shape::Idle { connections, message_bytes } => {
                options.push(option("idle", &connections));
                options.extend(message_bytes.map(|bytes| option("one-message", &bytes)));
            }
            Shape::Handshakes { at_once } => {
                options.push(option("handshakes", &at_once));
                options.extend(duration);
            }
        }
        options.concat()
    }
}

/// Items of `all` that a filter names: words between commas, each the whole name of an item or,
/// where none is called so, a part of names. `None` if a word names nothing.
pub fn select<'a, T>(all: &'a [T], filter: &str, name: impl Fn(&T) -> &str) -> Option<Vec<&'a T>> {
    let words: Vec<String> = filter.split(',').map(|word| word.trim().to_lowercase()).collect();
    let is_whole = |word: &str| all.iter().any(|item| name(item) == word);
    let is_named = |item: &T, word: &str| {
        if is_whole(word) { name(item) == word } else { name(item).contains(word) }
    };
    let all_name_some = words.iter().all(|word| all.iter().any(|item| is_named(item, word)));
    let is_selected = |item: &&T| words.iter().any(|word| is_named(item, word));
    all_name_some.then(|| all.iter().filter(is_selected).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(filter: &str) -> Option<Vec<&'static str>> {
        let rows = select(ROWS, filter, |row| row.id)?;
        Some(rows.iter().map(|row| row.id).collect())
    }

    #[test]
    fn a_filter_selects_by_whole_names_before_parts_of_names() {
        assert_eq!(selected("20b-1"), Some(vec!["20b-1"]));
        assert_eq!(selected("20b-10"), Some(vec!["20b-1000", "20b-10000"]));
        assert_eq!(selected("idle, 1mib"), Some(vec!["1mib", "idle"]));
        assert_eq!(selected("b-deep,deep"), selected("deep"));
        let deep = ["20b-deep", "125b-text-deep", "fan-out-64b-deep", "fan-out-1kib-deep"];
        assert_eq!(selected("deep"), Some([&deep[..], &["client-deep"]].concat()));
        assert_eq!(selected("").map(|rows| rows.len()), Some(ROWS.len()));
        assert_eq!(selected("20b-1,no-such-row"), None);
    }

    #[test]
    fn every_row_that_is_named_elsewhere_is_there() {
        assert_eq!(selected(QUICK).map(|rows| rows.len()), Some(7));
        for id in TOGETHER.rows {
            assert_eq!(selected(id), Some(vec![*id]));
        }
    }

    #[test]
    fn the_ids_of_rows_differ() {
        let ids: std::collections::BTreeSet<&str> = ROWS.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), ROWS.len());
    }

    #[test]
    fn all_compress_with_the_same_windows() {
        let figures = |server, client| {
            let fields = [("server_window_bits", server), ("client_window_bits", client)];
            BTreeMap::from(fields.map(|(name, bits)| (name.to_owned(), bits)))
        };
        let compression =
            Compression { server: "dedicated:9:1", offer: "dedicated", window_bits: 9 };
        assert!(compression.check(&figures(9.0, 15.0)).is_ok());
        assert!(compression.check(&figures(15.0, 15.0)).is_err());
        assert!(compression.check(&figures(9.0, 9.0)).is_err());
        assert!(compression.check(&BTreeMap::new()).is_err());
    }

    #[test]
    fn a_shape_says_all_to_the_generator() {
        let text = |id| {
            selected(id)
                .and_then(|_| select(ROWS, id, |row| row.id))
                .map(|rows| rows[0].shape.arguments(0.5, 2.0).join(" "))
        };
        assert_eq!(
            text("16kib-text").as_deref(),
            Some(
                "--connections 50 --in-flight 1 --opcode text --bytes 16384 --warm-up 0.5 \
                 --duration 2"
            )
        );
        assert_eq!(
            text("deflate-dedicated").as_deref(),
            Some(
                "--connections 50 --in-flight 1 --compression dedicated --bytes 1024 \
                 --warm-up 0.5 --duration 2"
            )
        );
        assert_eq!(text("idle-after").as_deref(), Some("--idle 10000 --one-message 4096"));
        assert_eq!(
            text("client-deep").as_deref(),
            Some("--connections 200 --in-flight 16 --bytes 20 --warm-up 0.5 --duration 2")
        );
        assert_eq!(
            text("fan-out-1kib-deep").as_deref(),
            Some("--fan-out 1000 --in-flight 16 --bytes 1024 --warm-up 0.5 --duration 2")
        );
        assert_eq!(
            text("handshakes").as_deref(),
            Some("--handshakes 50 --warm-up 0.5 --duration 2")
        );
    }
}
