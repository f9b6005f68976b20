//! Peers that read slowly or not at all: all of it arrives, once, and what does not is told.

use std::time::Duration;

use bytes::Bytes;
use corewire::{CloseCause, CloseSummary, Context, Message, Opcode, Part, PreparedMessage, limits};
use rustls::SupportedProtocolVersion;

use crate::sim_bed::{Bed, Occasion};
use crate::sim_peer::{
    BINARY, PING, PONG, TEXT, answers, close, frames, message, messages, plain_request, split_head,
    upgrade_request,
};
use crate::tls_peer::{TlsPeer, VERSIONS, parties, tls_echo};

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// A request whose answer of plain HTTP repeats its path.
fn long_request(lines: &str) -> Vec<u8> {
    let path = "a".repeat(7000);
    format!("GET /{path} HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n").into_bytes()
}

/// What happens while the answer is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    KeepAlive,
    ConnectionClose,
    Drain,
}

impl Meanwhile {
    fn begin(self, bed: &mut Bed) {
        bed.turns(3);
        if self == Self::Drain {
            bed.reactor.handle().shutdown(Duration::from_secs(60)).unwrap();
        }
    }
}

#[test]
fn answer_of_plain_http_to_a_slow_reader_arrives_whole_as_without_tls() {
    for meanwhile in [Meanwhile::KeepAlive, Meanwhile::ConnectionClose, Meanwhile::Drain] {
        let lines =
            if meanwhile == Meanwhile::ConnectionClose { "Connection: close\r\n" } else { "" };
        let request = long_request(lines);
        let mut bed = Bed::echo();
        let plain = bed.sim.connect(bed.address);
        plain.set_buffers(1 << 20, 1000);
        plain.write_all(&request);
        meanwhile.begin(&mut bed);
        let mut expected = Vec::new();
        for _ in 0..20 {
            bed.run_for(Duration::from_secs(1));
            expected.extend(plain.read(1000));
        }
        assert!(expected.len() > 7000);
        for version in VERSIONS {
            let (mut bed, client) = tls_echo(version);
            let mut peer = TlsPeer::connect(&bed, &client);
            peer.shake_hands(&mut bed);
            peer.socket.set_buffers(1 << 20, 1000);
            peer.say(&request);
            peer.push();
            meanwhile.begin(&mut bed);
            for _ in 0..20 {
                bed.run_for(Duration::from_secs(1));
                peer.pull_at_most(1000);
            }
            assert!(peer.received == expected, "{meanwhile:?}: {} bytes", peer.received.len());
            assert!(peer.is_ended, "{meanwhile:?}");
            bed.run_for(Duration::from_secs(2));
            bed.assert_empty();
        }
    }
}

/// How the connection of a peer ended that has read a little every second, and what was missing of
/// the bytes that it should have got.
fn slow_end(
    version: &'static SupportedProtocolVersion,
    begin: impl Fn(&mut TlsPeer, &mut Bed),
    sent_bytes: usize,
) -> (CloseSummary, usize) {
    let (mut bed, client) = tls_echo(version);
    let mut peer = TlsPeer::open(&mut bed, &client);
    let id = bed.latest();
    peer.socket.set_buffers(1 << 20, 1000);
    begin(&mut peer, &mut bed);
    for _ in 0..20 {
        bed.run_for(Duration::from_secs(1));
        peer.pull_at_most(1000);
    }
    assert!(!peer.is_ended, "a stream that was cut off has no close_notify");
    bed.assert_empty();
    (bed.summary(id), sent_bytes - peer.received.len())
}

/// The most that is encrypted at once, and so told as unsent although some of it has left.
const BATCH_BYTES: u64 = 64 << 10;

#[test]
fn summary_tells_what_never_left_behind_a_closing_handshake_that_took_too_long() {
    for version in VERSIONS {
        for bytes in [12_000, 30_000, 100_000, 200_000] {
            let begin = |peer: &mut TlsPeer, bed: &mut Bed| {
                peer.say(&message(BINARY, &payload(bytes)));
                peer.say(&close(1000));
                peer.push();
                bed.turns(3);
            };
            let header_bytes = if bytes < 1 << 16 { 4 } else { 10 };
            let (summary, missing) = slow_end(version, begin, header_bytes + bytes + 4);
            let missing = missing as u64;
            assert_eq!(summary.cause, CloseCause::CloseTimeout);
            assert_eq!(summary.unsent_messages, 1);
            assert!(summary.unsent_bytes > 0);
            assert!(summary.unsent_bytes <= missing, "{} of {missing}", summary.unsent_bytes);
            assert!(summary.unsent_bytes + BATCH_BYTES >= missing, "{summary:?}: {missing}");
        }
    }
}

