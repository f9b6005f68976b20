//! What listeners are secured with, read once for all that name the same files.

use std::fmt;

use corewire::{Tls, TlsBuilder};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use ring::digest::{SHA256, digest};

use super::flags::ListenerArgs;

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Certificates {
    /// Files of chains, each with that of its key.
    Files(Vec<(String, String)>),
    /// Ours.
    SelfSigned,
}

/// What a listener is to be secured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    certificates: Certificates,
    tls13_only: bool,
}

/// Certificates that are ready for use.
#[derive(Clone, Debug)]
pub struct Secured {
    pub security: Security,
    pub tls: Tls,
    /// Of a certificate of ours, as browsers show it.
    pub fingerprint: Option<String>,
}

impl Secured {
    /// Whether there is anything to read again.
    pub fn is_of_files(&self) -> bool {
        matches!(self.security.certificates, Certificates::Files(_))
    }
}

/// The files of the certificates.
impl fmt::Display for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.security.certificates {
            Certificates::Files(pairs) => {
                let chains: Vec<_> = pairs.iter().map(|(chain, _)| &**chain).collect();
                f.write_str(&chains.join(", "))
            }
            Certificates::SelfSigned => f.write_str("our own"),
        }
    }
}

/// Whom a certificate of ours is for.
const OUR_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

impl Security {
    /// `None` for a listener without TLS.
    pub fn of(args: &ListenerArgs) -> Option<Self> {
        let pairs = args.tls_cert.iter().cloned().zip(args.tls_key.iter().cloned());
        let certificates = match (args.tls_self_signed, args.tls_cert.is_empty()) {
            (true, _) => Certificates::SelfSigned,
            (false, true) => return None,
            (false, false) => Certificates::Files(pairs.collect()),
        };
        Some(Self { certificates, tls13_only: args.tls13_only })
    }

    /// # Errors
    /// Why they cannot be used.
    pub fn read(self) -> Result<Secured, String> {
        let builder = Tls::builder();
        let builder = if self.tls13_only { builder.tls13_only() } else { builder };
        let (builder, fingerprint) = match &self.certificates {
            Certificates::Files(pairs) => {
                let add = |builder: TlsBuilder, (chain, key)| builder.certificate_files(chain, key);
                (pairs.iter().cloned().fold(builder, add), None)
            }
            Certificates::SelfSigned => {
                let ours = generate_simple_self_signed(OUR_NAMES.map(str::to_owned));
                let CertifiedKey { cert, signing_key } = ours.map_err(|error| error.to_string())?;
                let digest = digest(&SHA256, cert.der());
                let bytes = digest.as_ref().iter().map(|byte| format!("{byte:02X}"));
                let fingerprint = bytes.collect::<Vec<_>>().join(":");
                let builder = builder.certificate_pem(cert.pem(), signing_key.serialize_pem());
                (builder, Some(fingerprint))
            }
        };
        let tls = builder.build().map_err(|error| error.to_string())?;
        Ok(Secured { security: self, tls, fingerprint })
    }
}
