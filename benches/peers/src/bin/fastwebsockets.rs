//! fastwebsockets on hyper's upgrade. It answers pings itself and writes each message at once.
//!
//! Form: <https://github.com/denoland/fastwebsockets/blob/main/examples/echo_server.rs>, which its
//! benchmarks run.

use std::convert::Infallible;
use std::io;

use corewire_peers::{MESSAGE_BYTES_MAX, runtime, upgrade};
use fastwebsockets::upgrade::UpgradeFut;
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::runtime::Builder;

fn main() -> io::Result<Infallible> {
    runtime::serve(Builder::new_current_thread().enable_io(), |stream| {
        upgrade::serve(stream, accept)
    })
}

async fn accept(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = fastwebsockets::upgrade::upgrade(&mut request)?;
    tokio::spawn(tokio::task::unconstrained(echo(upgraded)));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = upgraded.await?;
    // The limit is exclusive.
    socket.set_max_message_size(MESSAGE_BYTES_MAX + 1);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
