//! A client's cryptography that says what no client would: the next record is given another content
//! type, or no payload, on its way into the cipher.

use std::cell::Cell;

use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, OutboundChunks,
    OutboundOpaqueMessage, OutboundPlainMessage, Tls12AeadAlgorithm, Tls13AeadAlgorithm,
    UnsupportedOperationError,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, SupportedCipherSuite, Tls12CipherSuite,
    Tls13CipherSuite,
};

use crate::tls_peer::TlsPeer;

thread_local! {
    static CONTENT_TYPE: Cell<Option<ContentType>> = const { Cell::new(None) };
}

/// One record of this type. Without payload there is one all the same.
pub fn record(peer: &mut TlsPeer, content_type: ContentType, payload: &[u8]) -> Vec<u8> {
    let waiting = peer.outgoing();
    assert!(waiting.is_empty(), "one record at a time");
    CONTENT_TYPE.set(Some(content_type));
    let record = peer.records_of(if payload.is_empty() { NOTHING } else { payload });
    CONTENT_TYPE.set(None);
    record
}

/// Stands for no payload: of none a client makes no record.
const NOTHING: &[u8] = b"nothing at all";

/// ring's, with one suite of each version.
pub fn provider() -> CryptoProvider {
    let cipher_suites = [ring::cipher_suite::TLS13_AES_128_GCM_SHA256]
        .into_iter()
        .chain([
            ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ])
        .map(wrapped)
        .collect();
    CryptoProvider { cipher_suites, ..ring::default_provider() }
}

/// A suite lives as long as the program; the few that tests make are given away.
fn wrapped(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    match suite {
        SupportedCipherSuite::Tls13(suite) => {
            let common = rustls::crypto::CipherSuiteCommon { ..suite.common };
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common,
                hkdf_provider: suite.hkdf_provider,
                aead_alg: Box::leak(Box::new(Aead13(suite.aead_alg))),
                quic: None,
            })))
        }
        SupportedCipherSuite::Tls12(suite) => {
            let common = rustls::crypto::CipherSuiteCommon { ..suite.common };
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common,
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: Box::leak(Box::new(Aead12(suite.aead_alg))),
            })))
        }
    }
}

struct Aead13(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Aead13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Liar(self.0.encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

struct Aead12(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Aead12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(Liar(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }
}

struct Liar(Box<dyn MessageEncrypter>);

impl MessageEncrypter for Liar {
    fn encrypt(
        &mut self,
        mut message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        if let Some(content_type) = CONTENT_TYPE.get() {
            message.typ = content_type;
            if message.payload.to_vec() == NOTHING {
                message.payload = OutboundChunks::Single(&[]);
            }
        }
        self.0.encrypt(message, sequence)
    }

    fn encrypted_payload_len(&self, payload_bytes: usize) -> usize {
        self.0.encrypted_payload_len(payload_bytes)
    }
}
