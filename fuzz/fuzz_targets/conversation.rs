//! Two ends do anything at all: neither ever finds fault with the other.
#![no_main]

use corewire::{
    CloseCode, Config, Connection, Event, LoopLimits, NoSink, Opcode, Part, Pools, Role,
};
use libfuzzer_sys::fuzz_target;
use std::{io::IoSlice, time::Instant};

fuzz_target!(|operations: Vec<(bool, u8, u16, &[u8])>| {
    let now = Instant::now();
    let mut pools = Pools::new(&LoopLimits::default(), now, [0; 32]);
    let mut ends =
        [Role::Client, Role::Server].map(|role| Connection::new(Config::new(role), now, &pools));
    for (is_first, choice, number, payload) in operations {
        let [one, other] = &mut ends;
        let (one, other) = if is_first { (one, other) } else { (other, one) };
        let mut sink = NoSink;
        let mut transmit = one.transmit(now, &mut pools, &mut sink);
        let _ = match choice % 8 {
            0 => transmit.send_binary(payload).is_taken(),
            1 => transmit.send_part(Opcode::Binary, payload, Part::First).is_taken(),
            2 => transmit.send_part(Opcode::Binary, payload, Part::Last).is_taken(),
            3 => transmit.send_ping(payload).is_taken(),
            4 => transmit.close(CloseCode::new(number), "enough").is_ok(),
            _ => {
                let mut slices = [IoSlice::new(&[])];
                one.poll_transmit(&pools, &mut slices);
                let mut carried = slices[0].to_vec();
                carried.truncate(number.into());
                one.handle_transmitted(carried.len(), now, &mut pools);
                let mut events = other.handle_input(&mut carried, now, &mut pools);
                while let Some((event, _)) = events.next() {
                    assert!(!matches!(event, Event::Failed(_)), "{event:?}");
                }
                true
            }
        };
    }
});
