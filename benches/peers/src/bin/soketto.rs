//! soketto, with a flush for each message. It leaves the check of UTF-8 to the application.
//!
//! Form: <https://github.com/paritytech/soketto/blob/v0.8.1/examples/autobahn_server.rs>

use std::convert::Infallible;
use std::io;

use corewire_peers::{MESSAGE_BYTES_MAX, runtime};
use futures_util::io::{BufReader, BufWriter};
use soketto::handshake::Server;
use soketto::handshake::server::Response;
use soketto::{BoxedError, Data};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_util::compat::TokioAsyncReadCompatExt;

fn main() -> io::Result<Infallible> {
    runtime::serve(Builder::new_current_thread().enable_all(), |stream| async {
        let _ = echo(stream).await;
    })
}

async fn echo(stream: TcpStream) -> Result<(), BoxedError> {
    let mut server = Server::new(BufReader::new(BufWriter::new(stream.compat())));
    let key = server.receive_request().await?.key();
    server.send_response(&Response::Accept { key, protocol: None }).await?;
    let mut builder = server.into_builder();
    builder.set_max_message_size(MESSAGE_BYTES_MAX);
    builder.set_max_frame_size(MESSAGE_BYTES_MAX);
    let (mut sender, mut receiver) = builder.finish();
    let mut message = Vec::new();
    loop {
        message.clear();
        match receiver.receive_data(&mut message).await? {
            Data::Binary(_) => sender.send_binary_mut(&mut message).await?,
            Data::Text(_) => sender.send_text(str::from_utf8(&message)?).await?,
        }
        sender.flush().await?;
    }
}
