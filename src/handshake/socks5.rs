//! The way through a proxy of SOCKS 5 (RFC 1928), with a user name and a password if it wants them
//! (RFC 1929).

use std::net::IpAddr;

use super::proxy::SocksCredentials;
use super::tunnel::{TunnelError, TunnelProgress};

/// The client's half of SOCKS 5.
pub(super) struct Socks5 {
    /// User name and password as they are sent, if they were offered.
    authentication: Option<Vec<u8>>,
    /// What to connect to, as it is sent.
    request: Vec<u8>,
    /// What has come of the answer that is due: a proper beginning of one.
    answer: Vec<u8>,
    state: State,
}

/// The answer that is due.
///
/// ```text
///             no authentication
///   Method ──────────────────────────► Reply ──► Open
///      │ user name, password             ▲
///      └─────────► Authentication ───────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Which way to authenticate the proxy has chosen (§3).
    Method,
    /// Whether the password is right (RFC 1929 §2).
    Authentication,
    /// Whether the server was reached, and from which address (§6).
    Reply,
    /// None: what comes is the server's.
    Open,
}

impl Socks5 {
    /// Offers ways to authenticate (§3). `host` is an address or a name of at most 255 bytes.
    pub(super) fn new(
        credentials: Option<&SocksCredentials>,
        host: &str,
        port: u16,
        out: &mut Vec<u8>,
    ) -> Self {
        match credentials {
            None => out.extend([VERSION, 1, NO_AUTHENTICATION]),
            Some(_) => out.extend([VERSION, 2, NO_AUTHENTICATION, USER_PASSWORD]),
        }
        Self {
            authentication: credentials.map(|SocksCredentials { user, password }| {
                [&[AUTHENTICATION_VERSION], &*counted(user), &*counted(password)].concat()
            }),
            request: connect(host, port),
            answer: Vec::new(),
            state: State::Method,
        }
    }

    pub(super) fn handle_input(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<TunnelProgress, TunnelError> {
        if self.state == State::Open {
            return Ok(TunnelProgress::Open { consumed_bytes: 0 });
        }
        for (index, &byte) in bytes.iter().enumerate() {
            self.answer.push(byte);
            let next = match self.state {
                State::Method => method_state(&self.answer)?,
                State::Authentication => authentication_state(&self.answer)?,
                State::Reply | State::Open => reply_state(&self.answer)?,
            };
            let Some(next) = next else { continue };
            self.answer.clear();
            self.state = next;
            match next {
                State::Method => {}
                State::Authentication => {
                    let authentication = self.authentication.as_ref();
                    // It has chosen what was not offered.
                    out.extend_from_slice(authentication.ok_or(TunnelError::Malformed)?);
                }
                State::Reply => out.extend_from_slice(&self.request),
                State::Open => return Ok(TunnelProgress::Open { consumed_bytes: index + 1 }),
            }
        }
        Ok(TunnelProgress::NeedMore)
    }
}

/// The request (§4). Names are left for the proxy to resolve.
fn connect(host: &str, port: u16) -> Vec<u8> {
    let mut request = vec![VERSION, CONNECT, RESERVED];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            request.push(IPV4);
            request.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            request.push(IPV6);
            request.extend(address.octets());
        }
        Err(_) => {
            request.push(DOMAIN_NAME);
            request.extend(counted(host));
        }
    }
    request.extend(port.to_be_bytes());
    request
}

/// A text behind its length. Who made it has checked the length.
fn counted(text: &str) -> Vec<u8> {
    let count = u8::try_from(text.len()).expect("the text was found to have at most 255 bytes");
    [&[count], text.as_bytes()].concat()
}

/// What follows the answer to an offer, `None` while it is not complete.
fn method_state(answer: &[u8]) -> Result<Option<State>, TunnelError> {
    match *answer {
        [VERSION] => Ok(None),
        [VERSION, NO_AUTHENTICATION] => Ok(Some(State::Reply)),
        [VERSION, USER_PASSWORD] => Ok(Some(State::Authentication)),
        [VERSION, NONE_ACCEPTABLE] => Err(TunnelError::NoAcceptableMethod),
        [VERSION, ..] => Err(TunnelError::Malformed),
        _ => Err(TunnelError::NotSocks5),
    }
}

fn authentication_state(answer: &[u8]) -> Result<Option<State>, TunnelError> {
    match *answer {
        [AUTHENTICATION_VERSION] => Ok(None),
        [AUTHENTICATION_VERSION, SUCCEEDED] => Ok(Some(State::Reply)),
        [AUTHENTICATION_VERSION, ..] => Err(TunnelError::AuthenticationFailed),
        _ => Err(TunnelError::Malformed),
    }
}

fn reply_state(answer: &[u8]) -> Result<Option<State>, TunnelError> {
    match *answer {
        [VERSION] | [VERSION, SUCCEEDED] | [VERSION, SUCCEEDED, RESERVED] => Ok(None),
        [VERSION, SUCCEEDED, RESERVED, address_type, ref address @ ..] => {
            // The address is of no use to us, but it has to be skipped.
            let address_bytes = match (address_type, address.first()) {
                (IPV4, _) => 4,
                (IPV6, _) => 16,
                (DOMAIN_NAME, Some(&count)) => 1 + usize::from(count),
                (DOMAIN_NAME, None) => return Ok(None),
                (_, _) => return Err(TunnelError::Malformed),
            };
            Ok((address.len() == address_bytes + PORT_BYTES).then_some(State::Open))
        }
        [VERSION, SUCCEEDED, ..] => Err(TunnelError::Malformed),
        // A proxy that refuses closes the connection, so that the rest may be missing.
        [VERSION, reply, ..] => Err(TunnelError::Reply(reply)),
        _ => Err(TunnelError::NotSocks5),
    }
}

const VERSION: u8 = 5;
/// Of the negotiation in RFC 1929.
const AUTHENTICATION_VERSION: u8 = 1;
const NO_AUTHENTICATION: u8 = 0;
const USER_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
const RESERVED: u8 = 0;
const IPV4: u8 = 1;
const DOMAIN_NAME: u8 = 3;
const IPV6: u8 = 4;
const SUCCEEDED: u8 = 0;
const PORT_BYTES: usize = 2;
