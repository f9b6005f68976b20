//! Rows C2, C3 and C5: a 101 that is none, and what stands behind one that is.

use corewire::DialError;
use corewire::opening::ClientHandshakeError;

use crate::client_bed::{Bed, Heard, Settings};
use crate::naive::Frame;
use crate::sim_link::End;
use crate::sim_server::Request;

/// What a bed like this says to an answer; the connection is closed without a word.
fn error(change: impl FnOnce(&mut Settings), answer: impl Fn(&Request) -> Vec<u8>) -> DialError {
    let mut bed = Bed::new(change);
    let (id, server, request) = bed.dial_and_ask();
    server.peer.write_all(&answer(&request));
    bed.turn();
    assert_eq!(bed.failure(id).data, 1);
    bed.turn();
    bed.assert_empty();
    assert_ne!(server.peer.end_seen(), End::None);
    assert_eq!(server.peer.read_all(), b"");
    bed.reactor.handler().failures.remove(0).error
}

fn handshake_error(
    change: impl FnOnce(&mut Settings),
    answer: impl Fn(&Request) -> Vec<u8>,
) -> ClientHandshakeError {
    match error(change, answer) {
        DialError::Handshake(error) => error,
        error => panic!("{error:?}"),
    }
}

/// The right answer with `line` in the place of the line that begins like `field`.
fn with_line(request: &Request, field: &str, line: &str) -> Vec<u8> {
    let right = String::from_utf8(request.switching("")).unwrap();
    let lines = right.split_inclusive("\r\n");
    let lines = lines.map(|own| if own.starts_with(field) { line } else { own });
    lines.collect::<String>().into_bytes()
}

#[test]
fn c2_wrong_or_missing_proof_is_named() {
    use ClientHandshakeError as E;
    let right = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for (field, line, expected) in [
        ("Upgrade", "", E::MissingUpgrade),
        ("Upgrade", "Upgrade: h2c\r\n", E::WrongUpgrade),
        ("Upgrade", "Upgrade: websocket\r\nUpgrade: websocket\r\n", E::WrongUpgrade),
        ("Connection", "", E::MissingConnection),
        ("Connection", "Connection: keep-alive\r\n", E::WrongConnection),
        ("Sec-WebSocket-Accept", "", E::MissingAccept),
        ("Sec-WebSocket-Accept", "Sec-WebSocket-Accept: \r\n", E::WrongAccept),
        // The answer to somebody else's key: the RFC's example.
        ("Sec-WebSocket-Accept", right, E::WrongAccept),
        ("HTTP/1.1", "HTTP/1.0 101 Switching Protocols\r\n", E::UpgradeInHttp10),
    ] {
        let told = handshake_error(|_| {}, |request| with_line(request, field, line));
        assert_eq!(told, expected, "{line}");
    }
    let twice = |request: &Request| {
        let accept = format!("Sec-WebSocket-Accept: {}\r\n", request.accept_key());
        request.switching(&accept)
    };
    assert_eq!(handshake_error(|_| {}, twice), E::WrongAccept);
    let key = |request: &Request| {
        let line = format!("Sec-WebSocket-Accept: {}\r\n", request.key());
        with_line(request, "Sec-WebSocket-Accept", &line)
    };
    assert_eq!(handshake_error(|_| {}, key), E::WrongAccept, "the key is not its proof");
}

#[test]
fn c2_keys_differ() {
    let mut bed = Bed::new(|_| {});
    let mut keys: Vec<String> = (0..100).map(|_| bed.dial_and_ask().2.key().to_owned()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 100);
}

fn offering(settings: &mut Settings) {
    let request = settings.dial.request.clone().subprotocol("chat").unwrap();
    settings.dial.request = request.subprotocol("feed").unwrap().extensions("foo; a=1").unwrap();
}

#[test]
fn c3_what_was_not_offered_is_refused() {
    use ClientHandshakeError as E;
    for (lines, expected) in [
        ("Sec-WebSocket-Protocol: other\r\n", E::SubprotocolNotOffered),
        ("Sec-WebSocket-Protocol: CHAT\r\n", E::SubprotocolNotOffered),
        ("Sec-WebSocket-Protocol: chat, feed\r\n", E::SubprotocolNotOffered),
        ("Sec-WebSocket-Protocol: \r\n", E::SubprotocolNotOffered),
        (
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n",
            E::RepeatedSubprotocol,
        ),
        ("Sec-WebSocket-Extensions: bar\r\n", E::ExtensionNotOffered),
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", E::ExtensionNotOffered),
        ("Sec-WebSocket-Extensions: foo;;\r\n", E::InvalidExtensions),
        ("Sec-WebSocket-Extensions: foo; a=\"\r\n", E::InvalidExtensions),
        ("Sec-WebSocket-Extensions: foo, foo\r\n", E::RepeatedExtension),
        (
            "Sec-WebSocket-Extensions: foo\r\nSec-WebSocket-Extensions: foo; a=2\r\n",
            E::RepeatedExtension,
        ),
    ] {
        let told = handshake_error(offering, |request| request.switching(lines));
        assert_eq!(told, expected, "{lines}");
    }
    let unasked = |request: &Request| request.switching("Sec-WebSocket-Protocol: chat\r\n");
    assert_eq!(handshake_error(|_| {}, unasked), E::SubprotocolNotOffered);
}

