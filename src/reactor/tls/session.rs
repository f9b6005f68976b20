//! TLS without I/O: the one file that knows how the library underneath is driven.

use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};
use rustls::{ClientConfig, CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

/// One TLS connection, of a server or of a client: records go in and payload comes out, and the
/// other way round. Where the bytes come from and go to is the caller's affair.
pub trait Session: Send {
    /// Works through the records at the front of `records`, of which the last may be torn. Their
    /// payload goes to `payload` in its order; what is to be sent is appended to `output`, after a
    /// failure the alert that tells of it. A client's handshake begins with no records.
    ///
    /// What is not done with has to stand at the front of the next call's records, unchanged.
    fn handle_records(
        &mut self,
        records: &mut [u8],
        payload: &mut dyn FnMut(&[u8]),
        output: &mut Vec<u8>,
    ) -> Handled;

    /// Appends the records of `payload` to `output`. `records` are those that were not done with.
    ///
    /// # Errors
    /// The handshake is not over, or so much was sent under one key that it must not be used on.
    fn encrypt(
        &mut self,
        records: &mut [u8],
        payload: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), Refused>;

    /// Appends the close_notify that ends our direction (RFC 8446 §6.1). Before the end of the
    /// handshake there is none. `records` are those that were not done with.
    fn close(&mut self, records: &mut [u8], output: &mut Vec<u8>);

    /// How far the connection has come.
    fn stage(&self) -> Stage;

    /// What the handshake has brought to light.
    fn facts(&self) -> TlsFacts<'_>;

    /// Why the verdict was [`Verdict::Broken`]; told once.
    fn take_failure(&mut self) -> Option<TlsFailure>;
}

/// Why TLS has failed: the peer's records, its certificate, or the alert that it has sent.
pub type TlsFailure = Box<dyn std::error::Error + Send + Sync>;

/// What a TLS handshake has brought to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts<'a> {
    /// The version that both speak.
    pub version: TlsVersion,
    /// The other end's certificate and those that go with it, its own first.
    ///
    /// A client's: empty unless [`Tls::from_config`](super::Tls::from_config) was told to ask for
    /// one; it was verified then. A server's: never empty, and verified unless
    /// [the client was told not to](super::TlsClientBuilder::dangerously_accept_any_certificate).
    pub peer_certificates: &'a [CertificateDer<'static>],
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// How records were handled.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Handled {
    /// So many bytes are done with.
    pub done_bytes: usize,
    /// Whether the peer has kept the rules.
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    Broken,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Handshaking,
    Established(Handshake),
    /// The peer has sent its close_notify.
    PeerClosed,
}

/// How a handshake went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Full,
    /// A ticket or session of before has spared it the signature.
    Resumed,
}

/// Nothing can be encrypted any more, or not yet.
#[derive(Clone, Copy, Debug)]
pub struct Refused;

/// A session of rustls 0.23, over its unbuffered connection: the buffered one keeps 4 KiB for each
/// idle connection, and 16 KiB behind a large record.
pub struct RustlsSession<C> {
    connection: C,
    is_closed_by_peer: bool,
    /// Boxed: most sessions have none.
    failure: Option<Box<rustls::Error>>,
}

/// A connection of either end. They are driven alike, but the library has no trait that says so.
pub trait Unbuffered: Send {
    type Data;

    fn process<'c, 'i>(&'c mut self, records: &'i mut [u8])
    -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn common(&self) -> &CommonState;
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        records: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        records: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(records)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl RustlsSession<UnbufferedServerConnection> {
    /// # Errors
    /// The configuration cannot be.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        UnbufferedServerConnection::new(config).map(Self::over)
    }
}

impl RustlsSession<UnbufferedClientConnection> {
    /// # Errors
    /// The configuration cannot be.
    pub fn client(
        config: Arc<ClientConfig>,
        server: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        UnbufferedClientConnection::new(config, server).map(Self::over)
    }
}

impl<C: Unbuffered> RustlsSession<C> {
    fn over(connection: C) -> Self {
        Self { connection, is_closed_by_peer: false, failure: None }
    }

