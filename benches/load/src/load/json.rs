//! Text as it is compressed in earnest: JSON in which names and words come again and again, and
//! numbers, times and ids do not.

use std::fmt::Write as _;

/// Below this a message has no room for what all of them have.
pub const PAYLOAD_BYTES_MIN: usize = 256;

/// A report of orders of exactly `payload_bytes`, the same in each run for the same `seed`.
///
/// # Panics
/// If it is below [`PAYLOAD_BYTES_MIN`].
pub fn payload(payload_bytes: usize, seed: u64) -> Vec<u8> {
    assert!(payload_bytes >= PAYLOAD_BYTES_MIN, "no room for a message");
    let mut random = fastrand::Rng::with_seed(seed);
    let milliseconds = 1_700_000_000_000 + seed * 1_037 + random.u64(0..1_000);
    let mut text = format!(
        "{{\"type\":\"orders\",\"sequence\":{},\"sent_at\":{milliseconds},\"orders\":[",
        180_000 + seed
    );
    let mut separator = "";
    loop {
        let order = order(&mut random, milliseconds);
        if text.len() + separator.len() + order.len() + NOTE.len() + END.len() > payload_bytes {
            break;
        }
        text += separator;
        text += &order;
        separator = ",";
    }
    // What is left is less than an order: words, the last of them cut.
    text += NOTE;
    while text.len() + END.len() < payload_bytes {
        text += WORDS[random.usize(0..WORDS.len())];
        text.push(' ');
    }
    text.truncate(payload_bytes - END.len());
    text += END;
    text.into_bytes()
}

fn order(random: &mut fastrand::Rng, milliseconds: u64) -> String {
    let mut text = String::with_capacity(192);
    let name = NAMES[random.usize(0..NAMES.len())];
    let status = STATUSES[random.usize(0..STATUSES.len())];
    write!(
        text,
        "{{\"id\":\"{:08x}\",\"customer\":{{\"id\":{},\"name\":\"{name}\"}},\"status\":\"{status}\",\
         \"quantity\":{},\"price\":{}.{:02},\"updated_at\":{}}}",
        random.u32(..),
        random.u32(1_000..100_000),
        random.u32(1..250),
        random.u32(1..1_000),
        random.u32(0..100),
        milliseconds - random.u64(0..90_000),
    )
    .expect("a String takes all");
    text
}

const NOTE: &str = "],\"note\":\"";
const END: &str = "\"}";
const NAMES: &[&str] = &[
    "Ada Lovelace",
    "Alan Turing",
    "Grace Hopper",
    "Edsger Dijkstra",
    "Barbara Liskov",
    "Donald Knuth",
    "Frances Allen",
    "John Backus",
    "Margaret Hamilton",
    "Niklaus Wirth",
];
const STATUSES: &[&str] = &["open", "paid", "packed", "shipped", "delivered", "cancelled"];
const WORDS: &[&str] = &[
    "please",
    "leave",
    "the",
    "parcel",
    "with",
    "a",
    "neighbour",
    "before",
    "noon",
    "and",
    "ring",
    "twice",
    "no",
    "invoice",
    "gift",
    "wrapped",
    "fragile",
    "second",
    "floor",
    "call",
    "first",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_size_asked_for_and_differs_by_seed() {
        for payload_bytes in [PAYLOAD_BYTES_MIN, 300, 511, 1024, 16 << 10] {
            let text = payload(payload_bytes, 1);
            assert_eq!(text.len(), payload_bytes);
            assert_eq!(text, payload(payload_bytes, 1));
            assert_ne!(text, payload(payload_bytes, 2));
            let text = String::from_utf8(text).expect("UTF-8");
            assert!(text.starts_with("{\"type\":") && text.ends_with("\"}"), "{text}");
            assert!(text.matches("\"customer\"").count() >= payload_bytes / 256, "{text}");
        }
    }
}
