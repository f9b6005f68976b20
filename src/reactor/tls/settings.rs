//! What the connections of a listener are secured with.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificates::{Certificates, Source, TlsError};
use super::session::{RustlsSession, Session};

/// What the connections of a listener are secured with: TLS 1.2 and 1.3, by rustls. Cheap to clone;
/// all loops and listeners with it share its certificates.
///
/// ```no_run
/// use corewire::{Server, Tls};
/// # use corewire::{Context, Handler, Message};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     type Data = ();
/// #     fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
/// #         let _ = ctx.send(message);
/// #     }
/// # }
///
/// let tls = Tls::builder().certificate_files("chain.pem", "key.pem").build()?;
/// let server = Server::builder().listen(([127, 0, 0, 1], 9443)).tls(tls.clone());
/// // Later, from any thread, when the files have changed:
/// tls.reload()?;
/// # let _ = server.build(|_| Echo);
/// # Ok::<(), corewire::TlsError>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    /// `None` where the configuration is the caller's own.
    certificates: Option<Arc<Certificates>>,
}

/// Makes a [`Tls`].
#[must_use = "a builder does nothing until it is built"]
#[derive(Clone)]
pub struct TlsBuilder {
    sources: Vec<Source>,
    provider: Option<Arc<CryptoProvider>>,
    ticketer: Option<Arc<dyn ProducesTickets>>,
    versions: &'static [&'static SupportedProtocolVersion],
}

pub(super) const ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
pub(super) const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&TLS13];

impl Tls {
    /// TLS to be described.
    pub fn builder() -> TlsBuilder {
        TlsBuilder { sources: Vec::new(), provider: None, ticketer: None, versions: ALL_VERSIONS }
    }

    /// TLS as a configuration of rustls 0.23 describes it, for what the builder has no words for:
    /// client certificates, other versions, another source of certificates. Its
    /// `alpn_protocols` should be `http/1.1`.
    ///
    /// # Errors
    /// [`TlsError::EarlyData`]: its `max_early_data_size` is not 0.
    pub fn from_config(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        if config.max_early_data_size != 0 {
            return Err(TlsError::EarlyData);
        }
        Ok(Self { config, certificates: None })
    }

    /// Reads all certificate files again. Handshakes from now on use what was read; connections
    /// that stand are not touched. It reads files: call it off the loops.
    ///
    /// # Errors
    /// One of the files is not good; then all certificates stay as they were.
    /// [`TlsError::NothingToReload`] for those of [`Tls::from_config`].
    pub fn reload(&self) -> Result<(), TlsError> {
        self.certificates.as_ref().ok_or(TlsError::NothingToReload)?.reload()
    }

    /// A session for one connection.
    ///
    /// # Errors
    /// The configuration cannot be.
    pub(in crate::reactor) fn session(&self) -> io::Result<Box<dyn Session>> {
        match RustlsSession::server(self.config.clone()) {
            Ok(session) => Ok(Box::new(session)),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tls").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl TlsBuilder {
    /// Adds a certificate: PEM files with its chain, its own certificate first, and with its key.
    ///
    /// Of several the client is shown the first that covers the name it asks for (RFC 6066 §3);
    /// without a name, or if none covers it, the first of all.
    pub fn certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.sources.push(Source::Files { chain: chain.into(), key: key.into() });
        self
    }

    /// As [`certificate_files`](Self::certificate_files), from memory.
    pub fn certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let (chain, key) = (chain.into().into(), key.into().into());
        self.sources.push(Source::Pem { chain, key });
        self
    }

    /// Who does the cryptography. Default: ring. With another, say who makes the
    /// [tickets](Self::ticketer) too.
    pub fn provider(mut self, provider: impl Into<Arc<CryptoProvider>>) -> Self {
        self.provider = Some(provider.into());
        self
    }

    /// Who makes the tickets by which sessions are resumed. Default: ring, which nobody has to have
    /// beside a provider of their own: with a [provider](Self::provider) there are no tickets
    /// unless they are asked for here, and each handshake is a full one.
    pub fn ticketer(mut self, ticketer: Arc<dyn ProducesTickets>) -> Self {
        self.ticketer = Some(ticketer);
        self
    }

    /// Speaks TLS 1.3 only. Default: 1.2 too, for clients that are older than 2018.
    pub fn tls13_only(mut self) -> Self {
        self.versions = TLS13_ONLY;
        self
    }

    /// Reads the certificates.
    ///
    /// Sessions are resumed by tickets (RFC 8446 §2.2, RFC 5077) alone, which cost the server no
    /// memory; there is no early data, which could be replayed. By ALPN the protocol is `http/1.1`:
    /// a client that offers others only is refused.
    ///
    /// # Errors
    /// [`TlsError`] says which file and what is wrong with it.
    pub fn build(self) -> Result<Tls, TlsError> {
        let ticketer = match (self.ticketer, &self.provider) {
            (Some(ticketer), _) => Some(ticketer),
            (None, None) => Some(ring::Ticketer::new().map_err(TlsError::Provider)?),
            (None, Some(_)) => None,
        };
        let provider = self.provider.unwrap_or_else(|| Arc::new(ring::default_provider()));
        let certificates = Arc::new(Certificates::new(self.sources, provider.clone())?);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .map_err(TlsError::Provider)?
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = ticketer.unwrap_or(config.ticketer);
        // Tickets do it all; a cache would be a lock that all loops share.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Tls { config: Arc::new(config), certificates: Some(certificates) })
    }
}
