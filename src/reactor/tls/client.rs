//! What connections that are dialled are secured with.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, SignatureScheme, SupportedProtocolVersion};

use super::certificates::{Source, TlsError};
use super::roots::{AnyCertificate, Roots};
use super::session::{RustlsSession, Session};
use super::settings::{ALL_VERSIONS, TLS13_ONLY};

/// What connections that are dialled are secured with: TLS 1.2 and 1.3, by rustls. Cheap to clone;
/// all who share one share its sessions, by which later handshakes are shorter.
///
/// ```no_run
/// use corewire::TlsClient;
///
/// // Whom the system trusts, and an authority of our own.
/// let tls = TlsClient::builder().ca_file("ca.pem").build()?;
/// # let _ = tls;
/// # Ok::<(), corewire::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    /// `None`: the host that is dialled.
    server_name: Option<ServerName<'static>>,
}

/// Makes a [`TlsClient`].
#[must_use = "a builder does nothing until it is built"]
#[derive(Clone)]
pub struct TlsClientBuilder {
    trust: Trust,
    roots: Roots,
    certificate: Option<Source>,
    server_name: Option<String>,
    alpn: Vec<Vec<u8>>,
    provider: Option<Arc<CryptoProvider>>,
    versions: &'static [&'static SupportedProtocolVersion],
}

/// Which servers are talked to.
#[derive(Clone, Copy)]
enum Trust {
    /// Those whose certificate names them and comes from an authority that is trusted.
    Verified,
    Anybody,
}

impl TlsClient {
    /// TLS to be described.
    pub fn builder() -> TlsClientBuilder {
        TlsClientBuilder {
            trust: Trust::Verified,
            roots: Roots::of_system(),
            certificate: None,
            server_name: None,
            alpn: vec![b"http/1.1".to_vec()],
            provider: None,
            versions: ALL_VERSIONS,
        }
    }

    /// TLS as a configuration of rustls 0.23 describes it, for what the builder has no words for:
    /// lists of what was revoked, another verifier, another store of sessions or none. Its
    /// `alpn_protocols` should be `http/1.1`.
    ///
    /// # Errors
    /// [`TlsError::EarlyData`]: its `enable_early_data` is set.
    pub fn from_config(config: Arc<ClientConfig>) -> Result<Self, TlsError> {
        if config.enable_early_data {
            return Err(TlsError::EarlyData);
        }
        Ok(Self { config, server_name: None })
    }

    /// The same without a certificate of ours, for a server that none is meant for.
    pub(crate) fn without_certificate(&self) -> Self {
        if !self.has_certificate() {
            return self.clone();
        }
        let mut config = ClientConfig::clone(&self.config);
        config.client_auth_cert_resolver = Arc::new(NoCertificate);
        Self { config: Arc::new(config), server_name: self.server_name.clone() }
    }

    /// Whether a server that asks for a certificate may get one.
    pub(crate) fn has_certificate(&self) -> bool {
        self.config.client_auth_cert_resolver.has_certs()
    }

    /// A session for one connection to `host`.
    ///
    /// # Errors
    /// `InvalidInput`: no certificate can name this host, or the configuration cannot be.
    pub(in crate::reactor) fn session(&self, host: &str) -> io::Result<Box<dyn Session>> {
        let server_name = match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => parse_server_name(host),
        };
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let server_name = server_name.map_err(invalid)?;
        match RustlsSession::client(self.config.clone(), server_name) {
            Ok(session) => Ok(Box::new(session)),
            Err(error) => Err(invalid(TlsError::Provider(error))),
        }
    }
}

/// Shows no certificate.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys stay out of logs.
        out.debug_struct("TlsClient")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl TlsClientBuilder {
    /// Trusts the certificate authorities of a PEM file, beside the [system's](Self::without_system_roots).
    /// The certificate of a server may stand there too, if it vouches for itself: it has to name the
    /// server and be in its time, like any other.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.add_file(path.into());
        self
    }

    /// As [`ca_file`](Self::ca_file), from memory, each as DER.
    pub fn ca_certificates<C: Into<CertificateDer<'static>>>(
        mut self,
        certificates: impl IntoIterator<Item = C>,
    ) -> Self {
        self.roots.add(certificates.into_iter().map(Into::into));
        self
    }

    /// Trusts those certificate authorities alone that are named here. Default: the system's too,
    /// which are read once in a process. On Unix other than macOS they stand where OpenSSL has
    /// them; the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name another place.
    pub fn without_system_roots(mut self) -> Self {
        self.roots.leave_system();
        self
    }

    /// Shows this certificate to servers that ask for one: PEM files with its chain, its own
    /// certificate first, and with its key. Default: none. Another one takes its place.
    pub fn client_certificate(
        mut self,
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.certificate = Some(Source::Files { chain: chain.into(), key: key.into() });
        self
    }

    /// As [`client_certificate`](Self::client_certificate), from memory.
    pub fn client_certificate_pem(
        mut self,
        chain: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        let (chain, key) = (chain.into().into(), key.into().into());
        self.certificate = Some(Source::Pem { chain, key });
        self
    }

    /// The server that is asked for (SNI, RFC 6066 §3) and that its certificate has to name.
    /// Default: the host of the URL. An address is looked for among the addresses of the
    /// certificate, and is not asked for.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The protocols that are offered, the preferred one first (ALPN, RFC 7301). Default: `http/1.1`.
    /// Nothing else is spoken here, whatever a server chooses; of none there is no word.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Who does the cryptography. Default: ring.
    pub fn provider(mut self, provider: impl Into<Arc<CryptoProvider>>) -> Self {
        self.provider = Some(provider.into());
        self
    }

    /// Speaks TLS 1.3 only. Default: 1.2 too, for servers that are older than 2018.
    pub fn tls13_only(mut self) -> Self {
        self.versions = TLS13_ONLY;
        self
    }

    /// Talks to any server that has the key of the certificate that it shows, whoever has made it,
    /// whomever it names and whenever it has expired: to anybody, that is, who sits on the wire. For
    /// servers in tests; [`ca_file`](Self::ca_file) with the server's own certificate does the same
    /// safely, for one that vouches for itself.
    pub fn dangerously_accept_any_certificate(mut self) -> Self {
        self.trust = Trust::Anybody;
        self
    }

    /// Reads the certificates.
    ///
    /// The last sessions of up to 256 servers are kept, and resumed (RFC 8446 §2.2, RFC 5077).
    /// There is no early data, which could be replayed.
    ///
    /// # Errors
    /// [`TlsError::NoRoots`] if nobody is trusted; the others say which file or name is not good.
    pub fn build(self) -> Result<TlsClient, TlsError> {
        let provider = self.provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
        let server_name = self.server_name.as_deref().map(parse_server_name).transpose()?;
        let certificate = self.certificate.map(|source| source.load(&provider)).transpose()?;
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.versions)
            .map_err(TlsError::Provider)?;
        let verifier = match self.trust {
            Trust::Verified => self.roots.load(provider)?,
            Trust::Anybody => Arc::new(AnyCertificate(provider)),
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match certificate {
            Some(certified) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn;
        Ok(TlsClient { config: Arc::new(config), server_name })
    }
}

fn parse_server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}
