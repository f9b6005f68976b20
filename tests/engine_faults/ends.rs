//! How connections end: by the peer, by a reset, by us (rows T5, T6, F17 to F22).

use std::io::ErrorKind;
use std::time::Duration;

use corewire::{CloseCause, CloseCode, Failure, Initiator, ProtocolError};

use crate::sim_bed::{Bed, Heard, Occasion, echo, read_frames};
use crate::sim_link::End;
use crate::sim_peer::{
    BINARY, CONTINUATION, Frame, PING, PONG, TEXT, answers, close, frames, masked, message,
    plain_request, upgrade_request,
};

#[test]
fn t5_refused_peer_that_still_sends_sees_the_status_and_no_reset() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    peer.write_all(
        b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    );
    bed.turns(2);
    for _ in 0..20 {
        peer.write_all(&[b'x'; 10_000]);
        bed.turn();
    }
    assert_eq!(peer.end_seen(), End::Fin, "our side is shut, nothing is reset");
    assert_eq!(answers(&peer.read_all())[0].0, 405);
    peer.fin();
    bed.turns(2);
    assert_eq!(peer.end_seen(), End::Fin);
    bed.assert_empty();
}

#[test]
fn t5_failed_peer_that_still_sends_sees_the_code_and_no_reset() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.write_all(&masked(0x80 | 3, b"reserved opcode"));
    for _ in 0..20 {
        peer.write_all(&[b'x'; 10_000]);
        bed.turn();
    }
    let frames = read_frames(&peer);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].close_code(), Some(1002));
    assert_eq!(peer.end_seen(), End::Fin);
    peer.fin();
    bed.turns(2);
    assert_eq!(peer.end_seen(), End::Fin);
    bed.assert_empty();
}

#[test]
fn t5_at_most_256_kib_are_thrown_away() {
    for request in [b"nonsense\r\n\r\n".to_vec(), upgrade_request("/", "")] {
        let mut bed = Bed::new(|settings| settings.receive_buffer_bytes = 4096, echo);
        let peer = bed.sim.connect(bed.address);
        peer.write_all(&request);
        bed.turns(2);
        peer.write_all(&masked(0xF0, b"bad"));
        let before = peer.moved().received_bytes;
        peer.write_all(&vec![b'x'; 3 << 20]);
        bed.turns(100);
        let thrown_away = peer.moved().received_bytes - before;
        assert!((256 << 10..=(256 << 10) + 2 * 4096).contains(&thrown_away), "{thrown_away}");
        assert_eq!(peer.end_seen(), End::Reset, "there was input left");
        bed.assert_empty();
    }
}

#[test]
fn t5_silent_peer_is_parted_from_after_a_second() {
    let mut bed = Bed::echo();
    let peer = bed.sim.connect(bed.address);
    peer.write_all(b"nonsense\r\n\r\n");
    bed.turns(2);
    assert_eq!(answers(&peer.read_all())[0].0, 400);
    bed.run_for(Duration::from_millis(999));
    assert_eq!(bed.reactor.usage().sockets, 1);
    bed.run_for(Duration::from_millis(2));
    bed.assert_empty();
}

#[test]
fn t6_data_and_end_in_one_event_are_both_handled_in_one_turn() {
    for end in [End::Fin, End::Reset] {
        let mut bed = Bed::echo();
        let peer = bed.open();
        let id = bed.latest();
        peer.write_all(&message(TEXT, b"last words"));
        if end == End::Fin {
            peer.fin();
        } else {
            peer.reset();
        }
        bed.turn();
        let heard = bed.heard(id);
        assert_eq!(heard[0], Heard::Text("last words".into()));
        let (entry, summary) = bed.closed(id).unwrap();
        assert_eq!(entry.turn, bed.turn_count());
        assert_eq!((summary.code, summary.initiator), (CloseCode::ABNORMAL, Initiator::Peer));
        if end == End::Fin {
            assert_eq!(summary.cause, CloseCause::EndOfStream);
            assert_eq!(summary.unsent_messages, 0);
            assert_eq!(read_frames(&peer), [Frame::new(TEXT, b"last words")]);
        } else {
            assert_eq!(summary.cause, CloseCause::Transport(ErrorKind::ConnectionReset));
            assert_eq!(summary.unsent_messages, 1, "nobody was there to take the echo");
        }
        bed.assert_empty();
    }
}

