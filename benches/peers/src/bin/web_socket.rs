//! web-socket, with a write for each message. It leaves the opening handshake, fragments, pings and
//! the check of UTF-8 to the application.
//!
//! Form: <https://github.com/nurmohammed840/websocket.rs/blob/main/examples/autobahn.rs>

use std::convert::Infallible;
use std::io;

use base64::prelude::{BASE64_STANDARD, Engine};
use corewire_peers::{MESSAGE_BYTES_MAX, runtime};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use web_socket::{CloseCode, DataType, Event, MessageType, Stream, WebSocket};

fn main() -> io::Result<Infallible> {
    runtime::serve(Builder::new_current_thread().enable_all(), |stream| async {
        let _ = serve(BufReader::new(stream)).await;
    })
}

async fn serve(mut stream: BufReader<TcpStream>) -> io::Result<()> {
    let mut key = None;
    let mut lines = (&mut stream).lines();
    while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
        let field = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case(KEY));
        key = field.map(|(_, value)| value.trim().to_owned()).or(key);
    }
    let key = key.ok_or(io::ErrorKind::InvalidData)?;
    let accept = BASE64_STANDARD.encode(Sha1::digest(key + GUID));
    stream.write_all(format!("{SWITCHING}{accept}\r\n\r\n").as_bytes()).await?;
    let mut socket = WebSocket::server(stream);
    socket.max_payload_len = MESSAGE_BYTES_MAX;
    echo(socket).await
}

async fn echo(mut socket: WebSocket<BufReader<TcpStream>>) -> io::Result<()> {
    let mut message = Vec::new();
    loop {
        match socket.recv_event().await? {
            Event::Data { ty: DataType::Complete(kind), data } => {
                send(&mut socket, kind, &data).await?;
            }
            Event::Data { ty: DataType::Stream(stream), data } => {
                message.extend_from_slice(&data);
                if let Stream::End(kind) = stream {
                    send(&mut socket, kind, &message).await?;
                    message.clear();
                }
            }
            Event::Ping(data) => socket.send_pong(data).await?,
            Event::Pong(_) => {}
            Event::Error(_) => return socket.close(CloseCode::ProtocolError).await,
            Event::Close { .. } => return socket.close(()).await,
        }
    }
}

async fn send(
    socket: &mut WebSocket<BufReader<TcpStream>>,
    kind: MessageType,
    message: &[u8],
) -> io::Result<()> {
    match kind {
        MessageType::Binary => socket.send(message).await,
        MessageType::Text => socket.send(str::from_utf8(message).map_err(io::Error::other)?).await,
    }
}

const KEY: &str = "Sec-WebSocket-Key";
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: ";
