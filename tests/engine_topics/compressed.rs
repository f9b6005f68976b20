//! Subscribers that have agreed on compression, each in another way.

use corewire::{Compression, CompressionMode, Config, PreparedMessage, SlowPolicy, TopicSettings};

use crate::bed::{Bed, Member, drain};
use crate::deflated::{Decompressor, OFFER};
use crate::sim_peer::{Frame, TEXT, messages_inflated};

const DEDICATED: CompressionMode = CompressionMode::Dedicated { window_bits: 15, mem_level: 8 };

/// What is offered, and the window that answers go by.
const OFFERS: [(&str, u8); 5] = [
    ("", 15),
    (OFFER, 15),
    ("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n", 15),
    (
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
         server_max_window_bits=10\r\n",
        10,
    ),
    ("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n", 9),
];

fn compressing(config: &mut Config) {
    config.compression = Compression::new(DEDICATED).unwrap();
}

fn subscribe(bed: &mut Bed, lines: &str) -> Member {
    let member = bed.open_with(lines);
    let id = member.id;
    bed.act(move |at| assert!(at.peer(id).subscribe("news").unwrap()));
    member
}

fn inflated(frames: &[Frame], window_bits: u8) -> Vec<String> {
    let mut theirs = Decompressor::new(window_bits);
    let messages = messages_inflated(frames, |payload| theirs.message(payload));
    let text = |(opcode, payload)| {
        assert_eq!(opcode, TEXT);
        String::from_utf8(payload).unwrap()
    };
    messages.into_iter().map(text).collect()
}

#[test]
fn each_subscriber_gets_the_form_that_it_has_agreed_on() {
    let mut bed = Bed::new(compressing);
    let members = OFFERS.map(|(lines, _)| subscribe(&mut bed, lines));
    // Two of each share a form.
    let twins = OFFERS.map(|(lines, _)| subscribe(&mut bed, lines));
    let long = |number: usize| format!("{number} what is said again and again, ").repeat(80);
    // One byte below the threshold from which on messages are compressed.
    let sent = [long(1), "x".repeat(127), long(2), long(1), long(3).repeat(20)];
    bed.publish("news", &sent);
    let secret = "a secret and what somebody chose, ".repeat(50);
    let told = secret.clone();
    bed.act(move |at| {
        at.publish("news", &PreparedMessage::text(&told).uncompressed()).unwrap();
    });
    for (at, (lines, window_bits)) in OFFERS.into_iter().enumerate() {
        for member in [&members[at], &twins[at]] {
            let frames = drain(&mut bed, member);
            let compressed: Vec<_> = frames.iter().map(|frame| frame.compressed).collect();
            let is_agreed = !lines.is_empty();
            let expected = [is_agreed, false, is_agreed, is_agreed, is_agreed, false];
            assert_eq!(compressed, expected, "{lines}");
            let got = inflated(&frames, window_bits);
            assert!(got[..5] == sent && got[5] == secret, "{lines}");
        }
    }
}

/// Letters that compress a little.
fn text(number: usize) -> String {
    let mut state = number as u64;
    let letter = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + (state >> 60) as u8)
    };
    format!("{number:05}{}", (0..600).map(letter).collect::<String>())
}

/// What is taken back of a stream with context takeover must not be missed by what follows.
#[test]
fn slow_subscribers_that_compress_lose_whole_messages_and_understand_the_others() {
    for slow in [SlowPolicy::SkipNew, SlowPolicy::DropOldest, SlowPolicy::Conflate] {
        for (lines, window_bits) in OFFERS {
            let mut bed = Bed::new(|config| {
                compressing(config);
                config.published = TopicSettings::new(2 << 10, slow);
            });
            let member = subscribe(&mut bed, lines);
            member.peer.set_buffers(1 << 20, 150);
            for number in 0..60 {
                bed.publish("news", &[text(number)]);
            }
            let first = drain(&mut bed, &member);
            bed.publish("news", &(60..62).map(text).collect::<Vec<_>>());
            let frames = [first, drain(&mut bed, &member)].concat();
            let got = inflated(&frames, window_bits);
            let numbers: Vec<usize> = got.iter().map(|text| text[..5].parse().unwrap()).collect();
            assert!(numbers.is_sorted() && numbers.len() < 62, "{slow:?} {lines}: {numbers:?}");
            assert!(got.iter().zip(&numbers).all(|(got, number)| *got == text(*number)));
            assert_eq!(numbers[numbers.len() - 2..], [60, 61], "{slow:?} {lines}");
            assert_eq!(slow == SlowPolicy::SkipNew, !numbers.contains(&59), "{slow:?} {lines}");
        }
    }
}
