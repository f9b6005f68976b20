//! yawc's client in batches: what is fed is flushed when nothing more has been read.
//!
//! Form: <https://docs.rs/yawc/0.5.0/yawc/struct.WebSocket.html#method.handshake>, with the buffers
//! and batches of its published figures.

use std::convert::Infallible;
use std::io;
use std::iter::repeat_n;
use std::sync::Arc;

use corewire_peers::client::{Load, runtime};
use futures_util::{FutureExt, SinkExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use yawc::{Frame, OpCode, Options, WebSocket, WebSocketError};

fn main() -> io::Result<Infallible> {
    runtime::call(Builder::new_current_thread().enable_all(), echo)
}

async fn echo(stream: TcpStream, load: Arc<Load>) -> yawc::Result<Infallible> {
    let options = Options::default()
        .with_utf8()
        .without_compression()
        .with_read_buffer_capacity(128 * 1024)
        .with_backpressure_boundary(64 * 1024);
    let url = load.url().parse().expect("an address makes a URL");
    let mut socket = WebSocket::handshake(url, stream, options).await?;
    for frame in repeat_n(Frame::binary(load.payload()), load.in_flight) {
        socket.feed(frame).await?;
    }
    loop {
        socket.flush().await?;
        let mut frame = socket.next_frame().await?;
        loop {
            match frame.opcode() {
                OpCode::Text | OpCode::Binary => socket.feed(frame).await?,
                OpCode::Close => return Err(WebSocketError::ConnectionClosed),
                _ => {}
            }
            let Some(more) = socket.next_frame().now_or_never() else { break };
            frame = more?;
        }
    }
}
