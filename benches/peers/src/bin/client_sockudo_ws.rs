//! sockudo-ws' client in batches: what is fed is flushed when nothing more has been read.
//!
//! Form: <https://docs.rs/sockudo-ws/3.1.0/sockudo_ws/client/struct.WebSocketClient.html>, its
//! `connect_raw`, and what stands under `Config::write_coalescing`.

use std::convert::Infallible;
use std::io;
use std::iter::repeat_n;
use std::sync::Arc;

use corewire_peers::client::{Load, runtime, sink};
use sockudo_ws::client::WebSocketClient;
use sockudo_ws::{Config, Error, Http1, Message};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

fn main() -> io::Result<Infallible> {
    runtime::call(Builder::new_current_thread().enable_all(), echo)
}

async fn echo(stream: TcpStream, load: Arc<Load>) -> Result<Infallible, Error> {
    let client = WebSocketClient::<Http1>::new(Config::default());
    let host = load.connect.to_string();
    let (mut socket, _handshake) = client.connect_raw(stream, &host, "/", None).await?;
    let messages = repeat_n(Message::Binary(load.payload().into()), load.in_flight);
    let is_message = |message: &Message| matches!(message, Message::Binary(_));
    sink::keep_sending(&mut socket, messages, is_message, || Error::ConnectionClosed).await
}
