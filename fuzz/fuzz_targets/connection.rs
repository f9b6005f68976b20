//! Any bytes in any pieces, under any limits: the same events as in one piece, and no panic.
#![no_main]

use corewire::{Config, Delivery, Role};
use corewire_fuzz::events;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, bool, u16, u8, &[u8])| {
    let (is_server, is_streaming, message_bytes_max, piece_bytes, input) = input;
    let mut config = Config::new(if is_server { Role::Server } else { Role::Client });
    config.delivery = if is_streaming { Delivery::Streaming } else { Delivery::Whole };
    config.limits.message_bytes_max = message_bytes_max.into();
    let whole = events(input, usize::MAX, &config, None);
    assert_eq!(events(input, usize::from(piece_bytes).max(1), &config, None), whole);
});
