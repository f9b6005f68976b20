//! What is counted. Every case is asserted and warmed up once before it is counted.

use std::hint::black_box;
use std::thread;

use corewire::Role;
use corewire::fuzzing::wire::{
    HEADER_BYTES_MAX, Header, HeaderRules, MaskingKey, Rsv1, Utf8Validator, mask,
};

use crate::count::counted_section;
use crate::endpoint::Endpoint;
use crate::material::{
    ACCEPT_KEY, FRAMES_PER_READ, REQUEST, SMALL, masked_frames, masked_text, mixed_text,
    unmasked_frames,
};
use crate::memory_net::EchoLoop;
use crate::parts::{Cork, Timers, answer_request};

/// A loop by itself, and the same with another one on a thread beside it. Loops share nothing, so
/// a message takes as many instructions.
pub const ALONE: &str = "echo of a 20-byte message through the loop, 1 per read";
pub const BESIDE_ANOTHER: &str = "echo of a 20-byte message through one of two loops, 1 per read";

/// One count.
pub struct Case {
    pub name: &'static str,
    /// How many operations one round does.
    pub operations: u32,
    pub run: fn(),
}

/// Hot paths first.
pub const CASES: &[Case] = &[
    Case {
        name: "echo of a 20-byte message through the loop, 16 per read",
        operations: PER_READ,
        run: || echo_through_loop(FRAMES_PER_READ),
    },
    Case { name: ALONE, operations: 1, run: || echo_through_loop(1) },
    Case { name: BESIDE_ANOTHER, operations: 2, run: echo_through_two_loops },
    Case {
        name: "echo of a 20-byte message through the sans-IO connection, 16 per read",
        operations: PER_READ,
        run: || echo(Role::Server, masked_frames(FRAMES_PER_READ, &SMALL), 2),
    },
    Case {
        name: "echo of a 20-byte message through the sans-IO client, 16 per read",
        operations: PER_READ,
        run: || echo(Role::Client, unmasked_frames(FRAMES_PER_READ, &SMALL), 6),
    },
    Case {
        name: "receive a 20-byte message as server, 16 per read",
        operations: PER_READ,
        run: || receive(Role::Server, masked_frames(FRAMES_PER_READ, &SMALL)),
    },
    Case {
        name: "receive a 20-byte message as client, 16 per read",
        operations: PER_READ,
        run: || receive(Role::Client, unmasked_frames(FRAMES_PER_READ, &SMALL)),
    },
    Case { name: "receive 16 KiB of mixed text as server", operations: 1, run: receive_text },
    Case {
        name: "send a 20-byte message as server, 16 per write",
        operations: PER_READ,
        run: || send(Role::Server, &SMALL, 2),
    },
    Case {
        name: "send a 20-byte message as client, 16 per write",
        operations: PER_READ,
        run: || send(Role::Client, &SMALL, 6),
    },
    Case {
        name: "send a 600-byte message as server, 16 per write",
        operations: PER_READ,
        run: || send(Role::Server, &[7; 600], 4),
    },
    Case {
        name: "send a 600-byte message as client, 16 per write",
        operations: PER_READ,
        run: || send(Role::Client, &[7; 600], 8),
    },
    Case { name: "parse a short header", operations: PER_READ, run: parse_short_header },
    Case { name: "parse a header with a 16-bit length", operations: PER_READ, run: parse_header },
    Case { name: "encode a header", operations: PER_READ, run: encode_header },
    Case { name: "mask 20 bytes", operations: PER_READ, run: || apply_mask(20) },
    Case { name: "mask 1 KiB", operations: PER_READ, run: || apply_mask(1024) },
    Case { name: "validate 20 bytes of ASCII", operations: PER_READ, run: validate },
    Case { name: "cork a 20-byte frame, 16 per write", operations: PER_READ, run: cork },
    Case { name: "re-arm a timer, of 1,000", operations: TIMERS, run: rearm },
    Case { name: "cancel and insert a timer, of 1,000", operations: TIMERS, run: replace },
    Case { name: "a millisecond of 1,000 timers", operations: 1000, run: pass_time },
    Case { name: "answer an opening handshake", operations: 1, run: shake_hands },
];

fn echo_through_loop(frames_per_read: usize) {
    let mut echo = EchoLoop::new();
    let written = frames_per_read * (2 + SMALL.len());
    assert_eq!(echo.turn(&masked_frames(frames_per_read, &SMALL)), written);
    counted_section(&mut || {
        black_box(echo.turn_again());
    });
}

/// Counted on both threads.
fn echo_through_two_loops() {
    let beside = thread::spawn(|| echo_through_loop(1));
    echo_through_loop(1);
    beside.join().expect("it echoes as the other one does");
}

/// Masking twice is masking not at all, so that one buffer does for all rounds.
fn echo(role: Role, mut read: Vec<u8>, header_bytes: usize) {
    let mut endpoint = Endpoint::new(role);
    assert_eq!(endpoint.echo(&mut read), FRAMES_PER_READ * (header_bytes + SMALL.len()));
    counted_section(&mut || {
        black_box(endpoint.echo(black_box(&mut read)));
    });
}

