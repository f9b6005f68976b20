//! The key a client sends and the one a server answers with (RFC 6455 §4.1, §4.2.2): proof that the
//! server understood the request, not a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// The value of `Sec-WebSocket-Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptKey([u8; ACCEPT_KEY_BYTES]);

impl AcceptKey {
    /// The value as it stands in the field: 28 characters of base64.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is ASCII")
    }
}

/// The accept key for the value of `Sec-WebSocket-Key` (RFC 6455 §4.2.2 item 5.4): the base64 of
/// SHA-1 over the key as it was sent and a fixed GUID.
pub fn accept_key(key: &[u8]) -> AcceptKey {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept_key = [0; ACCEPT_KEY_BYTES];
    encode(&digest, &mut accept_key);
    AcceptKey(accept_key)
}

/// Whether `key` is the base64 of exactly 16 bytes, in its one canonical form (RFC 6455 §4.2.1
/// item 5): the standard alphabet, padding, no bits set behind the last byte.
pub fn is_valid_key(key: &[u8]) -> bool {
    // The decoder wants room for whole groups: 24 characters could have been 18 bytes.
    let mut decoded = [0; REQUEST_KEY_BYTES / 4 * 3];
    STANDARD.decode_slice(key, &mut decoded) == Ok(size_of::<Nonce>())
}

/// The value of `Sec-WebSocket-Key` for a nonce, which RFC 6455 §4.1 wants random for each
/// connection: 24 characters of base64.
pub fn request_key(nonce: Nonce) -> [u8; REQUEST_KEY_BYTES] {
    let mut key = [0; REQUEST_KEY_BYTES];
    encode(&nonce, &mut key);
    key
}

fn encode(bytes: &[u8], text: &mut [u8]) {
    let written = STANDARD.encode_slice(bytes, text);
    assert_eq!(written, Ok(text.len()), "the text's length was computed for the bytes");
}

type Nonce = [u8; 16];

const REQUEST_KEY_BYTES: usize = 24;
const ACCEPT_KEY_BYTES: usize = 28;

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6455 §1.3
    #[test]
    fn accept_key_is_the_one_of_the_rfc() {
        let accept_key = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_key.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    // RFC 6455 §4.1
    #[test]
    fn request_key_of_the_rfcs_nonce_is_the_one_of_the_rfc() {
        assert_eq!(&request_key(*b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
    }

    // RFC 6455 §4.2.1 item 5
    #[test]
    fn key_is_valid_only_as_canonical_base64_of_sixteen_bytes() {
        assert!(is_valid_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(is_valid_key(b"AAAAAAAAAAAAAAAAAAAAAA=="));
        for key in [
            "",
            "dGhlIHNhbXBsZSBub25jZQ",    // no padding
            "dGhlIHNhbXBsZSBub25jZQ=",   // half the padding
            "dGhlIHNhbXBsZSBub25jZR==",  // bits behind the last byte
            "dGhlIHNhbXBsZSBub25jZ_==",  // URL-safe alphabet
            "dGhlIHNhbXBsZSBub25jZQ==A", // a tail
            "dGhlIHNhbXBsZSBub25jZQ== ", // a space
            "dGhlIHNhbXBsZSBub25j",      // 15 bytes
            "dGhlIHNhbXBsZSBub25jZSE=",  // 17 bytes
            "dGhlIHNhbXBsZSBub25jZSEh",  // 18 bytes
            "dGhlIHNh=XBsZSBub25jZQ==",  // padding in the middle
            "dGhl IHNhbXBsZSBub25jZQ=",  // a space inside
        ] {
            assert!(!is_valid_key(key.as_bytes()), "{key:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn request_key_of_any_nonce_is_valid(nonce: [u8; 16]) {
            proptest::prop_assert!(is_valid_key(&request_key(nonce)));
        }

        #[test]
        fn key_is_valid_exactly_if_it_is_what_some_nonce_encodes_to(
            key in "[A-Za-z0-9+/]{20,22}={0,3}"
        ) {
            // Oracle: decode, look at the length, encode again, compare.
            let canonical = STANDARD.decode(&key).ok().filter(|nonce| nonce.len() == 16)
                .is_some_and(|nonce| STANDARD.encode(nonce) == key);
            proptest::prop_assert_eq!(is_valid_key(key.as_bytes()), canonical);
        }
    }
}
