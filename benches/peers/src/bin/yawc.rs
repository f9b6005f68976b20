//! yawc on hyper's upgrade, with the buffers and batches of its published figures: up to 32 messages
//! that are there already are fed, then flushed.
//!
//! Form: <https://github.com/infinitefield/yawc/blob/master/benches/comparison/src/bin/server.rs>,
//! `yawc-buffered-128k`.

use std::convert::Infallible;
use std::io;

use corewire_peers::{MESSAGE_BYTES_MAX, runtime, upgrade};
use futures_util::{FutureExt, SinkExt};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use tokio::runtime::Builder;
use yawc::{OpCode, Options, UpgradeFut, WebSocket};

const BATCH_COUNT_MAX: usize = 32;

fn main() -> io::Result<Infallible> {
    runtime::serve(Builder::new_current_thread().enable_all(), |stream| {
        upgrade::serve(stream, accept)
    })
}

async fn accept(request: Request<Incoming>) -> yawc::Result<Response<Empty<Bytes>>> {
    let options = Options::default()
        .with_utf8()
        .without_compression()
        // Its limits are exclusive.
        .with_limits(MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX + 1)
        .with_read_buffer_capacity(128 * 1024)
        .with_backpressure_boundary(64 * 1024);
    let (response, upgraded) = WebSocket::upgrade_with_options(request, options)?;
    tokio::spawn(echo(upgraded));
    Ok(response)
}

async fn echo(upgraded: UpgradeFut) -> yawc::Result<()> {
    let mut socket = upgraded.await?;
    loop {
        let mut frame = socket.next_frame().await?;
        for more in (0..BATCH_COUNT_MAX).rev() {
            match frame.opcode() {
                OpCode::Text | OpCode::Binary => socket.feed(frame).await?,
                OpCode::Close => return socket.close().await,
                _ => {}
            }
            // What is taken must be echoed, so nothing is taken behind a full batch.
            let Some(next) = (more > 0).then(|| socket.next_frame().now_or_never()).flatten()
            else {
                break;
            };
            frame = next?;
        }
        socket.flush().await?;
    }
}