#[test]
fn t6_short_reads_with_an_end_in_the_event_are_read_on_to_the_end() {
    for end in [End::Fin, End::Reset] {
        let mut bed = Bed::echo();
        let peer = bed.open();
        for text in [b"one", b"two", b"six"] {
            peer.write_all(&message(TEXT, text));
        }
        if end == End::Fin {
            peer.fin();
        } else {
            peer.reset();
        }
        bed.sim.shorten(crate::sim_world::Call::Receive, &[1, 5, 9, 1]);
        bed.turn();
        let heard = bed.heard(bed.latest());
        assert_eq!(heard[..3], ["one", "two", "six"].map(|text| Heard::Text(text.into())));
        assert!(bed.closed(bed.latest()).is_some());
        bed.assert_empty();
    }
}

#[test]
fn request_and_end_of_stream_in_one_event_are_answered() {
    for (request, status) in [(plain_request("/x"), 200), (b"nonsense\r\n\r\n".to_vec(), 400)] {
        let mut bed = Bed::echo();
        let peer = bed.sim.connect(bed.address);
        bed.turn();
        peer.set_buffers(1 << 20, 16);
        peer.write_all(&request);
        peer.fin();
        let mut answer = Vec::new();
        for _ in 0..100 {
            bed.turn();
            answer.extend(peer.read_all());
        }
        let answers = answers(&answer);
        assert_eq!(answers.len(), 1, "{}", String::from_utf8_lossy(&answer));
        assert_eq!(answers[0].0, status);
        assert_eq!(peer.end_seen(), End::Fin);
        bed.assert_empty();
    }
}

// RFC 6455 §7.1.1
#[test]
fn f17_server_closes_first_behind_the_echo_of_a_close() {
    for payload in [&[][..], &1000_u16.to_be_bytes(), &[&4999_u16.to_be_bytes()[..], b"x"].concat()]
    {
        let mut bed = Bed::echo();
        let peer = bed.open();
        peer.write_all(&message(8, payload));
        bed.turn();
        assert_eq!(read_frames(&peer), [Frame::new(8, &payload[..payload.len().min(2)])]);
        assert!(bed.closed(bed.latest()).is_some());
        // The peer reads the end of the stream, its own is open: the socket is shut, not closed.
        assert!(peer.is_at_end());
        assert_eq!((peer.end_seen(), bed.reactor.usage().sockets), (End::Fin, 1));
        bed.run_for(Duration::from_millis(999));
        assert_eq!(bed.reactor.usage().sockets, 1);
        bed.run_for(Duration::from_millis(2));
        assert_eq!(peer.end_seen(), End::Fin);
        bed.assert_empty();
    }
}

#[test]
fn f17_server_closes_first_though_the_close_was_its_own() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                ctx.close(CloseCode::NORMAL, "").unwrap();
            }
        },
    );
    let peer = bed.open();
    peer.write_all(&message(TEXT, b"close"));
    bed.turn();
    assert_eq!(read_frames(&peer).last().and_then(Frame::close_code), Some(1000));
    assert_eq!(peer.end_seen(), End::None, "the peer's Close is waited for");
    peer.write_all(&close(1000));
    bed.turn();
    assert_eq!((peer.end_seen(), bed.reactor.usage().sockets), (End::Fin, 1));
    peer.fin();
    bed.turns(2);
    bed.assert_empty();
}

