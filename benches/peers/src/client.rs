//! What the clients have in common: what they are told, and how those on tokio run.
//!
//! A client opens its connections, sends so many messages on each, and from then on sends back
//! whatever comes. It counts nothing: the server that it calls does. It ends with its first
//! connection, as an error.

use std::io;
use std::net::{SocketAddr, TcpStream};

use clap::Parser;

/// A single-threaded client that keeps messages on their way. It says nothing.
#[derive(Parser)]
pub struct Load {
    /// Server to call.
    #[arg(long, default_value = "127.0.0.1:9002")]
    pub connect: SocketAddr,
    /// Connections at once.
    #[arg(long, default_value_t = 50)]
    pub connections: usize,
    /// Messages under way on each connection.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    /// Payload of a message.
    #[arg(long, default_value_t = 20)]
    pub bytes: usize,
}

impl Load {
    /// Reads the command line and raises the limit of open descriptors to the hard limit. Prints
    /// what is wrong and ends the process if the command line is not understood.
    ///
    /// # Errors
    /// What `setrlimit(2)` says.
    pub fn read() -> io::Result<Load> {
        let load = Load::parse();
        rlimit::increase_nofile_limit(rlimit::INFINITY)?;
        Ok(load)
    }

    /// The payload of every message, binary.
    pub fn payload(&self) -> Vec<u8> {
        (0..self.bytes).map(|at| (at % 251) as u8).collect()
    }

    /// The server as a URL.
    pub fn url(&self) -> String {
        format!("ws://{}/", self.connect)
    }

    /// The opening handshake, for those who leave it to the application. The key is the sample of
    /// RFC 6455 §1.3.
    pub fn request(&self) -> String {
        format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.connect
        )
    }

    /// One blocking connection, before its handshake.
    ///
    /// # Errors
    /// What `connect(2)` says.
    pub fn open(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.connect)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// That a connection has ended, which none of a client's may.
pub fn ended() -> io::Error {
    io::Error::other("a connection has ended")
}

/// One thread of tokio, for the peers that stand on it.
#[cfg(feature = "tokio")]
pub mod runtime {
    use std::convert::Infallible;
    use std::fmt::Display;
    use std::io;
    use std::sync::Arc;

    use tokio::net::TcpStream;
    use tokio::runtime::Builder;
    use tokio::sync::mpsc;

    use super::Load;

    /// Runs `echo` as a task for each connection on the calling thread, until the first of them
    /// ends. `builder` is `Builder::new_current_thread()` with the drivers that the peer's author
    /// enables.
    ///
    /// # Errors
    /// The runtime cannot be built, the server is not there, a connection ends.
    pub fn call<F, E, O>(builder: &mut Builder, echo: F) -> io::Result<Infallible>
    where
        F: Fn(TcpStream, Arc<Load>) -> E,
        E: Future<Output = Result<Infallible, O>> + Send + 'static,
        O: Display + Send + 'static,
    {
        let load = Arc::new(Load::read()?);
        builder.build()?.block_on(async move {
            let (ends, mut first_end) = mpsc::channel(1);
            for _ in 0..load.connections {
                let stream = TcpStream::connect(load.connect).await?;
                stream.set_nodelay(true)?;
                let (echo, ends) = (echo(stream, load.clone()), ends.clone());
                tokio::spawn(async move {
                    let Err(error) = echo.await;
                    let _ = ends.send(error.to_string()).await;
                });
            }
            Err(io::Error::other(first_end.recv().await.unwrap_or_default()))
        })
    }
}

/// The loop of those whose sockets are a stream and a sink.
#[cfg(feature = "futures")]
pub mod sink {
    use std::convert::Infallible;

    use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};

    /// Feeds `in_flight` messages, and then what comes back: all that is there already, before it
    /// flushes. `is_message` is false for what the peer answers itself.
    ///
    /// # Errors
    /// What the socket says, and `ended` if it says nothing more.
    pub async fn keep_sending<S, M, E>(
        socket: &mut S,
        messages: impl Iterator<Item = M>,
        is_message: impl Fn(&M) -> bool,
        ended: impl Fn() -> E,
    ) -> Result<Infallible, E>
    where
        S: Stream<Item = Result<M, E>> + Sink<M, Error = E> + Unpin,
    {
        for message in messages {
            socket.feed(message).await?;
        }
        loop {
            socket.flush().await?;
            let mut next = socket.next().await;
            loop {
                let message = next.ok_or_else(&ended)??;
                if is_message(&message) {
                    socket.feed(message).await?;
                }
                let Some(more) = socket.next().now_or_never() else { break };
                next = more;
            }
        }
    }
}
