//! Extensions are parsed to tokens or refused, and what was parsed, written again, parses the same.
//! Each line of the input is one line of the field.
#![no_main]

use corewire::fuzzing::handshake::NegotiatedExtension;
use corewire::fuzzing::http::{Extensions, is_token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut written = Vec::new();
    let mut parsed = Vec::new();
    for extension in Extensions::new(input.split(|&byte| byte == b'\n')) {
        let Ok(extension) = extension else { return };
        assert!(is_token(extension.name()));
        for param in extension.params() {
            assert!(is_token(param.name));
            assert!(param.value.is_none_or(|value| is_token(&value)));
        }
        let extension = NegotiatedExtension::from(extension);
        written.push(extension.to_string());
        parsed.push(extension);
    }
    let written = written.join(", ");
    let again: Result<Vec<_>, _> = Extensions::new([written.as_bytes()].into_iter())
        .map(|extension| extension.map(NegotiatedExtension::from))
        .collect();
    assert_eq!(again, Ok(parsed));
});
