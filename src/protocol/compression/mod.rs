//! Compressed messages (RFC 7692): what floor 1 agrees on and computes, put into a connection.

mod deflating;
mod inflating;
mod receiving;

pub(crate) use crate::deflate::{Agreement, Compression};
pub use deflating::DeflateKey;
pub(in crate::protocol) use deflating::{DeflatePool, Takeover, Variants};
pub use inflating::InflateKey;
pub(in crate::protocol) use inflating::{InflatePool, Inflating};

use crate::deflate::EXTENSION_NAME;
use crate::handshake::NegotiatedExtension;
use crate::http::Extension;
use crate::protocol::config::Config;
use crate::wire::Role;

impl Config {
    /// What a server with these settings agrees to of a client's offers.
    pub(crate) fn agree<'a>(
        &self,
        offers: impl IntoIterator<Item = Extension<'a>>,
    ) -> Option<Agreement> {
        self.compression.answer(offers)
    }

    /// Whether a message of so many bytes is worth compressing.
    #[inline]
    pub(in crate::protocol) fn compresses(&self, payload_bytes: usize) -> bool {
        self.compression.is_worthwhile(payload_bytes)
    }
}

/// How the two halves of a connection compress.
pub(crate) fn keys(agreement: &Agreement, role: Role) -> (DeflateKey, InflateKey) {
    let (ours, peer) = match role {
        Role::Server => (agreement.server, agreement.client),
        Role::Client => (agreement.client, agreement.server),
    };
    (DeflateKey::new(ours), InflateKey::new(peer))
}

/// As a server's answer states it.
impl From<&Agreement> for NegotiatedExtension {
    fn from(agreement: &Agreement) -> Self {
        let extension = Self::new(EXTENSION_NAME).expect("the extension's name is a token");
        agreement.params().fold(extension, |extension, (name, value)| {
            let value = value.map(|value| value.to_string());
            extension.param(name, value.as_deref()).expect("names and numbers are tokens")
        })
    }
}
