//! Whom a client trusts to say who a server is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use super::certificates::{TlsError, parse_certificates, read};

/// The certificate authorities that are to be trusted.
#[derive(Clone)]
pub struct Roots {
    system: SystemRoots,
    files: Vec<PathBuf>,
    certificates: Vec<CertificateDer<'static>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SystemRoots {
    Trusted,
    Left,
}

impl Roots {
    pub fn of_system() -> Self {
        Self { system: SystemRoots::Trusted, files: Vec::new(), certificates: Vec::new() }
    }

    pub fn leave_system(&mut self) {
        self.system = SystemRoots::Left;
    }

    pub fn add_file(&mut self, path: PathBuf) {
        self.files.push(path);
    }

    pub fn add(&mut self, certificates: impl Iterator<Item = CertificateDer<'static>>) {
        self.certificates.extend(certificates);
    }

    /// # Errors
    /// One of those that were named is not good, or there are none in all. What is not good of the
    /// system's is left out, and so are all of them where there are others.
    pub fn load(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut named = RootCertStore::empty();
        for path in &self.files {
            add_all(&mut named, &parse_certificates(&read(path)?, Some(path))?, Some(path))?;
        }
        add_all(&mut named, &self.certificates, None)?;
        let system = match self.system {
            SystemRoots::Trusted => system_roots(),
            SystemRoots::Left => Err(None),
        };
        match system {
            Ok(system) if named.is_empty() => Ok(system),
            Ok(system) => {
                named.roots.extend(system.roots.iter().cloned());
                Ok(Arc::new(named))
            }
            Err(_) if !named.is_empty() => Ok(Arc::new(named)),
            Err(error) => Err(TlsError::NoRoots { error }),
        }
    }
}

fn add_all(
    roots: &mut RootCertStore,
    certificates: &[CertificateDer<'static>],
    path: Option<&PathBuf>,
) -> Result<(), TlsError> {
    for certificate in certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| TlsError::Certificate { path: path.cloned(), error })?;
    }
    Ok(())
}

/// The system's, read once in a process: they are some hundred files, or one as large. An attempt
/// that finds none is made again.
fn system_roots() -> Result<Arc<RootCertStore>, Option<Box<dyn std::error::Error + Send + Sync>>> {
    static SYSTEM: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);
    let mut system = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(roots) = &*system {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(found.errors.into_iter().next().map(Into::into));
    }
    Ok(system.insert(Arc::new(roots)).clone())
}

/// Takes any certificate, but of those alone who have its key.
#[derive(Debug)]
pub struct AnyCertificate(pub Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
