//! Certificates of an authority that was made for the test, and servers that show them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::reactor::tls::{TlsClient, TlsClientBuilder};

pub type Version = &'static SupportedProtocolVersion;

pub const VERSIONS: [Version; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub struct Certified {
    pub chain_pem: String,
    pub key_pem: String,
    pub der: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Else all of them would be one, with another key.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn certify(&self, names: &[&str]) -> Certified {
        self.certify_with(names, |_| {})
    }

    pub fn certify_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certified {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Certified {
            chain_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
        }
    }

    /// A client that trusts this authority alone.
    pub fn client(&self) -> TlsClientBuilder {
        TlsClient::builder().without_system_roots().ca_certificates([self.der()])
    }
}

impl Certified {
    /// One that vouches for itself and calls itself an authority, as OpenSSL makes them.
    pub fn self_signed(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Self::from_pem(params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    pub fn from_pem(chain_pem: String, key_pem: String) -> Self {
        let der = CertificateDer::from_pem_slice(chain_pem.as_bytes()).unwrap();
        Self { chain_pem, key_pem, der }
    }
}

/// Whether a server asks for certificates of clients.
pub enum ClientAuth<'a> {
    None,
    Of(&'a Authority),
}

/// What a server of one version shows.
pub fn server_config(
    version: Version,
    certified: &Certified,
    auth: &ClientAuth<'_>,
) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap();
    let builder = match auth {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Of(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from_pem_slice(certified.key_pem.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(vec![certified.der.clone()], key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// A server `example.com`, and a client that trusts it.
pub fn parties(version: Version) -> (Arc<ServerConfig>, TlsClient) {
    let authority = Authority::new();
    let certified = authority.certify(&["example.com"]);
    let config = server_config(version, &certified, &ClientAuth::None);
    (Arc::new(config), authority.client().build().unwrap())
}
