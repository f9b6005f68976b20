//! The peers that compress agree on the same, and compress what they echo.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush};
use support::{Peer, Server, peers};

const WITHOUT_TAKEOVER: &str =
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
const ANY: &str = "permessage-deflate; client_max_window_bits";

fn each(check: impl Fn(&Peer)) {
    let peers: Vec<Peer> = peers().into_iter().filter(|peer| peer.compresses).collect();
    assert!(peers.len() > 1);
    peers.iter().for_each(check);
}

/// A connection of a server, and the parameters that they have agreed on, in alphabetical order.
fn upgrade(server: &Server, offer: &str) -> (TcpStream, Vec<String>) {
    let mut stream = server.connect();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: {offer}\r\n\r\n",
        server.address
    );
    stream.write_all(request.as_bytes()).expect("the peer reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    let head = String::from_utf8(head).expect("ASCII").to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let agreed = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions:"));
    let mut agreed: Vec<String> =
        agreed.unwrap_or_default().split(';').map(|word| word.trim().to_owned()).collect();
    agreed.sort();
    (stream, agreed)
}

/// One text message in a masked frame; RSV1 says whether it is compressed.
fn send(stream: &mut TcpStream, first_byte: u8, payload: &[u8]) {
    let length = u16::try_from(payload.len()).expect("a small message").to_be_bytes();
    // A masking key of zeros leaves the payload as it is.
    let header = [&[first_byte, 0x80 | 126][..], &length, &[0; 4]].concat();
    stream.write_all(&[&header, payload].concat()).expect("the peer reads");
}

fn receive(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("an answer");
    let mut length = [0, header[1]];
    if header[1] == 126 {
        stream.read_exact(&mut length).expect("a length");
    }
    let mut payload = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut payload).expect("a payload");
    (header[0], payload)
}

/// A text of a kilobyte.
fn text(seed: usize) -> Vec<u8> {
    let words = ["alpha", "beta", "gamma", "delta"];
    let mut text = String::new();
    for at in 0..130 {
        text += words[(seed + at * at) % words.len()];
        text += &(seed * at % 97).to_string();
    }
    text.into_bytes()
}

/// The same compressed, without the tail that RFC 7692 §7.2.1 leaves out.
fn compressed(text: &[u8]) -> Vec<u8> {
    let flags = create_comp_flags_from_zip_params(6, -15, 0);
    let mut message = vec![0; text.len() + 64];
    let mut compressor = CompressorOxide::new(flags);
    let bytes = deflate(&mut compressor, text, &mut message, MZFlush::Sync).bytes_written;
    message.truncate(bytes);
    assert_eq!(message.split_off(bytes - TAIL.len()), TAIL);
    message
}

const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

const PLAIN: u8 = 0x81;
const COMPRESSED: u8 = 0xC1;

/// Sends a text, and returns the bytes of its compressed echo.
fn echo(stream: &mut TcpStream, state: &mut InflateState, first_byte: u8, text: &[u8]) -> usize {
    match first_byte {
        COMPRESSED => send(stream, first_byte, &compressed(text)),
        _ => send(stream, first_byte, text),
    }
    let (first_byte, mut payload) = receive(stream);
    assert_eq!(first_byte, COMPRESSED);
    let bytes = payload.len();
    payload.extend(TAIL);
    let mut got = vec![0; text.len() + 1];
    let inflated = inflate(state, &payload, &mut got, MZFlush::Sync);
    assert_eq!((inflated.bytes_consumed, inflated.bytes_written), (payload.len(), text.len()));
    assert!(got[..text.len()] == *text, "{} bytes came back changed", text.len());
    bytes
}

#[test]
fn all_agree_on_the_same_parameters() {
    let both = ["client_no_context_takeover", "permessage-deflate", "server_no_context_takeover"];
    let cases: [(&str, &str, &[&str]); 7] = [
        ("disabled", ANY, &[""]),
        ("shared", WITHOUT_TAKEOVER, &both),
        ("shared", ANY, &both),
        ("dedicated", ANY, &["permessage-deflate"]),
        ("dedicated:15:8", ANY, &["permessage-deflate"]),
        ("dedicated:12:5", ANY, &["permessage-deflate", "server_max_window_bits=12"]),
        ("dedicated:9:1", ANY, &["permessage-deflate", "server_max_window_bits=9"]),
    ];
    each(|peer| {
        for (compression, offer, expected) in cases {
            let server = Server::start(&peer.bin, &["--compression", compression]);
            let (_stream, agreed) = upgrade(&server, offer);
            assert_eq!(agreed, expected, "{}, {compression}: {offer}", peer.name);
        }
        let arguments = ["--compression", "dedicated:9:2", "--peer-window-bits", "12"];
        let (_stream, agreed) = upgrade(&Server::start(&peer.bin, &arguments), ANY);
        let expected =
            ["client_max_window_bits=12", "permessage-deflate", "server_max_window_bits=9"];
        assert_eq!(agreed, expected, "{}", peer.name);
    });
}

#[test]
fn what_is_echoed_is_compressed_whatever_was_sent() {
    each(|peer| {
        for (compression, offer) in [("shared", WITHOUT_TAKEOVER), ("dedicated", ANY)] {
            let server = Server::start(&peer.bin, &["--compression", compression]);
            let (mut stream, _agreed) = upgrade(&server, offer);
            let mut state = InflateState::new(DataFormat::Raw);
            for seed in 0..80 {
                if compression == "shared" {
                    state.reset(DataFormat::Raw);
                }
                let text = text(seed);
                let first_byte = if seed % 3 == 0 { PLAIN } else { COMPRESSED };
                let bytes = echo(&mut stream, &mut state, first_byte, &text);
                assert!(bytes < text.len() * 2 / 3, "{}: {bytes} bytes", peer.name);
            }
        }
    });
}

#[test]
fn a_larger_window_finds_more() {
    each(|peer| {
        let twice = |compression| {
            let server = Server::start(&peer.bin, &["--compression", compression]);
            let (mut stream, _agreed) = upgrade(&server, ANY);
            let mut state = InflateState::new(DataFormat::Raw);
            [(); 2].map(|()| echo(&mut stream, &mut state, PLAIN, &text(1)))
        };
        // The same message once more is found in the window of 32 KiB, and not in that of 512 bytes.
        let [first, second] = twice("dedicated:15:8");
        assert!(second * 5 < first, "{}: {first}, then {second} bytes", peer.name);
        let [first, second] = twice("dedicated:9:1");
        assert!(second * 3 > first, "{}: {first}, then {second} bytes", peer.name);
    });
}
