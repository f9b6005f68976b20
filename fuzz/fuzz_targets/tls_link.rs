//! A client over TLS whose records are torn, refused, changed and made up: an honest one gets every
//! echo, whoever else nothing worse than its end.
#![no_main]

use corewire_fuzz::tls::{Link, Operation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, Vec<Operation>)| {
    let (version, operations) = input;
    let mut link = Link::new(version);
    for operation in operations.into_iter().take(200) {
        link.apply(operation);
    }
    link.finish();
});
