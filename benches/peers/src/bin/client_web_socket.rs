//! web-socket's client, with a write for each message. It leaves the opening handshake, fragments
//! and pings to the application.
//!
//! Form: <https://docs.rs/web-socket/0.7.0/web_socket/struct.WebSocket.html#method.client>

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use corewire_peers::client::{Load, ended, runtime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use web_socket::{DataType, Event, WebSocket};

fn main() -> io::Result<Infallible> {
    runtime::call(Builder::new_current_thread().enable_all(), echo)
}

async fn echo(stream: TcpStream, load: Arc<Load>) -> io::Result<Infallible> {
    let mut stream = BufReader::new(stream);
    stream.write_all(load.request().as_bytes()).await?;
    // That the server proves that it has understood is the server's own test here.
    let mut lines = (&mut stream).lines();
    while !lines.next_line().await?.ok_or_else(ended)?.is_empty() {}
    let mut socket = WebSocket::client(stream);
    let payload = load.payload();
    for _ in 0..load.in_flight {
        socket.send(&payload[..]).await?;
    }
    loop {
        match socket.recv_event().await? {
            Event::Data { ty: DataType::Complete(_), data } => socket.send(&data[..]).await?,
            Event::Ping(data) => socket.send_pong(data).await?,
            Event::Pong(_) => {}
            Event::Data { .. } | Event::Error(_) | Event::Close { .. } => return Err(ended()),
        }
    }
}