#[test]
fn c3_what_was_offered_is_taken() {
    let mut bed = Bed::new(offering);
    let (id, server, request) = bed.dial_and_ask();
    assert_eq!(request.field("Sec-WebSocket-Protocol"), Some("chat, feed"));
    assert_eq!(request.field("Sec-WebSocket-Extensions"), Some("foo; a=1"));
    let lines = "Sec-WebSocket-Protocol: feed\r\nSec-WebSocket-Extensions: foo; b\r\n";
    server.peer.write_all(&request.switching(lines));
    bed.turn();
    let [Heard::Answer(101, fields), Heard::Open] = &bed.heard(id)[..] else { panic!() };
    assert_eq!(fields[3], ("Sec-WebSocket-Protocol".to_owned(), b"feed".to_vec()));
}

#[cfg(feature = "deflate")]
#[test]
fn c3_extension_of_one_rsv_bit_twice_is_refused() {
    use corewire::{Compression, CompressionMode};
    let compressing = |settings: &mut Settings| {
        let compression = Compression::new(CompressionMode::Shared).unwrap();
        std::sync::Arc::make_mut(&mut settings.dial.config).compression = compression;
    };
    let answer = |extensions: &'static str| {
        move |request: &Request| {
            let offer = request.field("Sec-WebSocket-Extensions").unwrap();
            assert!(offer.starts_with("permessage-deflate"), "{offer}");
            request.switching(&format!("Sec-WebSocket-Extensions: {extensions}\r\n"))
        }
    };
    let twice = answer("permessage-deflate, permessage-deflate");
    let told = handshake_error(compressing, twice);
    assert_eq!(told, ClientHandshakeError::RepeatedExtension);
    for wrong in ["permessage-deflate; x", "permessage-deflate; server_max_window_bits=7"] {
        let told = error(compressing, answer(wrong));
        assert!(matches!(told, DialError::Compression(_)), "{told:?}");
    }
}

#[test]
fn c5_frames_right_behind_the_answer_are_the_first_messages() {
    let frames = [Frame::text("first"), Frame::binary([1, 2]), Frame::close(1001, "going")];
    let frames: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
    // The keys are the same in every bed, so the answer is.
    let answer_bytes = Bed::new(|_| {}).dial_and_ask().2.switching("").len();
    for split in 0..=answer_bytes + frames.len() {
        let mut bed = Bed::new(|_| {});
        let (id, mut server, request) = bed.dial_and_ask();
        let bytes = [request.switching(""), frames.clone()].concat();
        let (begin, rest) = bytes.split_at(split);
        server.peer.write_all(begin);
        bed.turn();
        server.peer.write_all(rest);
        bed.turns(3);
        let heard = bed.heard(id);
        let [
            Heard::Answer(101, _),
            Heard::Open,
            Heard::Text(text),
            Heard::Binary(bytes),
            Heard::Close(summary),
        ] = &heard[..]
        else {
            panic!("{split}: {heard:?} {:?}", bed.reactor.handler().failures)
        };
        assert_eq!((&text[..], &bytes[..]), ("first", &[1, 2][..]));
        assert!(summary.is_clean(), "{summary:?}");
        assert_eq!(server.plain_frames(), [Frame::close(1001, "")], "{split}");
    }
}

#[test]
fn c5_an_answer_that_only_informs_is_passed_over() {
    let mut bed = Bed::new(|_| {});
    let (id, server, request) = bed.dial_and_ask();
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    server.peer.write_all(
        &[early.as_bytes(), &request.switching(""), &Frame::text("hi").encode()].concat(),
    );
    bed.turns(2);
    let heard = bed.heard(id);
    assert!(
        matches!(&heard[..], [Heard::Answer(101, _), Heard::Open, Heard::Text(_)]),
        "{heard:?}"
    );
}
