//! A connection's bytes: TCP as it is, or inside TLS.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What is read and written by the load.
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Secured(Box<Secured>),
}

/// A socket and the TLS on it.
pub struct Secured {
    socket: TcpStream,
    tls: ClientConnection,
    mode: Mode,
}

/// What the socket does where there is nothing to read.
#[derive(PartialEq, Eq)]
enum Mode {
    Blocking,
    Nonblocking,
}

/// A client that trusts the certificates in a PEM file, which are of localhost.
///
/// # Errors
/// The file cannot be read or holds no certificate.
pub fn trusting(chain: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(chain)?) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Stream {
    /// TLS over a connected socket; the handshake goes with the first bytes.
    ///
    /// # Errors
    /// The configuration cannot be.
    pub fn secure(socket: TcpStream, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::Secured(Box::new(Secured { socket, tls, mode: Mode::Blocking })))
    }

    /// From now on reading and writing never wait.
    ///
    /// # Errors
    /// What the socket says.
    pub fn set_nonblocking(&mut self) -> io::Result<()> {
        if let Self::Secured(secured) = self {
            secured.mode = Mode::Nonblocking;
        }
        self.socket().set_nonblocking(true)
    }

    /// Writes all of it, without sleeping where the kernel takes no more for now.
    ///
    /// # Errors
    /// What the socket says.
    pub fn write_all_spinning(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The socket underneath.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secured(secured) => &secured.socket,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Secured(secured) => secured.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secured(secured) => {
                let taken = secured.tls.writer().write(bytes)?;
                secured.flush()?;
                if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Secured(secured) => secured.flush(),
        }
    }
}

impl Secured {
    /// Reads until the buffer is full or the socket is drained: who waits for edges relies on it.
    /// One that blocks is read until something has come.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.tls.reader().read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Err(_) if self.mode == Mode::Blocking && filled > 0 => break,
                Err(_) => match self.tls.read_tls(&mut self.socket) {
                    Ok(0) => break,
                    Ok(_) => {
                        self.tls.process_new_packets().map_err(io::Error::other)?;
                        self.flush()?;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => break,
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(filled)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
