//! What comes behind the request that was accepted: frames, and nothing else.

use corewire::{CloseCause, CloseCode, Failure, Initiator};

use super::bed::*;

// RFC 6455 §4.1: a client may send as soon as it has the answer; some do not wait so long.
#[test]
fn frames_in_the_segment_of_the_request_are_the_first_messages_in_order() {
    let mut bed = Bed::new();
    let mut bytes = upgrade(&[]).into_bytes();
    for payload in ["one", "two", "three"] {
        bytes.extend(masked(0x81, payload.as_bytes()));
    }
    bytes.extend(masked(0x89, b"ping"));
    bytes.extend(masked(0x01, b"fo"));
    bytes.extend(masked(0x80, b"ur"));
    let mut expected = ACCEPTED.as_bytes().to_vec();
    expected.extend(b"\x81\x03one\x81\x03two\x81\x05three\x8a\x04ping\x81\x04four");
    for piece_bytes in [bytes.len(), 1, 7] {
        let mut client = bed.connect();
        bed.write_pieces(&mut client, bytes.chunks(piece_bytes));
        assert_eq!(bed.bytes(&mut client, expected.len()), expected);
    }
    assert_eq!(bed.app().messages, 12);
    bed.expect_empty();
}

#[test]
fn frame_begun_in_the_segment_of_the_request_is_finished_by_the_next() {
    let mut bed = Bed::new();
    let frame = masked(0x82, &[b'x'; 100]);
    for cut in 1..frame.len() {
        let mut client = bed.connect();
        let first = [upgrade(&[]).as_bytes(), &frame[..cut]].concat();
        bed.write_pieces(&mut client, [&first[..], &frame[cut..]]);
        assert_eq!(bed.answer(&mut client).status_line, SWITCHING);
        assert_eq!(bed.bytes(&mut client, 102)[..3], *b"\x82\x64x", "{cut}");
    }
    bed.expect_empty();
}

#[test]
fn request_frames_and_the_end_of_the_stream_in_one_go_are_all_seen() {
    let mut bed = Bed::new();
    let mut client = bed.connect();
    bed.write(&mut client, [upgrade(&[]).as_bytes(), &masked(0x81, b"one")].concat());
    client.shut();
    let expected = [ACCEPTED.as_bytes(), b"\x81\x03one"].concat();
    assert_eq!(bed.bytes(&mut client, expected.len()), expected);
    bed.expect_end(&mut client);
    bed.expect_empty();
    let closed = &bed.app().closed[0];
    assert_eq!((closed.code, &closed.cause), (CloseCode::ABNORMAL, &CloseCause::EndOfStream));
}

// RFC 6455 §5.2: `G` is a reserved bit, and no masked frame either.
#[test]
fn http_behind_the_upgrade_is_taken_for_frames_and_fails_with_1002() {
    let mut bed = Bed::new();
    for behind in [plain("GET /health", &[]), upgrade(&[]), "\r\n".to_owned(), "POST".to_owned()] {
        // In the segment of the request, and when the answer is there.
        let mut client = bed.connect();
        bed.write(&mut client, upgrade(&[]) + &behind);
        assert_eq!(bed.answer(&mut client).status_line, SWITCHING);
        bed.expect_fail(&mut client, CloseCode::PROTOCOL_ERROR);
        let (mut client, _) = bed.accept(upgrade(&[]));
        bed.write(&mut client, &behind);
        bed.expect_fail(&mut client, CloseCode::PROTOCOL_ERROR);
    }
    bed.expect_empty();
    assert!(bed.app().requests.iter().all(|request| request == "GET /"));
    for closed in &bed.app().closed {
        assert_eq!((closed.code, closed.initiator), (CloseCode::PROTOCOL_ERROR, Initiator::Local));
        assert!(matches!(closed.cause, CloseCause::Failed(Failure::Protocol(_))), "{closed:?}");
    }
}