fn receive(role: Role, mut read: Vec<u8>) {
    let mut endpoint = Endpoint::new(role);
    assert_eq!(endpoint.receive(&mut read), FRAMES_PER_READ * SMALL.len());
    counted_section(&mut || {
        black_box(endpoint.receive(black_box(&mut read)));
    });
}

/// The text is masked anew for each round, which is counted too.
fn receive_text() {
    let read = masked_text(&mixed_text(16 * 1024));
    let mut endpoint = Endpoint::new(Role::Server);
    assert_eq!(endpoint.receive(&mut read.clone()), 16 * 1024);
    let mut fresh = read.clone();
    counted_section(&mut || {
        fresh.copy_from_slice(&read);
        black_box(endpoint.receive(black_box(&mut fresh)));
    });
}

fn send<const N: usize>(role: Role, payload: &[u8; N], header_bytes: usize) {
    let mut endpoint = Endpoint::new(role);
    let written = FRAMES_PER_READ * (header_bytes + payload.len());
    assert_eq!(endpoint.send(payload, FRAMES_PER_READ), written);
    counted_section(&mut || {
        black_box(endpoint.send(payload, FRAMES_PER_READ));
    });
}

/// As the receiver does it first for whatever comes.
fn parse_short_header() {
    let frame = masked_frames(1, &SMALL);
    let parsed = Header::parse_short(&frame, Role::Server);
    assert!(parsed.is_some_and(|parsed| parsed.header_bytes == 6));
    counted_section(&mut || {
        for _ in 0..PER_READ {
            let _ = black_box(Header::parse_short(black_box(&frame), black_box(Role::Server)));
        }
    });
}

fn parse_header() {
    let frame = masked_frames(1, &[0; 1000]);
    let parsed = Header::parse(&frame, SERVER);
    assert!(parsed.is_ok_and(|parsed| parsed.is_some_and(|parsed| parsed.header_bytes == 8)));
    counted_section(&mut || {
        for _ in 0..PER_READ {
            let _ = black_box(Header::parse(black_box(&frame), black_box(SERVER)));
        }
    });
}

fn encode_header() {
    let frame = unmasked_frames(1, &SMALL);
    let rules = HeaderRules { role: Role::Client, rsv1: Rsv1::Forbidden };
    let Ok(Some(parsed)) = Header::parse(&frame, rules) else { panic!("the header is valid") };
    let mut out = [0; HEADER_BYTES_MAX];
    assert_eq!(parsed.header.encode(&mut out), 2);
    assert_eq!(out[..2], frame[..2]);
    counted_section(&mut || {
        for _ in 0..PER_READ {
            black_box(black_box(&parsed.header).encode(black_box(&mut out)));
        }
    });
}

fn apply_mask(payload_bytes: usize) {
    let key = MaskingKey::from_bytes([0x37, 0xfa, 0x21, 0x3d]);
    let mut frame = vec![0; BEHIND_HEADER + payload_bytes];
    let payload = &mut frame[BEHIND_HEADER..];
    mask::apply(payload, key);
    assert!(payload.chunks_exact(4).all(|word| word == [0x37, 0xfa, 0x21, 0x3d]));
    counted_section(&mut || {
        for _ in 0..PER_READ {
            mask::apply(black_box(&mut *payload), black_box(key));
        }
    });
}

fn validate() {
    let validate = |text: &[u8]| {
        let mut validator = Utf8Validator::default();
        validator.validate(text).is_ok() && validator.finish().is_ok()
    };
    let frame = [&[0; BEHIND_HEADER][..], &SMALL].concat();
    let payload = &frame[BEHIND_HEADER..];
    assert!(validate(payload) && !validate(b"twenty \xFF"));
    counted_section(&mut || {
        for _ in 0..PER_READ {
            black_box(validate(black_box(payload)));
        }
    });
}

fn cork() {
    let mut cork = Cork::new();
    let written = FRAMES_PER_READ * (2 + SMALL.len());
    assert_eq!(cork.cycle(&[0x82, 20], &SMALL, FRAMES_PER_READ), written);
    counted_section(&mut || {
        black_box(cork.cycle(&[0x82, 20], &SMALL, FRAMES_PER_READ));
    });
}

fn rearm() {
    let mut timers = Timers::new(TIMERS as usize);
    timers.rearm_all();
    counted_section(&mut || timers.rearm_all());
}

fn replace() {
    let mut timers = Timers::new(TIMERS as usize);
    timers.replace_all();
    counted_section(&mut || timers.replace_all());
}

fn pass_time() {
    let mut timers = Timers::new(TIMERS as usize);
    assert!(timers.pass_second() > 0);
    counted_section(&mut || {
        black_box(timers.pass_second());
    });
}

fn shake_hands() {
    let mut answer = Vec::new();
    answer_request(REQUEST, &mut answer);
    assert!(answer.strip_suffix(b"\r\n\r\n").is_some_and(|head| head.ends_with(ACCEPT_KEY)));
    counted_section(&mut || answer_request(black_box(REQUEST), black_box(&mut answer)));
}

const PER_READ: u32 = FRAMES_PER_READ as u32;
const TIMERS: u32 = 1000;

const SERVER: HeaderRules = HeaderRules { role: Role::Server, rsv1: Rsv1::Forbidden };

/// Where a short masked frame's payload begins, so that it is aligned as in a read.
const BEHIND_HEADER: usize = 6;
