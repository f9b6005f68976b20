//! Any bytes in any pieces, under any limits: the same events as in one piece, and no panic.
#![no_main]

use corewire::{Config, Connection, Delivery, Event, LoopLimits, Pools, PoolsInUse, Role};
use libfuzzer_sys::fuzz_target;
use std::time::Instant;

fn run(input: &[u8], piece_bytes: usize, config: Config) -> (String, usize) {
    let now = Instant::now();
    let mut pools = Pools::new(&LoopLimits::default(), now, [0; 32]);
    let mut connection = Connection::new(config, now, &pools);
    let mut seen = String::new();
    for piece in input.to_vec().chunks_mut(piece_bytes) {
        let mut events = connection.handle_input(piece, now, &mut pools);
        while let Some((event, mut transmit)) = events.next() {
            seen += &match event {
                Event::Chunk(chunk) => {
                    format!("{:02x?}", chunk.payload).replace(['[', ']', ','], " ")
                }
                Event::Text(text) => format!("{text} {:?}", transmit.send_text(text)),
                other => format!("{other:?}"),
            };
        }
    }
    seen.retain(|character| character != ' ');
    let queued_bytes = connection.queued_bytes();
    connection.finish(&mut pools);
    assert_eq!(pools.in_use(), PoolsInUse::default());
    (seen, queued_bytes)
}

fuzz_target!(|input: (bool, bool, u16, u8, &[u8])| {
    let (is_server, is_streaming, message_bytes_max, piece_bytes, input) = input;
    let mut config = Config::new(if is_server { Role::Server } else { Role::Client });
    config.delivery = if is_streaming { Delivery::Streaming } else { Delivery::Whole };
    config.limits.message_bytes_max = message_bytes_max.into();
    let whole = run(input, usize::MAX, config.clone());
    assert_eq!(run(input, usize::from(piece_bytes).max(1), config), whole);
});
