//! soketto's client, with a flush for each message.
//!
//! Form: <https://github.com/paritytech/soketto/blob/v0.8.1/examples/autobahn_client.rs>

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use corewire_peers::client::{Load, ended, runtime};
use futures_util::io::{BufReader, BufWriter};
use soketto::BoxedError;
use soketto::handshake::{Client, ServerResponse};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_util::compat::TokioAsyncReadCompatExt;

fn main() -> io::Result<Infallible> {
    runtime::call(Builder::new_current_thread().enable_all(), echo)
}

async fn echo(stream: TcpStream, load: Arc<Load>) -> Result<Infallible, BoxedError> {
    let host = load.connect.to_string();
    let mut client = Client::new(BufReader::new(BufWriter::new(stream.compat())), &host, "/");
    let ServerResponse::Accepted { .. } = client.handshake().await? else {
        return Err(ended().into());
    };
    let (mut sender, mut receiver) = client.into_builder().finish();
    let mut message = load.payload();
    for _ in 0..load.in_flight {
        sender.send_binary(&message).await?;
    }
    loop {
        sender.flush().await?;
        message.clear();
        receiver.receive_data(&mut message).await?;
        sender.send_binary_mut(&mut message).await?;
    }
}
