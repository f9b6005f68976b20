//! sockudo-ws as its README writes an echo: `send` flushes each message.
//!
//! Form: <https://github.com/sockudo/sockudo-ws/blob/master/examples/simple_echo.rs>, accepted by
//! `accept_raw`, which its documentation gives for single-threaded runtimes.

use std::convert::Infallible;
use std::io;

use corewire_peers::{MESSAGE_BYTES_MAX, runtime};
use futures_util::{SinkExt, StreamExt};
use sockudo_ws::server::WebSocketServer;
use sockudo_ws::{Config, Error, Http1, Message};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

fn main() -> io::Result<Infallible> {
    runtime::serve(Builder::new_current_thread().enable_all(), |stream| async {
        let _ = echo(stream).await;
    })
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let config = Config::builder().max_payload_length(MESSAGE_BYTES_MAX).build();
    let (mut socket, _handshake) = WebSocketServer::<Http1>::new(config).accept_raw(stream).await?;
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => break,
        }
    }
    Ok(())
}
