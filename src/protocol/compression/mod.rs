//! Compressed messages (RFC 7692): what floor 1 agrees on and computes, put into a connection.

mod deflating;
mod inflating;
mod receiving;

#[cfg(feature = "net")]
pub(crate) use crate::deflate::AnswerError;
pub(crate) use crate::deflate::{Agreement, Compression};
pub use deflating::DeflateKey;
pub(in crate::protocol) use deflating::{DeflatePool, Takeover, Variants};
pub use inflating::InflateKey;
pub(in crate::protocol) use inflating::{InflatePool, Inflating};

use crate::deflate::EXTENSION_NAME;
#[cfg(feature = "net")]
use crate::handshake::Negotiated;
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

    /// What a client with these settings offers.
    #[cfg(feature = "net")]
    pub(crate) fn offer(&self) -> Option<String> {
        self.compression.offer().map(|offer| offer.to_string())
    }

    /// What holds after a server's answer to that offer; it is taken out of `negotiated`, since the
    /// two halves of the connection know it.
    ///
    /// # Errors
    /// The answer is none to this offer.
    #[cfg(feature = "net")]
    pub(crate) fn conclude(
        &self,
        negotiated: &mut Negotiated,
    ) -> Result<Option<Agreement>, AnswerError> {
        let Some(offer) = self.compression.offer() else { return Ok(None) };
        let is_ours =
            |extension: &NegotiatedExtension| extension.name().eq_ignore_ascii_case(EXTENSION_NAME);
        let Some(at) = negotiated.extensions.iter().position(is_ours) else { return Ok(None) };
        let extension = negotiated.extensions.remove(at);
        offer.conclude(extension.params()).map(Some)
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
