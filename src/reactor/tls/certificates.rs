//! Certificates and keys: where they come from, which one a client is shown, how they are changed.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

/// The certificates of a server, the preferred one first. All its loops share them, and ask once
/// for each full handshake.
pub struct Certificates {
    sources: Vec<Source>,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<[Arc<CertifiedKey>]>>,
}

/// Where a certificate chain and its key come from.
#[derive(Clone)]
pub enum Source {
    Files { chain: PathBuf, key: PathBuf },
    Pem { chain: Box<[u8]>, key: Box<[u8]> },
}

/// Why there can be no TLS as it was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate was given.
    NoCertificate,
    /// A file cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A certificate chain or a key is not PEM, or there is none in it.
    Pem {
        /// In which file; `None` if it was given as bytes.
        path: Option<PathBuf>,
        /// What is wrong.
        error: pem::Error,
    },
    /// A key is of a kind that the provider of the cryptography does not know.
    Key {
        /// Its file; `None` if it was given as bytes.
        path: Option<PathBuf>,
        /// What is wrong.
        error: rustls::Error,
    },
    /// A certificate does not belong to its key, or is of a kind that is not known.
    Certificate {
        /// The file of the certificates; `None` if they were given as bytes.
        path: Option<PathBuf>,
        /// What is wrong.
        error: rustls::Error,
    },
    /// The provider of the cryptography cannot do what was asked for.
    Provider(rustls::Error),
    /// A configuration of the caller's own lets clients send early data, which could be replayed.
    EarlyData,
    /// There is no certificate authority that a client could trust.
    NoRoots {
        /// Why the system's are not among them, if they were asked for and it has said why.
        error: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It is neither the name of a host nor an address.
    ServerName(String),
    /// Certificates cannot be read again that a configuration of the caller's own has brought.
    NothingToReload,
}

impl fmt::Display for TlsError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |path: &Option<PathBuf>| match path {
            Some(path) => path.display().to_string(),
            None => "the certificate or key given".to_owned(),
        };
        match self {
            Self::NoCertificate => out.write_str("TLS needs a certificate"),
            Self::File { path, error } => write!(out, "{}: {error}", path.display()),
            Self::Pem { path, error: pem::Error::NoItemsFound } => {
                write!(out, "{}: there is no such PEM section in it", of(path))
            }
            Self::Pem { path, error } => write!(out, "{}: {error}", of(path)),
            Self::Key { path, error } | Self::Certificate { path, error } => {
                write!(out, "{}: {error}", of(path))
            }
            Self::Provider(error) => error.fmt(out),
            Self::EarlyData => out.write_str(
                "TLS has no early data: neither max_early_data_size nor enable_early_data",
            ),
            Self::NoRoots { error: None } => {
                out.write_str("there is no certificate authority to trust")
            }
            Self::NoRoots { error: Some(error) } => {
                write!(out, "there is no certificate authority to trust: {error}")
            }
            Self::ServerName(name) => write!(out, "`{name}` is no name of a server"),
            Self::NothingToReload => {
                out.write_str("the certificates are those of the caller's own configuration")
            }
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoCertificate | Self::EarlyData | Self::NothingToReload | Self::ServerName(_) => {
                None
            }
            Self::NoRoots { error } => error.as_ref().map(|error| &**error as _),
            Self::File { error, .. } => Some(error),
            Self::Pem { error, .. } => Some(error),
            Self::Key { error, .. } | Self::Certificate { error, .. } | Self::Provider(error) => {
                Some(error)
            }
        }
    }
}

impl Certificates {
    /// # Errors
    /// There is no source, or one of them is not good.
    pub fn new(sources: Vec<Source>, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        if sources.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let current = RwLock::new(load(&sources, &provider)?);
        Ok(Self { sources, provider, current })
    }

    /// Reads all sources again; handshakes from now on use what was read.
    ///
    /// # Errors
    /// One of them is not good; then all stays as it was.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = load(&self.sources, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

/// The first certificate that covers the name the client asks for and whose key can sign as the
/// client wants; else the first whose key can.
impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let mut usable = current
            .iter()
            .filter(|certified| certified.key.choose_scheme(hello.signature_schemes()).is_some());
        let named = name.and_then(|name| usable.clone().find(|it| covers(it, &name)));
        named.or_else(|| usable.next()).or_else(|| current.first()).cloned()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys stay out of logs.
        out.debug_struct("Certificates").field("count", &self.sources.len()).finish_non_exhaustive()
    }
}

fn covers(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

fn load(
    sources: &[Source],
    provider: &CryptoProvider,
) -> Result<Arc<[Arc<CertifiedKey>]>, TlsError> {
    sources.iter().map(|source| source.load(provider).map(Arc::new)).collect()
}

impl Source {
    pub fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        match self {
            Self::Files { chain, key } => {
                certified(&read(chain)?, Some(chain), &read(key)?, Some(key), provider)
            }
            Self::Pem { chain, key } => certified(chain, None, key, None, provider),
        }
    }
}

pub fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error })
}

/// The certificates in `pem`, of which there is one at least.
pub fn parse_certificates(
    pem: &[u8],
    path: Option<&PathBuf>,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let malformed = |error| TlsError::Pem { path: path.cloned(), error };
    let certificates =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    if certificates.is_empty() {
        return Err(malformed(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn certified(
    chain: &[u8],
    chain_path: Option<&PathBuf>,
    key: &[u8],
    key_path: Option<&PathBuf>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let certificates = parse_certificates(chain, chain_path)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| TlsError::Pem { path: key_path.cloned(), error })?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsError::Key { path: key_path.cloned(), error })?;
    let certified = CertifiedKey::new(certificates, key);
    match certified.keys_match() {
        // Not every provider can tell.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(TlsError::Certificate { path: chain_path.cloned(), error }),
    }
}
