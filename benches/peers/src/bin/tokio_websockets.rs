//! tokio-websockets. It flushes with each `send`.
//!
//! Form: <https://github.com/Gelbpunkt/tokio-websockets/blob/main/examples/echo_server.rs>, built
//! with `sha1_smol` as its benchmarks are.

use std::convert::Infallible;
use std::io;

use corewire_peers::{MESSAGE_BYTES_MAX, runtime};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_websockets::{Config, Error, Limits, ServerBuilder};

fn main() -> io::Result<Infallible> {
    runtime::serve(Builder::new_current_thread().enable_io(), |stream| {
        tokio::task::unconstrained(async {
            let _ = echo(stream).await;
        })
    })
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let (_request, mut socket) = ServerBuilder::new()
        .config(Config::default().frame_size(usize::MAX))
        .limits(Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX)))
        .accept(stream)
        .await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
