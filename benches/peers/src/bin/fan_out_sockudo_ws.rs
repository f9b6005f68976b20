//! sockudo-ws with its topics: each connection has a channel that they send into.
//!
//! Form: <https://github.com/sockudo/sockudo-ws/blob/master/examples/pubsub_echo.rs>, but what waits
//! in the channel is fed together and flushed once, as its documentation says of batches.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use corewire_peers::{MESSAGE_BYTES_MAX, runtime};
use futures_util::future::{Either, select};
use futures_util::{SinkExt, StreamExt};
use sockudo_ws::pubsub::PubSub;
use sockudo_ws::server::WebSocketServer;
use sockudo_ws::{Config, Error, Http1, Message, WebSocketStream};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

const NEWS: &str = "news";

fn main() -> io::Result<Infallible> {
    let topics = Arc::new(PubSub::new());
    runtime::serve(Builder::new_current_thread().enable_all(), move |stream| {
        let topics = topics.clone();
        async move {
            let _ = serve(stream, &topics).await;
        }
    })
}

async fn serve(stream: TcpStream, topics: &PubSub) -> Result<(), Error> {
    let config = Config::builder().max_payload_length(MESSAGE_BYTES_MAX).build();
    let (mut socket, handshake) = WebSocketServer::<Http1>::new(config).accept_raw(stream).await?;
    if handshake.path != "/pub" {
        return listen(&mut socket, topics).await;
    }
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => {
                let _ = topics.publish(NEWS, message);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => break,
        }
    }
    Ok(())
}

async fn listen(socket: &mut WebSocketStream<TcpStream>, topics: &PubSub) -> Result<(), Error> {
    let (sender, mut news) = mpsc::unbounded_channel();
    let subscriber = topics.create_subscriber(sender);
    topics.subscribe(subscriber, NEWS);
    let ended = pass_on(socket, &mut news).await;
    topics.remove_subscriber(subscriber);
    ended
}

async fn pass_on(
    socket: &mut WebSocketStream<TcpStream>,
    news: &mut mpsc::UnboundedReceiver<Message>,
) -> Result<(), Error> {
    loop {
        let first = match select(pin!(socket.next()), pin!(news.recv())).await {
            Either::Left((None | Some(Ok(Message::Close(_))), _)) | Either::Right((None, _)) => {
                return Ok(());
            }
            Either::Left((Some(message), _)) => {
                message?;
                continue;
            }
            Either::Right((Some(message), _)) => message,
        };
        socket.feed(first).await?;
        while let Ok(message) = news.try_recv() {
            socket.feed(message).await?;
        }
        socket.flush().await?;
    }
}
