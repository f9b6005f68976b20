//! What a client is built from, and what is wrong with it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::certified::{Authority, Certified, ClientAuth, VERSIONS, parties, server_config};
use super::ends::{COARSE, End, Foreign, KEY, Ours, Wire, exchange};
use crate::limits::LoopLimits;
use crate::reactor::tls::{TlsClient, TlsError};
use crate::reactor::transport::Transport;

/// A directory that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corewire-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether a client and a server that `authority` vouches for come together.
fn agrees(authority: &Authority, tls: &TlsClient) -> bool {
    agrees_with(&authority.certify(&["example.com"]), tls)
}

fn agrees_with(certified: &Certified, tls: &TlsClient) -> bool {
    let config = server_config(VERSIONS[1], certified, &ClientAuth::None);
    let [near, far] = Wire::pair(COARSE);
    let mut client = Ours::client(tls, "example.com", near);
    exchange(&mut client, &mut Foreign::new(Arc::new(config), far));
    client.is_open()
}

#[test]
fn authorities_and_certificate_are_read_from_files() {
    let folder = Folder::new("client-files");
    let (one, two, own) = (Authority::new(), Authority::new(), Authority::new());
    let both = folder.file("both.pem", &(one.pem() + &two.pem()));
    let tls = TlsClient::builder().without_system_roots().ca_file(both).build().unwrap();
    assert!(agrees(&one, &tls) && agrees(&two, &tls) && !agrees(&own, &tls));
    let certified = one.certify(&["example.com"]);
    let shown = own.certify(&["somebody"]);
    let chain = folder.file("chain.pem", &shown.chain_pem);
    let key = folder.file("key.pem", &shown.key_pem);
    let tls = one.client().client_certificate(chain, key).build().unwrap();
    let config = server_config(VERSIONS[1], &certified, &ClientAuth::Of(&own));
    let [near, far] = Wire::pair(COARSE);
    let mut client = Ours::client(&tls, "example.com", near);
    let mut server = Foreign::new(Arc::new(config), far);
    exchange(&mut client, &mut server);
    assert_eq!(server.tls.peer_certificates(), Some(&[shown.der][..]));
}