#[test]
fn summary_tells_what_never_left_behind_a_close_notify_of_the_peer() {
    for version in VERSIONS {
        let begin = |peer: &mut TlsPeer, bed: &mut Bed| {
            peer.say(&message(BINARY, &payload(12_000)));
            peer.push();
            bed.turns(2);
            peer.tls.send_close_notify();
            peer.push();
            bed.turns(2);
        };
        let (summary, missing) = slow_end(version, begin, 12_004);
        assert_eq!(summary.cause, CloseCause::EndOfStream);
        assert_eq!((summary.unsent_messages, summary.unsent_bytes), (1, missing as u64));
    }
}

#[test]
fn control_frames_that_never_left_are_no_message() {
    for version in VERSIONS {
        let begin = |peer: &mut TlsPeer, bed: &mut Bed| {
            peer.socket.set_buffers(1 << 20, 10);
            peer.say(&close(1000));
            peer.push();
            bed.turns(2);
            peer.socket.set_buffers(1 << 20, 0);
        };
        let (summary, missing) = slow_end(version, begin, 4);
        assert_eq!(summary.cause, CloseCause::CloseTimeout);
        assert_eq!((summary.unsent_messages, summary.unsent_bytes), (0, missing as u64));
    }
}

/// Answers each message by a sending of its own kind, in the words of the message.
fn sender(ctx: &mut Context<'_, ()>, occasion: Occasion<'_>) {
    let Occasion::Message(Message::Text(how)) = occasion else { return };
    let mut send = |bytes: &[u8]| match how {
        "slices" | "small" => ctx.send_binary(bytes),
        "shared" => ctx.here().send_bytes(Bytes::copy_from_slice(bytes)),
        "prepared" => ctx.here().send_prepared(&PreparedMessage::binary(bytes)),
        "parts" => {
            let (head, tail) = bytes.split_at(bytes.len() / 3);
            let (middle, tail) = tail.split_at(tail.len() / 2);
            let mut here = ctx.here();
            assert!(here.send_part(Opcode::Binary, head, Part::First).is_taken());
            assert!(here.send_part(Opcode::Binary, middle, Part::Middle).is_taken());
            here.send_part(Opcode::Binary, tail, Part::Last)
        }
        other => panic!("{other}"),
    };
    for bytes in sizes(how) {
        assert!(send(&payload(bytes)).is_taken());
    }
}

/// How many bytes the messages have that answer `how`.
fn sizes(how: &str) -> Vec<usize> {
    match how {
        // Frames of 2 to 40 bytes.
        "small" => (0..39).chain((0..39).rev()).collect(),
        _ => vec![3, 70_000, 0, 16_380, 40_000, 1],
    }
}

/// A bed whose TLS has all the memory it wants, or none but for sessions.
fn sending_bed(
    version: &'static SupportedProtocolVersion,
    tls_bytes_max: usize,
) -> (Bed, std::sync::Arc<rustls::ClientConfig>) {
    let (tls, client) = parties(version);
    let change = |settings: &mut crate::sim_bed::Settings| {
        settings.tls = Some(tls);
        settings.reactor.limits.tls_bytes_max = tls_bytes_max;
    };
    (Bed::new(change, sender), client)
}

/// Memory for TLS: plenty, a little, and none beyond a session and one in its handshake.
const MEMORIES: [usize; 3] = [1 << 30, SESSIONS_BYTES + 20_000, SESSIONS_BYTES];

const SESSIONS_BYTES: usize = limits::TLS_SESSION_BYTES + limits::TLS_HANDSHAKE_BYTES;

/// A connection that says nothing takes what is left.
fn take_the_rest(bed: &mut Bed) {
    let _ = bed.sim.connect(bed.address);
    bed.turns(2);
    assert_eq!(bed.reactor.usage().tls_sessions, 2);
}

/// Reads on in steps until nothing comes any more.
fn read_on(bed: &mut Bed, peer: &mut TlsPeer, step_bytes: usize) {
    let mut quiet = 0;
    while quiet < 5 {
        bed.turn();
        quiet = if peer.socket.moved().to_peer_bytes == 0 { quiet + 1 } else { 0 };
        peer.pull_at_most(step_bytes);
        assert_eq!(peer.failure, None);
    }
}