#[test]
fn f17_echo_of_a_close_leaves_whole_before_the_server_closes() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.set_buffers(1 << 20, 1000);
    peer.write_all(&[message(TEXT, &[b'x'; 5000]), close(1000)].concat());
    let mut received = Vec::new();
    while peer.end_seen() == End::None {
        assert!(frames(&received).0.iter().all(|frame| frame.opcode != 8), "{}", received.len());
        received.extend(peer.read(100));
        bed.turn();
    }
    received.extend(peer.read_all());
    assert_eq!(frames(&received).0.last().and_then(Frame::close_code), Some(1000));
    assert_eq!(peer.end_seen(), End::Fin);
}

#[test]
fn f18_what_stands_behind_a_close_is_ignored_and_what_stands_before_it_is_answered() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    let mut bytes = message(TEXT, b"before");
    bytes.extend(message(PING, b"p"));
    bytes.extend(close(3000));
    bytes.extend(message(TEXT, b"behind"));
    bytes.extend(b"not even a frame");
    peer.write_all(&bytes);
    bed.turns(2);
    let expected = [
        Frame::new(TEXT, b"before"),
        Frame::new(PONG, b"p"),
        Frame::new(8, &3000_u16.to_be_bytes()),
    ];
    assert_eq!(read_frames(&peer), expected);
    assert_eq!(peer.end_seen(), End::Fin, "the server closes first");
    let summary = bed.summary(bed.latest());
    assert!(summary.is_clean());
    assert_eq!((summary.code.as_u16(), summary.unsent_messages), (3000, 0));
    peer.fin();
    bed.turn();
    bed.assert_empty();
}

#[test]
fn f19_close_inside_a_message_ends_cleanly_and_the_summary_tells_of_the_rest() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.write_all(&masked(TEXT, b"unfinished"));
    peer.write_all(&close(1000));
    bed.turn();
    assert_eq!(read_frames(&peer), [Frame::new(8, &1000_u16.to_be_bytes())]);
    let summary = bed.summary(bed.latest());
    assert!(summary.is_clean());
    assert_eq!(summary.incomplete_bytes, 10);
    assert_eq!(bed.heard(bed.latest()).len(), 1, "only on_close");
    peer.fin();
    bed.turn();
    bed.assert_empty();
}

#[test]
fn f20_end_of_stream_without_close_is_1006_within_a_turn() {
    let starts = [
        Vec::new(),
        message(BINARY, b"torn header")[..1].to_vec(),
        message(BINARY, b"torn payload")[..10].to_vec(),
        masked(BINARY, b"first fragment"),
        [masked(BINARY, b"first fragment"), message(PING, b"torn ping")[..8].to_vec()].concat(),
    ];
    for start in starts {
        let mut bed = Bed::echo();
        let peer = bed.open();
        peer.write_all(&start);
        bed.turn();
        peer.fin();
        bed.turn();
        let summary = bed.summary(bed.latest());
        assert_eq!((summary.code, summary.cause), (CloseCode::ABNORMAL, CloseCause::EndOfStream));
        assert_eq!(peer.end_seen(), End::Fin);
        bed.assert_empty();
    }
}

#[test]
fn f20_half_closed_peer_still_gets_what_was_queued() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.set_buffers(1 << 20, 1000);
    let payload = vec![b'x'; 20_000];
    peer.write_all(&message(TEXT, &payload));
    peer.fin();
    bed.turn();
    assert_eq!(bed.closed(bed.latest()), None, "output waits");
    let mut received = Vec::new();
    for _ in 0..60 {
        received.extend(peer.read_all());
        bed.turn();
    }
    assert_eq!(frames(&received).0, [Frame::new(TEXT, &payload)]);
    let summary = bed.summary(bed.latest());
    assert_eq!((summary.code, summary.unsent_messages), (CloseCode::ABNORMAL, 0));
    bed.assert_empty();
}

#[test]
fn f20_half_closed_peer_that_does_not_read_is_given_five_seconds() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    peer.set_buffers(1 << 20, 1000);
    peer.write_all(&message(TEXT, &[b'x'; 20_000]));
    peer.fin();
    bed.run_for(Duration::from_secs(20));
    let (entry, summary) = bed.closed(bed.latest()).unwrap();
    assert_eq!(entry.at, Duration::from_secs(5));
    assert_eq!(summary.cause, CloseCause::EndOfStream);
    assert_eq!((summary.unsent_messages, summary.unsent_bytes), (1, 19_004));
    bed.assert_empty();
}

