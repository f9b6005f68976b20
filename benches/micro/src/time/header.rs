//! Frame headers: parsing a client's, encoding a server's.

use std::io::Cursor;

use corewire::Role;
use corewire::fuzzing::wire::{HEADER_BYTES_MAX, Header, HeaderRules, Rsv1};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use tungstenite::protocol::frame::FrameHeader;

use crate::material::{masked_frames, unmasked_frames};

#[divan::bench_group]
mod parse {
    use super::*;

    /// As the receiver does it: the short form first.
    #[divan::bench(args = PAYLOAD_BYTES)]
    fn corewire(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        let parse = |input: &[u8]| match Header::parse_short(input, Role::Server) {
            Some(short) => (short.header_bytes, short.payload_bytes),
            None => {
                let parsed = Header::parse(input, SERVER).expect("valid").expect("whole");
                (parsed.header_bytes, parsed.header.payload_bytes as usize)
            }
        };
        let frame = masked_frames(1, &vec![0; payload_bytes]);
        let parsed = parse(&frame);
        assert_eq!(parsed, (frame.len() - payload_bytes, payload_bytes));
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| parse(black_box(&frame)));
    }

    #[divan::bench(args = PAYLOAD_BYTES)]
    fn tungstenite(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        let parse = |input: &[u8]| {
            let mut cursor = Cursor::new(input);
            FrameHeader::parse(&mut cursor).expect("valid").expect("whole")
        };
        let frame = masked_frames(1, &vec![0; payload_bytes]);
        assert_eq!(parse(&frame).1, payload_bytes as u64);
        bencher.counter(ItemsCount::new(1_u32)).bench_local(|| parse(black_box(&frame)));
    }
}

#[divan::bench_group]
mod encode {
    use super::*;

    #[divan::bench(args = PAYLOAD_BYTES)]
    fn corewire(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        let frame = unmasked_frames(1, &vec![0; payload_bytes]);
        let header = Header::parse(&frame, CLIENT).expect("valid").expect("whole").header;
        let mut out = [0; HEADER_BYTES_MAX];
        let header_bytes = header.encode(&mut out);
        assert_eq!(out[..header_bytes], frame[..frame.len() - payload_bytes]);
        bencher
            .counter(ItemsCount::new(1_u32))
            .bench_local(|| black_box(&header).encode(black_box(&mut out)));
    }

    #[divan::bench(args = PAYLOAD_BYTES)]
    fn tungstenite(bencher: Bencher<'_, '_>, payload_bytes: usize) {
        let frame = unmasked_frames(1, &vec![0; payload_bytes]);
        let (header, len) =
            FrameHeader::parse(&mut Cursor::new(&frame)).expect("valid").expect("whole");
        let encode = |header: &FrameHeader, out: &mut [u8]| {
            let mut rest = &mut *out;
            header.format(len, &mut rest).expect("there is room");
        };
        let mut out = [0; HEADER_BYTES_MAX];
        encode(&header, &mut out);
        let header_bytes = frame.len() - payload_bytes;
        assert_eq!(out[..header_bytes], frame[..header_bytes]);
        bencher
            .counter(ItemsCount::new(1_u32))
            .bench_local(|| encode(black_box(&header), black_box(&mut out)));
    }
}

/// One of each length's forms: 7, 16 and 64 bits.
const PAYLOAD_BYTES: [usize; 3] = [20, 1000, 100_000];
const SERVER: HeaderRules = HeaderRules { role: Role::Server, rsv1: Rsv1::Forbidden };
const CLIENT: HeaderRules = HeaderRules { role: Role::Client, rsv1: Rsv1::Forbidden };
