//! A text is JSON when serde_json says so, and no text breaks the decoder: what comes out of an
//! envelope are values that make the same envelope again, and what goes into one comes out of it.
#![no_main]

use corewire::Opcode;
use corewire::fuzzing::client::{Envelope, JsonError, encode, payload, whole};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fn decode_again(messages: &[&str]) {
    let mut envelope = Vec::new();
    encode(messages.iter().map(|message| message.as_bytes()), &mut envelope);
    let envelope = String::from_utf8(envelope).unwrap();
    serde_json::from_str::<&RawValue>(&envelope).unwrap();
    let decoded = Envelope::decode(&envelope).unwrap().unwrap();
    assert!(decoded.messages().eq(messages.iter().copied()));
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        assert!(payload(Opcode::Text, input).is_err());
        return;
    };
    let value = whole(text);
    if !matches!(value, Err(JsonError::TooDeep { .. })) {
        let oracle = serde_json::from_str::<&RawValue>(text).ok();
        assert_eq!(value.ok(), oracle.map(RawValue::get));
    }
    assert_eq!(payload(Opcode::Text, input).ok(), value.ok().map(str::as_bytes));
    if let Ok(value) = value {
        decode_again(&[value, value]);
    }
    let Ok(Some(envelope)) = Envelope::decode(text) else { return };
    let messages: Vec<_> = envelope.messages().collect();
    assert_eq!(messages.len(), envelope.len());
    assert!(messages.iter().all(|message| whole(message) == Ok(*message)));
    decode_again(&messages);
});