    /// What was still to be said when the peer broke the rules, at last the alert. The records that
    /// led there are not shown again: the library would find them bad once more.
    fn encode_last_words(&mut self, output: &mut Vec<u8>) {
        while self.connection.common().wants_write()
            && let Ok(ConnectionState::EncodeTlsData(data)) = self.connection.process(&mut []).state
            && encode(data, output).is_ok()
        {}
    }
}

impl<C: Unbuffered> Session for RustlsSession<C> {
    fn handle_records(
        &mut self,
        records: &mut [u8],
        payload: &mut dyn FnMut(&[u8]),
        output: &mut Vec<u8>,
    ) -> Handled {
        let mut done_bytes = 0;
        loop {
            let records = &mut records[done_bytes..];
            let UnbufferedStatus { discard, state, .. } = self.connection.process(records);
            let mut discard_bytes = discard;
            match state {
                Err(error) => {
                    self.encode_last_words(output);
                    self.failure = Some(Box::new(error));
                    return Handled { done_bytes, verdict: Verdict::Broken };
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard_bytes += record.discard;
                        payload(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    let encoded = encode(data, output);
                    debug_assert!(encoded.is_ok(), "it was not encoded before");
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.is_closed_by_peer = true,
                // Behind the last record, or only a part of it is there.
                Ok(_) => {
                    done_bytes += discard_bytes;
                    return Handled { done_bytes, verdict: Verdict::Fine };
                }
            }
            done_bytes += discard_bytes;
        }
    }

    fn encrypt(
        &mut self,
        records: &mut [u8],
        payload: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let overhead_bytes = payload.len().div_ceil(RECORD_PAYLOAD_BYTES_MAX) * OVERHEAD_BYTES;
        let room_bytes = payload.len() + overhead_bytes;
        loop {
            match self.connection.process(records).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return append(output, room_bytes, |place| {
                        traffic.encrypt(payload, place).map_err(required_size)
                    });
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, output)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.is_closed_by_peer = true,
                Ok(_) | Err(_) => return Err(Refused),
            }
        }
    }

    fn close(&mut self, records: &mut [u8], output: &mut Vec<u8>) {
        // An empty payload makes no record, but what is to go before it goes.
        if self.encrypt(records, &[], output).is_ok()
            && let Ok(ConnectionState::WriteTraffic(mut traffic)) =
                self.connection.process(records).state
        {
            let appended = append(output, OVERHEAD_BYTES, |place| {
                traffic.queue_close_notify(place).map_err(required_size)
            });
            debug_assert!(appended.is_ok(), "an alert is always allowed");
        }
    }

    fn stage(&self) -> Stage {
        if self.is_closed_by_peer {
            Stage::PeerClosed
        } else if self.connection.common().is_handshaking() {
            Stage::Handshaking
        } else if self.connection.common().handshake_kind() == Some(HandshakeKind::Resumed) {
            Stage::Established(Handshake::Resumed)
        } else {
            Stage::Established(Handshake::Full)
        }
    }

    fn facts(&self) -> TlsFacts<'_> {
        let common = self.connection.common();
        let version = match common.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        };
        TlsFacts { version, peer_certificates: common.peer_certificates().unwrap_or_default() }
    }

    fn take_failure(&mut self) -> Option<TlsFailure> {
        self.failure.take().map(|error| error as TlsFailure)
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, output: &mut Vec<u8>) -> Result<(), Refused> {
    append(output, 0, |place| match data.encode(place) {
        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
        other => other.map_err(|_| None),
    })
}

fn required_size(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends what `write` writes to a place of `room_bytes`, or of as many as it asks for then.
fn append(
    output: &mut Vec<u8>,
    room_bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), Refused> {
    let begin = output.len();
    output.resize(begin + room_bytes, 0);
    let mut written = write(&mut output[begin..]);
    if let Err(Some(required_bytes)) = written {
        output.resize(begin + required_bytes, 0);
        written = write(&mut output[begin..]);
    }
    output.truncate(begin + written.unwrap_or(0));
    written.map(|_| ()).map_err(|_| Refused)
}

/// The most payload that a record has (RFC 8446 §5.1).
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 1 << 14;

/// More than any suite here adds to a record: its header, an explicit nonce, the content type, a
/// tag.
const OVERHEAD_BYTES: usize = 64;
