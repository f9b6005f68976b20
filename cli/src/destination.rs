//! Where a client connects and how, and what it says when that fails.

use std::time::Duration;

use clap::Args;
use corewire::opening::{Scheme, WebSocketUri};
use corewire::{Client, ClientBuilder, ClientError, Compression, DialError, TlsClient, TlsError};
use rustls::CertificateError;

use crate::args::Failure;
use crate::settings::compression;

/// How long each step of dialling may take, unless flags say otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// So much of a refusal's body is shown at most.
const REFUSAL_CHARS_MAX: usize = 200;

/// Where a client connects, and what it asks for there.
#[derive(Args, Debug)]
pub struct Destination {
    /// Where to: ws://host:port/path, wss://host:port/path, ws+unix:/path/of.sock:/path
    #[arg(value_name = "URL")]
    pub url: String,
    /// A subprotocol to offer, the preferred one first (repeatable)
    #[arg(long, value_name = "NAME")]
    pub subprotocol: Vec<String>,
    /// A header to add to the request (repeatable)
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// The Origin to claim, as a browser would
    #[arg(long, value_name = "URL")]
    pub origin: Option<String>,
    /// Say who asks by a user name and a password
    #[arg(long, value_name = "USER:PASSWORD", value_parser = user, conflicts_with = "bearer")]
    pub user: Option<(String, String)>,
    /// Say who asks by a token
    #[arg(long, value_name = "TOKEN")]
    pub bearer: Option<String>,
    /// Offer to compress messages, from 128 bytes on: with one compressor for all connections, or
    /// with one for each, of a window of 2^BITS bytes (9 to 15) and memory level MEM (1 to 9)
    #[arg(long, value_name = "off|shared|dedicated[:BITS:MEM]", default_value = "off")]
    #[arg(value_parser = compression, hide_possible_values = true)]
    pub compression: Compression,
    #[command(flatten)]
    pub security: Security,
}

/// Whom to trust over wss, and who we are there.
#[derive(Args, Debug)]
pub struct Security {
    /// Trust the certificate authorities of this PEM file, beside the system's (repeatable)
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub ca: Vec<String>,
    /// Accept any certificate: whoever sits on the wire can pose as the server
    #[arg(long, conflicts_with = "ca", help_heading = "TLS")]
    pub insecure: bool,
    /// Show this certificate if the server asks for one: a PEM file with its chain
    #[arg(long, value_name = "FILE", requires = "key", help_heading = "TLS")]
    pub cert: Option<String>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = "TLS")]
    pub key: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is NAME: VALUE")?;
    Ok((name.to_owned(), value.trim().to_owned()))
}

fn user(text: &str) -> Result<(String, String), String> {
    let (user, password) = text.split_once(':').ok_or("it is USER:PASSWORD")?;
    Ok((user.to_owned(), password.to_owned()))
}

impl Destination {
    /// What the flags say. Redirections, if so many are followed, may lead to wss.
    pub fn builder(&self, redirects_max: u8) -> Result<ClientBuilder, Failure> {
        let mut builder = Client::builder(&self.url).compression(self.compression.clone());
        for name in &self.subprotocol {
            builder = builder.subprotocol(name);
        }
        for (name, value) in &self.header {
            builder = builder.header(name, value);
        }
        if let Some(origin) = &self.origin {
            builder = builder.origin(origin);
        }
        if let Some((user, password)) = &self.user {
            builder = builder.basic_auth(user, password);
        }
        if let Some(token) = &self.bearer {
            builder = builder.bearer_auth(token);
        }
        // Who trusts nobody can still speak ws.
        let is_secure = WebSocketUri::parse(&self.url).is_ok_and(|uri| uri.scheme() == Scheme::Wss);
        if is_secure || redirects_max > 0 {
            builder = builder.redirects(redirects_max).tls(self.security.tls()?);
        }
        Ok(builder)
    }

    /// Why there are no settings, for a person.
    pub fn refuse(&self, error: &ClientError) -> Failure {
        Failure(match error {
            ClientError::Uri(error) => format!("{} is not a WebSocket URL: {error}", self.url),
            error => error.to_string(),
        })
    }
}

impl Security {
    fn tls(&self) -> Result<TlsClient, Failure> {
        let mut builder = TlsClient::builder();
        for file in &self.ca {
            builder = builder.ca_file(file);
        }
        if self.insecure {
            builder = builder.dangerously_accept_any_certificate();
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            builder = builder.client_certificate(cert, key);
        }
        builder.build().map_err(|error| match error {
            TlsError::NoRoots { .. } => Failure(format!("{error} ({TRUST})")),
            error => Failure(error.to_string()),
        })
    }
}

const TRUST: &str = "--ca FILE names whom to trust, --insecure trusts anybody";

/// Why a connection was not made, and what helps, on one line.
pub fn explain(error: &DialError) -> String {
    match error {
        DialError::Refused(refusal) => format!("{error}{}", reason(&refusal.body)),
        DialError::Tls(cause) => match cause.downcast_ref::<rustls::Error>() {
            // The second, where an authority of the same name is trusted.
            Some(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => format!("{error} ({TRUST})"),
            Some(rustls::Error::InvalidCertificate(_)) => {
                format!("{error} (--insecure accepts it nevertheless)")
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                format!("{error} (perhaps only ws:// is spoken there)")
            }
            _ => error.to_string(),
        },
        _ => error.to_string(),
    }
}

/// The first line of what the server says about its refusal, if that is text.
pub fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String =
        text.lines().next().unwrap_or_default().chars().take(REFUSAL_CHARS_MAX).collect();
    match line.trim() {
        "" => String::new(),
        line => format!(" ({})", printable(line)),
    }
}

/// Text from outside must not move the cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
