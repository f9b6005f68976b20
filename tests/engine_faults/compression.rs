//! Compressed messages (rows F9, F24, F25 of a loop, and who pays for them).

use std::time::Duration;

use corewire::{CloseCode, Compression, CompressionMode, Config, Failure, ProtocolError, Usage};

use crate::deflated::{self, Compressor, Decompressor, OFFER, bomb};
use crate::sim_bed::{Bed, Heard, echo, read_frames};
use crate::sim_net::SimPeer;
use crate::sim_peer::{
    BINARY, Frame, PING, TEXT, fragments, frames, masked, message, messages_inflated,
};

const KIB: usize = 1024;
const DEDICATED: CompressionMode = CompressionMode::Dedicated { window_bits: 15, mem_level: 8 };

fn compression(config: &mut Config, mode: CompressionMode) {
    config.compression = Compression::new(mode).unwrap();
}

fn bed(mode: CompressionMode) -> Bed {
    Bed::new(move |settings| compression(&mut settings.config, mode), echo)
}

fn open(bed: &mut Bed) -> SimPeer {
    let (peer, head) = bed.open_with(OFFER);
    assert!(head.contains("Sec-WebSocket-Extensions: permessage-deflate"), "{head}");
    peer
}

/// A compressed message in one frame.
fn compressed(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(0xC0 | opcode, payload)
}

fn text(line: usize) -> String {
    format!("{{\"line\": {line}, \"of\": \"what is said again and again\"}}").repeat(5)
}

// RFC 7692 §5, §7.1
#[test]
fn answer_states_what_the_mode_asks_for_and_nothing_is_said_unasked() {
    let head = |mode, line: &str| bed(mode).open_with(line).1;
    let agreed = |mode, line: &str| {
        let head = head(mode, line);
        let line = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
        line.map(str::to_owned)
    };
    let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(agreed(CompressionMode::Shared, OFFER).as_deref(), Some(both));
    assert_eq!(agreed(DEDICATED, OFFER).as_deref(), Some("permessage-deflate"));
    let small = CompressionMode::Dedicated { window_bits: 9, mem_level: 1 };
    let said = agreed(small, OFFER);
    assert_eq!(said.as_deref(), Some("permessage-deflate; server_max_window_bits=9"));
    assert_eq!(agreed(CompressionMode::Disabled, OFFER), None);
    assert_eq!(agreed(DEDICATED, ""), None);
    assert_eq!(agreed(DEDICATED, "Sec-WebSocket-Extensions: permessage-deflate; x\r\n"), None);
}

#[test]
fn messages_are_echoed_in_both_modes_and_an_idle_shared_connection_owns_nothing() {
    for mode in [CompressionMode::Shared, DEDICATED] {
        let mut bed = bed(mode);
        let peer = open(&mut bed);
        let (mut ours, mut theirs) = (Compressor::new(), Decompressor::new(15));
        for line in 0..20 {
            let text = text(line);
            if mode == CompressionMode::Shared {
                (ours, theirs) = (Compressor::new(), Decompressor::new(15));
            }
            let payload = ours.message(text.as_bytes());
            if line % 2 == 0 {
                peer.write_all(&compressed(TEXT, &payload));
            } else {
                let mut fragments = fragments(TEXT, &payload, 40);
                fragments[0] |= 0x40;
                peer.write_all(&fragments);
            }
            bed.turn();
            let frames = read_frames(&peer);
            assert!(frames[0].compressed && frames[0].payload.len() < text.len() / 2);
            let echoed = messages_inflated(&frames, |payload| theirs.message(payload));
            assert_eq!(echoed, [(TEXT, text.into_bytes())]);
        }
        let Usage { inflaters, windows, takeovers, .. } = bed.reactor.usage();
        let owned = usize::from(mode == DEDICATED);
        assert_eq!((inflaters, windows, takeovers), (0, owned, owned));
        peer.fin();
        bed.run_for(Duration::from_secs(10));
        bed.assert_empty();
    }
}

