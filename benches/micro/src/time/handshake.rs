//! From a request's head to the answer 101.

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use divan::{Bencher, black_box};
use sha1::{Digest as _, Sha1};
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};

use crate::material::{ACCEPT_KEY, REQUEST};
use crate::parts::answer_request;

#[divan::bench]
fn corewire(bencher: Bencher<'_, '_>) {
    run(bencher, answer_request);
}

#[divan::bench]
fn sockudo_ws(bencher: Bencher<'_, '_>) {
    run(bencher, |head, answer| {
        let (request, _) = parse_request(head).expect("valid").expect("whole");
        *answer = build_response(&generate_accept_key(request.key), None, None).to_vec();
    });
}

/// Reads the head from a stream and makes a connection too, for which there is no other way in.
#[divan::bench]
fn tungstenite(bencher: Bencher<'_, '_>) {
    run(bencher, |head, answer| {
        let stream = OneRead { input: head, output: Vec::new() };
        let socket = tungstenite::accept(stream).expect("the upgrade is accepted");
        *answer = std::mem::take(&mut { socket.into_inner() }.output);
    });
}

/// What nobody can go below: the fields split by `httparse`, and the accept key.
#[divan::bench]
fn httparse_sha1_base64(bencher: Bencher<'_, '_>) {
    run(bencher, |head, answer| {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut fields);
        assert!(request.parse(head).is_ok_and(|status| status.is_complete()));
        let key = request.headers.iter().find(|field| field.name == "Sec-WebSocket-Key");
        let digest = Sha1::new()
            .chain_update(key.expect("the request has a key").value)
            .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
            .finalize();
        let mut accept_key = [0; 28];
        STANDARD.encode_slice(digest, &mut accept_key).expect("a digest is 20 bytes");
        answer.clear();
        answer.extend_from_slice(&accept_key);
    });
}

fn run(bencher: Bencher<'_, '_>, answer_request: impl Fn(&[u8], &mut Vec<u8>) + Sync) {
    let mut answer = Vec::new();
    answer_request(REQUEST, &mut answer);
    let has_key = answer.windows(ACCEPT_KEY.len()).any(|window| window == ACCEPT_KEY);
    assert!(has_key, "the answer has the key of RFC 6455 §1.3");
    bencher.bench_local(|| answer_request(black_box(REQUEST), black_box(&mut answer)));
}

/// A stream whose first read brings everything.
struct OneRead<'a> {
    input: &'a [u8],
    output: Vec<u8>,
}

impl Read for OneRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for OneRead<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
