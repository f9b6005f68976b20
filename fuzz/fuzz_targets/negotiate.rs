//! Whatever is offered, what a server answers keeps its terms, and a client that made the same offer
//! can conclude. The first two bytes are the terms.
#![no_main]

use corewire::fuzzing::deflate::{Direction, EXTENSION_NAME, Offer, Terms};
use corewire::fuzzing::http::Extensions;
use libfuzzer_sys::fuzz_target;

fn direction(byte: u8) -> Direction {
    Direction { window_bits: 9 + byte % 7, context_takeover: byte > 127 }
}

fn line(params: impl Iterator<Item = (&'static str, Option<u8>)>) -> String {
    params.fold(EXTENSION_NAME.to_owned(), |line, (name, value)| match value {
        Some(value) => format!("{line}; {name}={value}"),
        None => format!("{line}; {name}"),
    })
}

fuzz_target!(|input: &[u8]| {
    let [first, second, offers @ ..] = input else { return };
    let terms = Terms { server: direction(*first), client: direction(*second) };
    let offers = Extensions::new([offers].into_iter()).map_while(Result::ok);
    let Some(agreement) = terms.answer(offers) else { return };
    assert!(agreement.server.window_bits <= terms.server.window_bits);
    assert!(agreement.client.window_bits <= terms.client.window_bits);
    let said = line(agreement.params());
    let answer = Extensions::new([said.as_bytes()].into_iter()).next();
    let answer = answer.and_then(Result::ok).expect("an answer is well-formed");
    let params: Vec<_> = answer.params().map(|param| (param.name, param.value)).collect();
    let params = params.iter().map(|(name, value)| (*name, value.as_deref()));
    let open = Offer { server: Direction::UNRESTRICTED, client: Direction::UNRESTRICTED };
    // We have no compressor for 8 bits, which other clients may have offered.
    let concluded = open.conclude(params).ok();
    let expected = (agreement.client.window_bits > 8).then_some(agreement);
    assert_eq!(concluded, expected);
});
