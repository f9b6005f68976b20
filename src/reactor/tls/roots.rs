//! Whom a client trusts to say who a server is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

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

    /// Who looks at the certificates of servers.
    ///
    /// # Errors
    /// One of those that were named is not good, or there are none in all. What is not good of the
    /// system's is left out, and so are all of them where there are others.
    pub fn load(
        &self,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        let mut certificates = self.certificates.clone();
        let mut named = RootCertStore::empty();
        add_all(&mut named, &certificates, None)?;
        for path in &self.files {
            let of_file = parse_certificates(&read(path)?, Some(path))?;
            add_all(&mut named, &of_file, Some(path))?;
            certificates.extend(of_file);
        }
        let roots = self.join_system(named)?;
        let chains = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let chains = chains.expect("there are roots, and no lists of revocations");
        Ok(match certificates.is_empty() {
            true => chains,
            false => Arc::new(NamedOrSigned { named: certificates, chains }),
        })
    }

    fn join_system(&self, mut named: RootCertStore) -> Result<Arc<RootCertStore>, TlsError> {
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

/// Takes, beside those that an authority has signed, a server's own certificate that was named though
/// it calls itself an authority, as OpenSSL makes them unless told otherwise.
#[derive(Debug)]
struct NamedOrSigned {
    named: Vec<CertificateDer<'static>>,
    chains: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for NamedOrSigned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chains.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // That an authority is no server has no word of its own. By then it was looked at
            // whether the certificate has expired, and not yet whom it names.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.named.contains(certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.chains.root_hint_subjects()
    }
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
