//! Which certificate a client is shown, and how certificates are changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corewire::{Tls, TlsError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ServerConfig, SignatureScheme};

use crate::sim_bed::{Bed, echo};
use crate::sim_peer::{Frame, TEXT, message};
use crate::tls_peer::{Identity, TlsPeer, VERSIONS, client_config, server_tls};
use crate::tls_records::provider;

/// The certificate that a client is shown who asks for `name`.
fn shown(bed: &mut Bed, client: &Arc<ClientConfig>, name: &str) -> CertificateDer<'static> {
    let mut peer = TlsPeer::connect_as(bed, client, name);
    peer.turns(bed, 4);
    let certificates = peer.tls.peer_certificates().expect("a certificate was shown");
    certificates[0].clone()
}

fn bed_of(tls: Tls) -> Bed {
    Bed::new(|settings| settings.tls = Some(tls), echo)
}

/// Takes any certificate: these tests look at it themselves.
fn curious_client(config: ClientConfig, schemes: &[SignatureScheme]) -> Arc<ClientConfig> {
    let mut config = config;
    let schemes = schemes.to_vec();
    config.dangerous().set_certificate_verifier(Arc::new(Curious { schemes }));
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

#[derive(Debug)]
struct Curious {
    schemes: Vec<SignatureScheme>,
}

mod curious {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    use super::Curious;

    impl ServerCertVerifier for Curious {
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
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.schemes.clone()
        }
    }
}

const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const RSA: [SignatureScheme; 2] =
    [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];

#[test]
fn server_name_chooses_among_certificates() {
    let identities = [
        Identity::new(&["one.example"]),
        Identity::new(&["two.example", "also.two.example", "10.0.0.9"]),
        Identity::new(&["*.wild.example"]),
        Identity::new(&["special.wild.example"]),
    ];
    let expected = [
        ("one.example", 0),
        ("two.example", 1),
        ("TWO.example", 1),
        ("also.two.example", 1),
        ("any.wild.example", 2),
        // The first that covers it, not the closest.
        ("special.wild.example", 2),
        // A wildcard is one label.
        ("a.b.wild.example", 0),
        ("unknown.example", 0),
        // An address is no server name (RFC 6066 §3), so none is asked for.
        ("10.0.0.9", 0),
    ];
    for version in VERSIONS {
        let [a, b, c, d] = &identities;
        let mut bed = bed_of(server_tls(&[a, b, c, d]));
        let client = curious_client(client_config(&[], version), &[ECDSA]);
        for (name, index) in expected {
            assert_eq!(shown(&mut bed, &client, name), identities[index].der, "{name}");
        }
    }
}

#[test]
fn certificate_is_one_that_the_client_can_verify() {
    let (ecdsa, rsa) = (Identity::new(&["example.com"]), Identity::rsa(&["example.com"]));
    for version in VERSIONS {
        for identities in [[&ecdsa, &rsa], [&rsa, &ecdsa]] {
            let mut bed = bed_of(server_tls(&identities));
            let both = [&[ECDSA][..], &RSA].concat();
            for (schemes, expected) in
                [(&[ECDSA][..], &ecdsa), (&RSA, &rsa), (&both, identities[0])]
            {
                let client = curious_client(client_config(&[], version), schemes);
                assert_eq!(shown(&mut bed, &client, "example.com"), expected.der);
            }
        }
    }
}

#[test]
fn client_that_can_verify_none_is_told() {
    let rsa = Identity::rsa(&["example.com"]);
    for version in VERSIONS {
        let mut bed = bed_of(server_tls(&[&rsa]));
        let client = curious_client(client_config(&[], version), &[ECDSA]);
        let mut peer = TlsPeer::connect(&bed, &client);
        peer.turns(&mut bed, 4);
        assert_eq!(peer.alert(), Some(rustls::AlertDescription::HandshakeFailure));
    }
}

