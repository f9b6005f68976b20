//! tokio-websockets' client. What is fed is flushed when nothing more has been read.
//!
//! Form: <https://github.com/Gelbpunkt/tokio-websockets/blob/main/examples/client.rs>, with `feed` and
//! `flush` of the sink. Its masking keys come from fastrand, the fastest that it offers; they can be
//! predicted.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::iter::repeat_n;
use std::sync::Arc;

use corewire_peers::client::{Load, runtime};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_websockets::{ClientBuilder, Error, Message};

fn main() -> io::Result<Infallible> {
    runtime::call(Builder::new_current_thread().enable_io(), |stream, load| {
        tokio::task::unconstrained(echo(stream, load))
    })
}

async fn echo(stream: TcpStream, load: Arc<Load>) -> Result<Infallible, Error> {
    let url = load.url();
    let builder = ClientBuilder::new().uri(&url).map_err(io::Error::other)?;
    let (mut socket, _response) = builder.connect_on(stream).await?;
    for message in repeat_n(Message::binary(load.payload()), load.in_flight) {
        socket.feed(message).await?;
    }
    let mut arrived = Vec::new();
    loop {
        socket.flush().await?;
        // Each attempt to read writes what was fed, so all is read first.
        let mut next = socket.next().await;
        loop {
            let message = next.ok_or(Error::Io(ErrorKind::UnexpectedEof.into()))??;
            if message.is_binary() {
                arrived.push(message);
            }
            let Some(more) = socket.next().now_or_never() else { break };
            next = more;
        }
        for message in arrived.drain(..) {
            socket.feed(message).await?;
        }
    }
}