#[test]
fn what_cannot_be_is_named() {
    let folder = Folder::new("client-bad-files");
    let (authority, other) = (Authority::new(), Authority::new().certify(&["other"]));
    let certified = authority.certify(&["somebody"]);
    let plain = || TlsClient::builder().without_system_roots();
    assert!(matches!(plain().build(), Err(TlsError::NoRoots { error: None })));

    let missing = folder.0.join("missing.pem");
    let error = authority.client().ca_file(&missing).build().unwrap_err();
    assert!(matches!(&error, TlsError::File { path, .. } if *path == missing), "{error}");
    let is_named = |error: &TlsError, path: &Path| {
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    };
    is_named(&error, &missing);
    let no_pem = folder.file("no.pem", "no PEM");
    is_named(&plain().ca_file(&no_pem).build().unwrap_err(), &no_pem);
    let no_der =
        folder.file("der.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let error = plain().ca_file(&no_der).build().unwrap_err();
    assert!(matches!(error, TlsError::Certificate { .. }));
    is_named(&error, &no_der);
    let error = plain().ca_certificates([vec![1, 2, 3]]).build().unwrap_err();
    assert!(matches!(error, TlsError::Certificate { path: None, .. }));

    let mixed = authority.client().client_certificate_pem(&*certified.chain_pem, &*other.key_pem);
    assert!(matches!(mixed.build(), Err(TlsError::Certificate { path: None, .. })));
    let keyless = authority.client().client_certificate_pem(&*certified.chain_pem, "");
    assert!(matches!(keyless.build(), Err(TlsError::Pem { path: None, .. })));

    for name in ["", "not a name", "exa mple.com", "a..b", "[::1]"] {
        let error = authority.client().server_name(name).build().unwrap_err();
        assert!(matches!(&error, TlsError::ServerName(of) if of == name), "{error}");
        let tls = authority.client().build().unwrap();
        let [near, _far] = Wire::pair(COARSE);
        let mut transport = Transport::new(near, &LoopLimits::default());
        let error = transport.secure_client(KEY, &tls, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!((transport.links(), transport.pinned_bytes()), (0, 0));
    }
}

#[test]
fn configuration_of_the_callers_own_has_no_early_data() {
    let (server, _) = parties(VERSIONS[1]);
    let config = || {
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    };
    let mut early = config();
    early.enable_early_data = true;
    assert!(matches!(TlsClient::from_config(Arc::new(early)), Err(TlsError::EarlyData)));
    let tls = TlsClient::from_config(Arc::new(config())).unwrap();
    let [near, far] = Wire::pair(COARSE);
    let mut client = Ours::client(&tls, "example.com", near);
    exchange(&mut client, &mut Foreign::new(server, far));
    assert!(client.failure().is_some(), "it trusts nobody, as it was told");
}

#[test]
fn provider_that_was_named_does_the_cryptography() {
    let authority = Authority::new();
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_256_GCM_SHA384];
    let tls = authority.client().provider(provider.clone()).build().unwrap();
    assert!(agrees(&authority, &tls));
    provider.cipher_suites.clear();
    let error = authority.client().provider(provider).build().unwrap_err();
    assert!(matches!(error, TlsError::Provider(_)));
}

#[test]
fn keys_stay_out_of_what_is_printed() {
    let tls = Authority::new().client().server_name("example.com").build().unwrap();
    assert_eq!(format!("{tls:?}"), "TlsClient { server_name: Some(DnsName(\"example.com\")), .. }");
}

/// Tells the process that this test has started where the server's certificate is.
const SERVER: &str = "COREWIRE_TEST_SERVER";

/// The system's authorities are read once in a process, so each case has its own.
#[test]
fn authorities_of_the_system_are_trusted_unless_they_are_left_out() {
    if let Some(folder) = std::env::var_os(SERVER) {
        return check_system_roots(Path::new(&folder));
    }
    let folder = Folder::new("system-roots");
    let authority = Authority::new();
    let certified = authority.certify(&["example.com"]);
    folder.file("chain.pem", &certified.chain_pem);
    folder.file("key.pem", &certified.key_pem);
    folder.file("authority.pem", &authority.pem());
    folder.file("empty.pem", "");
    let program = std::env::current_exe().unwrap();
    let name = std::thread::current().name().unwrap().to_owned();
    for file in ["empty.pem", "missing.pem", "authority.pem"] {
        let status = Command::new(&program)
            .args(["--exact", &name])
            .env(SERVER, &folder.0)
            .env("SSL_CERT_FILE", folder.0.join(file))
            .env("SSL_CERT_DIR", folder.0.join("no-directory"))
            .status()
            .unwrap();
        assert!(status.success(), "{file}");
    }
}

fn check_system_roots(folder: &Path) {
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    let server = Certified::from_pem(read("chain.pem"), read("key.pem"));
    let own = Authority::new();
    let named = TlsClient::builder().ca_certificates([own.der()]).build().unwrap();
    assert!(agrees(&own, &named), "what is named is enough");
    let system = TlsClient::builder().build();
    let file = std::env::var_os("SSL_CERT_FILE").unwrap();
    if Path::new(&file).ends_with("authority.pem") {
        assert!(agrees_with(&server, &system.unwrap()));
        assert!(agrees_with(&server, &named), "beside the one that was named");
        assert!(!agrees_with(&server, &own.client().build().unwrap()));
        fs::remove_file(file).unwrap();
        assert!(agrees_with(&server, &TlsClient::builder().build().unwrap()), "read once");
    } else {
        let error = system.unwrap_err();
        assert!(matches!(error, TlsError::NoRoots { .. }), "{error}");
        // Another attempt looks again.
        fs::write(file, read("authority.pem")).unwrap();
        assert!(agrees_with(&server, &TlsClient::builder().build().unwrap()));
    }
}
