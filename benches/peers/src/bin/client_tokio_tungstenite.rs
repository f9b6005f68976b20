//! tokio-tungstenite's client. What is fed is flushed when nothing more has been read.
//!
//! Form: <https://docs.rs/tokio-tungstenite/0.30.0/tokio_tungstenite/fn.client_async.html>, and
//! `write` and `flush` as tungstenite recommends for many messages.

use std::convert::Infallible;
use std::io;
use std::iter::repeat_n;
use std::sync::Arc;

use corewire_peers::client::{Load, runtime, sink};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::{Error, Message};

fn main() -> io::Result<Infallible> {
    runtime::call(Builder::new_current_thread().enable_all(), echo)
}

async fn echo(stream: TcpStream, load: Arc<Load>) -> Result<Infallible, Error> {
    let (mut socket, _response) = client_async(load.url(), stream).await?;
    let messages = repeat_n(Message::binary(load.payload()), load.in_flight);
    sink::keep_sending(&mut socket, messages, Message::is_binary, || Error::ConnectionClosed).await
}