#[test]
fn f21_reset_at_any_byte_ends_once_and_leaks_nothing() {
    let mut script = upgrade_request("/", "");
    script.extend(message(TEXT, b"whole"));
    script.extend(masked(BINARY, b"one"));
    script.extend(message(PING, b"ping"));
    script.extend(masked(CONTINUATION, b"two"));
    script.extend(masked(0x80 | CONTINUATION, b"three"));
    script.extend(close(1000));
    for at in 0..=script.len() {
        let mut bed = Bed::echo();
        let peer = bed.sim.connect(bed.address);
        peer.write_all(&script[..at]);
        bed.turns(at % 4);
        peer.reset();
        bed.turns(3);
        bed.assert_empty();
        let log = bed.log.borrow();
        let count =
            |heard: fn(&Heard) -> bool| log.iter().filter(|entry| heard(&entry.heard)).count();
        let opened = count(|heard| *heard == Heard::Open);
        assert_eq!(opened, count(|heard| matches!(heard, Heard::Close(_))), "{at}");
        assert!(opened <= 1);
    }
}

#[test]
fn f22_messages_in_front_of_a_bad_frame_are_delivered_and_answered_first() {
    let mut bed = Bed::echo();
    let peer = bed.open();
    let mut bytes = message(TEXT, b"one");
    bytes.extend(message(TEXT, b"two"));
    bytes.extend([0x81, 0x01, b'u']);
    peer.write_all(&bytes);
    bed.turn();
    let frames = read_frames(&peer);
    assert_eq!(frames[..2], [Frame::new(TEXT, b"one"), Frame::new(TEXT, b"two")]);
    assert_eq!(frames[2].close_code(), Some(1002));
    let heard = bed.heard(bed.latest());
    assert_eq!(heard[..2], [Heard::Text("one".into()), Heard::Text("two".into())]);
    let cause = CloseCause::Failed(Failure::Protocol(ProtocolError::UnmaskedFrame));
    assert_eq!(bed.summary(bed.latest()).cause, cause);
}

#[test]
fn peers_close_is_read_although_reading_had_stopped_for_want_of_room() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                let _ = ctx.send_binary(&vec![7; 600 << 10]);
                ctx.close(CloseCode::NORMAL, "done").unwrap();
            }
        },
    );
    let peer = bed.open();
    peer.set_buffers(1 << 20, 64 << 10);
    peer.write_all(&message(TEXT, b"go"));
    bed.turns(2);
    let mut received = Vec::new();
    for _ in 0..20 {
        received.extend(peer.read_all());
        bed.turn();
    }
    let (frames, _) = frames(&received);
    assert_eq!(frames.last().and_then(Frame::close_code), Some(1000));
    peer.write_all(&close(1000));
    bed.turn();
    assert!(bed.summary(bed.latest()).is_clean(), "{:?}", bed.closed(bed.latest()));
}

#[test]
fn aborted_connection_ends_at_once_and_its_queue_is_counted_as_lost() {
    let mut bed = Bed::new(
        |_| {},
        |ctx, occasion| {
            if let Occasion::Message(_) = occasion {
                assert!(ctx.send_text("lost").is_taken());
                ctx.here().abort();
                assert!(!ctx.send_text("not even taken").is_taken());
            }
        },
    );
    let peer = bed.open();
    peer.write_all(&message(TEXT, b"abort"));
    peer.write_all(&message(TEXT, b"never heard"));
    bed.turn();
    assert_eq!(peer.read_all(), b"");
    let summary = bed.summary(bed.latest());
    assert_eq!(summary.cause, CloseCause::Aborted);
    assert_eq!((summary.unsent_messages, summary.unsent_bytes), (1, 6));
    assert_eq!(bed.heard(bed.latest()).len(), 2);
    bed.assert_empty();
}