#[test]
fn f24_four_bombs_at_once_fail_with_1009_each_and_the_neighbour_is_served_each_turn() {
    let bomb = compressed(BINARY, &bomb(256));
    assert!(bomb.len() < 300 * KIB, "{} bytes", bomb.len());
    let mut bed = bed(CompressionMode::Shared);
    let neighbour = bed.open();
    // What is free is kept for the next message, not for these.
    let pinned = |bed: &Bed| {
        let usage = bed.reactor.usage();
        usage.pinned_bytes - usage.retained_bytes
    };
    let before = pinned(&bed);
    let peers: Vec<(SimPeer, _)> = (0..4).map(|_| (open(&mut bed), bed.latest())).collect();
    for (peer, _) in &peers {
        peer.set_buffers(1 << 20, 1 << 20);
        assert_eq!(peer.write(&bomb), bomb.len());
    }
    let (mut turns, mut most) = (0, 0);
    while peers.iter().any(|(_, id)| bed.closed(*id).is_none()) {
        neighbour.write_all(&message(TEXT, b"n"));
        bed.turn();
        assert_eq!(read_frames(&neighbour), [Frame::new(TEXT, b"n")], "in the turn of its arrival");
        most = most.max(pinned(&bed) - before);
        turns += 1;
    }
    // A message of 1 MiB is four turns' bytes.
    assert!((4..20).contains(&turns), "{turns} turns");
    assert!(most < 4 * (1024 + 48 + 256 + 16) * KIB, "{most} bytes pinned");
    for (peer, id) in &peers {
        let codes = read_frames(peer).iter().map(Frame::close_code).collect::<Vec<_>>();
        assert_eq!(codes, [Some(1009)]);
        let summary = bed.summary(*id);
        assert_eq!(summary.code, CloseCode::MESSAGE_TOO_BIG);
        assert!(summary.incomplete_bytes <= 1024 * KIB as u64, "not a byte over the limit");
    }
    let Usage { inflaters, assemblies, blocks, .. } = bed.reactor.usage();
    assert_eq!((inflaters, assemblies, blocks), (0, 0, 0));
}

#[test]
fn t4_between_two_turns_a_flooder_of_compressed_messages_gets_one_budget() {
    // The dearest that there is to handle, each in its way: messages that begin with a window,
    // blocks that give nothing, final blocks behind which it begins anew.
    let final_blocks = [0x03, 0x00].repeat(50_000);
    let empty_blocks = [&[0, 0, 0, 0xff, 0xff].repeat(20_000)[..], &[0]].concat();
    let cases = [
        (deflated::compressed(text(1).as_bytes()), 10),
        (deflated::compressed(b""), 7),
        (empty_blocks, 3),
        (final_blocks, 700),
    ];
    for (payload, turns_min) in cases {
        let mut bed = bed(DEDICATED);
        let flooder = open(&mut bed);
        flooder.set_buffers(1 << 20, 1 << 20);
        let neighbour = bed.open();
        let flood = compressed(TEXT, &payload).repeat(200_000 / payload.len().max(200) + 1);
        let mut rest = &flood[flooder.write(&flood)..];
        let (mut turns, mut heard) = (0, bed.log.borrow().len());
        while flooder.moved().to_engine_bytes > 0 || bed.reactor.usage().backlogs > 0 {
            rest = &rest[flooder.write(rest)..];
            neighbour.write_all(&message(PING, b"n"));
            bed.turn();
            assert_eq!(read_frames(&neighbour).len(), 1, "answered in the turn of its arrival");
            flooder.read_all();
            let now = bed.log.borrow().len();
            assert!(now - heard <= 130, "{} messages in one turn", now - heard);
            (turns, heard) = (turns + 1, now);
        }
        assert!(turns >= turns_min, "{turns} turns, not {turns_min}");
    }
}

#[test]
fn f25_corrupt_message_fails_with_1007_behind_those_before_it() {
    let mut bed = bed(DEDICATED);
    let peer = open(&mut bed);
    let id = bed.latest();
    let good = deflated::compressed(b"good");
    peer.write_all(&[compressed(TEXT, &good), compressed(TEXT, &[0x06])].concat());
    bed.turns(2);
    let (frames, _) = frames(&peer.read_all());
    assert_eq!(frames[0].payload, b"good", "too short to be compressed");
    assert_eq!(frames[1].close_code(), Some(1007));
    let failure = Failure::Protocol(ProtocolError::CorruptCompression);
    assert_eq!(bed.summary(id).cause, corewire::CloseCause::Failed(failure));
    peer.fin();
    bed.turns(3);
    bed.assert_empty();
}

#[test]
fn exhausted_decompressors_fail_with_1013_and_exhausted_compressors_send_as_it_is() {
    let mut bed = Bed::new(
        |settings| {
            compression(&mut settings.config, CompressionMode::Shared);
            settings.reactor.limits.inflate_bytes_max = 100 * KIB;
            settings.reactor.limits.deflate_bytes_max = 100 * KIB;
        },
        echo,
    );
    let peers: Vec<_> = (0..3).map(|_| (open(&mut bed), bed.latest())).collect();
    let text = text(1);
    let frame = compressed(TEXT, &deflated::compressed(text.as_bytes()));
    for (peer, _) in &peers {
        peer.write_all(&frame[..frame.len() - 1]);
        bed.turn();
    }
    // Two decompressors fit.
    let codes = read_frames(&peers[2].0).iter().map(Frame::close_code).collect::<Vec<_>>();
    assert_eq!(codes, [Some(1013)]);
    assert_eq!(bed.reactor.counters().pool_exhausted, 1);
    for (peer, id) in &peers[..2] {
        peer.write_all(&frame[frame.len() - 1..]);
        bed.turn();
        assert_eq!(bed.heard(*id), [Heard::Text(text.clone())]);
        assert_eq!(read_frames(peer), [Frame::new(TEXT, text.as_bytes())]);
    }
}
