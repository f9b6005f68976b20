//! Compressed messages, sound or not, torn anywhere: the same events as in one piece, and no panic.
//! Content that comes in copies is deflated, other content stands for itself.
#![no_main]

use corewire::fuzzing::{deflate::*, http::Extensions};
use corewire::{Config, Delivery, Role};
use corewire_fuzz::{events, push_frame};
use libfuzzer_sys::fuzz_target;

/// FIN, RSV1 and opcode.
const FIRST: [u8; 8] = [0xc2, 0xc1, 0x42, 0x41, 0x80, 0x00, 0x82, 0x89];

fuzz_target!(|input: (u8, bool, u16, u8, Vec<(u8, u8, &[u8])>)| {
    let (bits, is_streaming, message_bytes_max, piece_bytes, frames) = input;
    let peer = Direction { window_bits: 9 + bits % 7, context_takeover: bits > 127 };
    let offers = [b"permessage-deflate; client_max_window_bits".as_slice()].into_iter();
    let offers = Extensions::new(offers).map_while(Result::ok);
    let agreement = Terms { server: peer, client: peer }.answer(offers).expect("all is offered");
    let mut config = Config::new(Role::Server);
    config.delivery = if is_streaming { Delivery::Streaming } else { Delivery::Whole };
    config.limits.message_bytes_max = u64::from(message_bytes_max) % 4097;
    let shape = Shape { window_bits: peer.window_bits, level: 1, mem_level: 1 };
    let (mut deflater, mut output, mut input) = (Deflater::new(shape), Vec::new(), Vec::new());
    for (choice, copies, content) in frames {
        let (first, mut payload) = (FIRST[usize::from(choice % 8)], content.to_vec());
        if copies > 0 {
            if bits < 128 && first & 0x0f > 0 {
                deflater.begin([&[], &[]]);
            }
            let payload_bytes = deflater.compress(&content.repeat(copies.into()), &mut output);
            // Behind a fragment the end of the flush is not taken away.
            let end = if first < 0x80 { &[0, 0, 0xff, 0xff][..] } else { &[] };
            payload = [&output[..payload_bytes], end].concat();
        }
        push_frame(&mut input, first, &payload);
    }
    let whole = events(&input, usize::MAX, &config, Some(&agreement));
    let torn = events(&input, usize::from(piece_bytes).max(1), &config, Some(&agreement));
    assert_eq!(torn, whole);
});
