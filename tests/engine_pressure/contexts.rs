//! From High on nobody is given a compressor or a window of his own.

use corewire::{Compression, CompressionMode, PressureLevel};

use crate::bed::{bed_with, level, look, percent};
use crate::deflated::{Decompressor, OFFER};
use crate::sim_peer::{TEXT, frames, message, messages_inflated};

const DEDICATED: CompressionMode = CompressionMode::Dedicated { window_bits: 15, mem_level: 8 };

#[test]
fn new_connections_agree_on_none_and_old_ones_begin_none() {
    let (mut bed, memory) = bed_with(
        |_| {},
        |settings| settings.config.compression = Compression::new(DEDICATED).unwrap(),
    );
    let text = "what is said again and again, ".repeat(20);
    let (early, head) = bed.open_with(OFFER);
    assert!(head.contains("permessage-deflate"));
    let (late, _) = bed.open_with(OFFER);
    early.write_all(&message(TEXT, text.as_bytes()));
    bed.turn();
    assert!(frames(&early.read_all()).0[0].compressed);
    assert_eq!(bed.reactor.usage().takeovers, 1);
    assert_eq!(look(&mut bed, &memory, percent(72)), PressureLevel::High);
    for peer in [&early, &late] {
        peer.read_all();
        peer.write_all(&message(TEXT, text.as_bytes()));
    }
    bed.turn();
    // Who has a compressor goes on with it.
    let (again, plain) = (frames(&early.read_all()).0, frames(&late.read_all()).0);
    assert!(again[0].compressed && !plain[0].compressed);
    assert_eq!(plain[0].payload, text.as_bytes());
    assert_eq!(bed.reactor.usage().takeovers, 1);
    let (_newcomer, head) = bed.open_with(OFFER);
    assert!(!head.contains("Sec-WebSocket-Extensions"), "{head}");
    look(&mut bed, &memory, 0);
    bed.run_for(std::time::Duration::from_secs(8));
    assert_eq!(level(&bed), PressureLevel::Normal);
    let (_newcomer, head) = bed.open_with(OFFER);
    assert!(head.contains("permessage-deflate"), "{head}");
    late.write_all(&message(TEXT, text.as_bytes()));
    bed.turn();
    let frames = frames(&late.read_all()).0;
    assert!(frames[0].compressed);
    let mut theirs = Decompressor::new(15);
    let inflated = messages_inflated(&frames, |payload| theirs.message(payload));
    assert_eq!(inflated, [(TEXT, text.into_bytes())]);
}