/// A directory that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corewire-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn keep(&self, identity: &Identity) {
        fs::write(self.file("chain.pem"), &identity.chain).unwrap();
        fs::write(self.file("key.pem"), &identity.key).unwrap();
    }

    fn tls(&self) -> Result<Tls, TlsError> {
        Tls::builder().certificate_files(self.file("chain.pem"), self.file("key.pem")).build()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn reload_changes_certificates_of_new_connections_and_leaves_the_old_ones_alone() {
    let folder = Folder::new("reload");
    let (old, new) = (Identity::new(&["example.com"]), Identity::new(&["example.com"]));
    for version in VERSIONS {
        folder.keep(&old);
        let tls = folder.tls().unwrap();
        let mut bed = bed_of(tls.clone());
        let mut peer = TlsPeer::open(&mut bed, &Arc::new(client_config(&[&old], version)));
        folder.keep(&new);
        let client = curious_client(client_config(&[], version), &[ECDSA]);
        assert_eq!(shown(&mut bed, &client, "example.com"), old.der, "nobody has said so yet");
        tls.reload().unwrap();
        assert_eq!(shown(&mut bed, &client, "example.com"), new.der);
        peer.say(&message(TEXT, b"still here"));
        peer.turns(&mut bed, 2);
        assert_eq!(peer.take_frames(), [Frame::new(TEXT, b"still here")]);
    }
}

/// A PEM section with nothing of its kind inside.
fn garbage(label: &str) -> String {
    format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")
}

#[test]
fn bad_files_are_named_and_change_nothing() {
    let folder = Folder::new("bad-files");
    let (good, other) = (Identity::new(&["example.com"]), Identity::new(&["example.com"]));
    folder.keep(&good);
    let tls = folder.tls().unwrap();
    let mut bed = bed_of(tls.clone());
    let client = curious_client(client_config(&[], VERSIONS[1]), &[ECDSA]);
    let (chain, key) = (folder.file("chain.pem"), folder.file("key.pem"));
    let is_named = |error: &TlsError, path: &Path| {
        let text = error.to_string();
        assert!(text.starts_with(&path.display().to_string()), "{text}");
    };
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let spoilt: [(Spoil<'_>, &Path); 8] = [
        (Box::new(|| fs::remove_file(&chain).unwrap()), &chain),
        (Box::new(|| fs::write(&chain, "no PEM").unwrap()), &chain),
        (Box::new(|| fs::write(&chain, good.chain.replace("MII", "???")).unwrap()), &chain),
        (Box::new(|| fs::write(&key, &good.chain).unwrap()), &key),
        (Box::new(|| fs::remove_file(&key).unwrap()), &key),
        // PEM of what is none.
        (Box::new(|| fs::write(&key, garbage("PRIVATE KEY")).unwrap()), &key),
        (Box::new(|| fs::write(&chain, garbage("CERTIFICATE")).unwrap()), &chain),
        // A key that belongs to another certificate.
        (Box::new(|| fs::write(&key, &other.key).unwrap()), &chain),
    ];
    for (spoil, named) in spoilt {
        folder.keep(&good);
        spoil();
        is_named(&tls.reload().unwrap_err(), named);
        is_named(&folder.tls().unwrap_err(), named);
        assert_eq!(shown(&mut bed, &client, "example.com"), good.der);
    }
    assert!(matches!(Tls::builder().build(), Err(TlsError::NoCertificate)));
}

#[test]
fn configuration_of_the_callers_own_has_no_early_data_and_nothing_to_reload() {
    let identity = Identity::new(&["example.com"]);
    let config = |early_bytes| {
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = builder.with_single_cert(vec![identity.der.clone()], key).unwrap();
        config.max_early_data_size = early_bytes;
        Arc::new(config)
    };
    assert!(matches!(Tls::from_config(config(1)), Err(TlsError::EarlyData)));
    let tls = Tls::from_config(config(0)).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::NothingToReload)));
}

#[test]
fn keys_stay_out_of_what_is_printed() {
    let tls = server_tls(&[&Identity::new(&["example.com"])]);
    assert_eq!(format!("{tls:?}"), "Tls { certificates: Some(Certificates { count: 1, .. }), .. }");
}