#[test]
fn whatever_the_kernel_holds_no_byte_of_any_sending_is_lost_or_doubled() {
    for version in VERSIONS {
        for memory in MEMORIES {
            for how in ["small", "slices", "shared", "prepared", "parts"] {
                let kernels = if how == "small" { 20..75 } else { 1000..1055 };
                for kernel_bytes in kernels.step_by(if how == "small" { 1 } else { 9 }) {
                    let (mut bed, client) = sending_bed(version, memory);
                    let mut peer = TlsPeer::open(&mut bed, &client);
                    take_the_rest(&mut bed);
                    peer.socket.set_buffers(1 << 20, kernel_bytes);
                    for _ in 0..2 {
                        peer.say(&message(TEXT, how.as_bytes()));
                        peer.push();
                        bed.turn();
                    }
                    read_on(&mut bed, &mut peer, kernel_bytes);
                    let got = messages(&peer.take_frames());
                    let sizes = sizes(how);
                    let sent = sizes.iter().chain(&sizes).map(|size| (BINARY, payload(*size)));
                    assert!(got == sent.collect::<Vec<_>>(), "{how}, {kernel_bytes}, {memory}");
                }
            }
        }
    }
}

#[test]
fn whatever_the_kernel_holds_no_byte_of_an_answer_is_lost_or_doubled() {
    for version in VERSIONS {
        for memory in MEMORIES {
            for kernel_bytes in (1000..1055).step_by(9) {
                let (mut bed, client) = sending_bed(version, memory);
                let mut peer = TlsPeer::connect(&bed, &client);
                peer.shake_hands(&mut bed);
                take_the_rest(&mut bed);
                peer.socket.set_buffers(1 << 20, kernel_bytes);
                for path in ["/large", "/small", "/large"] {
                    peer.say(&plain_request(path));
                }
                peer.say(&upgrade_request("/", ""));
                peer.say(&message(TEXT, b"small"));
                peer.push();
                read_on(&mut bed, &mut peer, kernel_bytes);
                let answers = answers(&peer.received);
                assert_eq!(answers.iter().map(|it| it.0).collect::<Vec<_>>(), [200, 200, 200, 101]);
                assert!(answers[0].1 == vec![b'x'; 100_000] && answers[2] == answers[0]);
                assert_eq!(answers[1].1, b"answer to /small");
                let begin =
                    peer.received.windows(13).position(|it| it == b"HTTP/1.1 101 ").unwrap();
                let (_, rest) = split_head(&peer.received[begin..]).unwrap();
                let got = messages(&frames(rest).0);
                let sent = sizes("small").into_iter().map(|size| (BINARY, payload(size)));
                assert!(got == sent.collect::<Vec<_>>(), "{kernel_bytes}, {memory}");
            }
        }
    }
}

#[test]
fn pongs_that_give_way_to_newer_ones_break_no_frame() {
    for version in VERSIONS {
        for memory in MEMORIES {
            for kernel_bytes in (1000..1055).chain(20..75) {
                let (mut bed, client) = sending_bed(version, memory);
                let mut peer = TlsPeer::open(&mut bed, &client);
                take_the_rest(&mut bed);
                peer.socket.set_buffers(1 << 20, kernel_bytes);
                peer.say(&message(TEXT, b"small"));
                for number in 0..30_u8 {
                    peer.say(&message(PING, &vec![number; usize::from(number)]));
                    if number % 3 == 0 {
                        peer.push();
                        bed.turn();
                        peer.pull_at_most(kernel_bytes / 4);
                    }
                }
                peer.push();
                read_on(&mut bed, &mut peer, kernel_bytes);
                let frames = peer.take_frames();
                let sent = sizes("small").into_iter().map(|size| (BINARY, payload(size)));
                assert!(messages(&frames) == sent.collect::<Vec<_>>(), "{kernel_bytes}");
                let pongs = frames.iter().filter(|frame| frame.opcode == PONG);
                let lengths = pongs
                    .map(|pong| {
                        let number = pong.payload.len();
                        assert_eq!(pong.payload, vec![number as u8; number]);
                        number
                    })
                    .collect::<Vec<_>>();
                assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
                assert_eq!(lengths.last(), Some(&29), "{kernel_bytes}");
            }
        }
    }
}
