//! tokio-tungstenite. `forward` flushes when nothing more has been read, so once for each read.
//!
//! Form: <https://github.com/snapview/tokio-tungstenite/blob/master/examples/echo-server.rs>

use std::convert::Infallible;
use std::future::ready;
use std::io;

use corewire_peers::{MESSAGE_BYTES_MAX, runtime};
use futures_util::{StreamExt, TryStreamExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

fn main() -> io::Result<Infallible> {
    runtime::serve(Builder::new_current_thread().enable_all(), |stream| async {
        let _ = echo(stream).await;
    })
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let (write, read) = accept_async_with_config(stream, Some(config)).await?.split();
    read.try_filter(|message| ready(message.is_text() || message.is_binary())).forward(write).await
}
