//! fastwebsockets' client on hyper's upgrade. It writes each message at once.
//!
//! Form: <https://docs.rs/fastwebsockets/0.10.0/fastwebsockets/handshake/fn.client.html>

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use corewire_peers::client::{Load, runtime};
use fastwebsockets::{FragmentCollector, Frame, OpCode, WebSocketError, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

fn main() -> io::Result<Infallible> {
    runtime::call(Builder::new_current_thread().enable_io(), |stream, load| {
        tokio::task::unconstrained(echo(stream, load))
    })
}

async fn echo(stream: TcpStream, load: Arc<Load>) -> Result<Infallible, WebSocketError> {
    let request = Request::builder()
        .uri(load.url())
        .header(HOST, load.connect.to_string())
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .header("Sec-WebSocket-Version", "13")
        .body(Empty::<Bytes>::new())
        .map_err(|error| WebSocketError::IoError(io::Error::other(error)))?;
    let (socket, _response) = handshake::client(&Spawn, request, stream).await?;
    let mut socket = FragmentCollector::new(socket);
    for _ in 0..load.in_flight {
        socket.write_frame(Frame::binary(load.payload().into())).await?;
    }
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Err(WebSocketError::ConnectionClosed),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}
