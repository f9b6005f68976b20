//! corewire and the competition behind one face, all of them after their handshake.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use corewire::Role;
use divan::black_box;
use futures_util::{SinkExt as _, StreamExt as _};
use sockudo_ws::protocol::Protocol;
use tokio::io::BufReader;

use crate::endpoint::Endpoint;
use stream::Memory;

mod stream;

/// One end of a connection, fed by hand.
///
/// Whoever wants a stream gets one in memory: its reads copy, since that is the only way in, and
/// its writes take everything and drop it. Whoever takes buffers gets a fresh one, made before the
/// time is taken.
pub trait Peer {
    /// What one read brings.
    type Input: From<Vec<u8>>;

    fn new(role: Role) -> Self;

    /// Takes `count` messages; returns how many payload bytes were delivered.
    fn receive(&mut self, input: &mut Self::Input, count: usize) -> usize;

    /// Takes `count` binary messages and sends each back; returns how many bytes were written.
    fn echo(&mut self, input: &mut Self::Input, count: usize) -> usize;

    /// Sends a binary message `count` times; returns how many bytes were written.
    fn send(&mut self, payload: &Bytes, count: usize) -> usize;
}

pub struct Corewire(Endpoint);

/// The other one without I/O: buffers of `bytes` in, messages that share them out.
pub struct SockudoWs {
    protocol: Protocol,
    messages: Vec<sockudo_ws::Message>,
    output: BytesMut,
}

pub struct Tungstenite(tungstenite::WebSocket<Memory>, Memory);

pub struct Fastwebsockets(fastwebsockets::WebSocket<Memory>, Memory);

pub struct TokioWebsockets(tokio_websockets::WebSocketStream<Memory>, Memory);

/// Buffered, since it reads a header byte by byte otherwise.
pub struct WebSocket(web_socket::WebSocket<BufReader<Memory>>, Memory);

impl Peer for Corewire {
    type Input = Vec<u8>;

    fn new(role: Role) -> Self {
        Self(Endpoint::new(role))
    }

    fn receive(&mut self, input: &mut Vec<u8>, _: usize) -> usize {
        self.0.receive(input)
    }

    fn echo(&mut self, input: &mut Vec<u8>, _: usize) -> usize {
        self.0.echo(input)
    }

    fn send(&mut self, payload: &Bytes, count: usize) -> usize {
        self.0.send(payload, count)
    }
}

/// A buffer of its own, as a read fills it.
pub struct Shared(BytesMut);

impl From<Vec<u8>> for Shared {
    fn from(bytes: Vec<u8>) -> Self {
        Self(BytesMut::from(&bytes[..]))
    }
}

impl Peer for SockudoWs {
    type Input = Shared;

    fn new(role: Role) -> Self {
        let role = match role {
            Role::Server => sockudo_ws::Role::Server,
            Role::Client => sockudo_ws::Role::Client,
        };
        let protocol = Protocol::new(role, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX);
        Self { protocol, messages: Vec::new(), output: BytesMut::new() }
    }

    fn receive(&mut self, input: &mut Shared, _: usize) -> usize {
        self.protocol.process_into(&mut input.0, &mut self.messages).expect("valid");
        self.messages.iter().map(|message| black_box(message).as_bytes().len()).sum()
    }

    fn echo(&mut self, input: &mut Shared, _: usize) -> usize {
        self.protocol.process_into(&mut input.0, &mut self.messages).expect("valid");
        self.output.clear();
        for message in &self.messages {
            self.protocol.encode_message(message, &mut self.output).expect("open");
        }
        self.output.len()
    }

    fn send(&mut self, payload: &Bytes, count: usize) -> usize {
        self.output.clear();
        for _ in 0..count {
            let message = sockudo_ws::Message::Binary(payload.clone());
            self.protocol.encode_message(&message, &mut self.output).expect("open");
        }
        self.output.len()
    }
}

impl Peer for Tungstenite {
    type Input = Vec<u8>;

    fn new(role: Role) -> Self {
        let role = match role {
            Role::Server => tungstenite::protocol::Role::Server,
            Role::Client => tungstenite::protocol::Role::Client,
        };
        let memory = Memory::default();
        Self(tungstenite::WebSocket::from_raw_socket(memory.clone(), role, None), memory)
    }

    fn receive(&mut self, input: &mut Vec<u8>, count: usize) -> usize {
        self.1.arrive(input);
        let messages = (0..count).map(|_| black_box(self.0.read().expect("valid")).len());
        messages.sum()
    }

    fn echo(&mut self, input: &mut Vec<u8>, count: usize) -> usize {
        self.1.arrive(input);
        for _ in 0..count {
            let message = self.0.read().expect("valid");
            self.0.write(message).expect("open");
        }
        self.0.flush().expect("open");
        self.1.take_written_bytes()
    }

    fn send(&mut self, payload: &Bytes, count: usize) -> usize {
        for _ in 0..count {
            self.0.write(tungstenite::Message::Binary(payload.clone())).expect("open");
        }
        self.0.flush().expect("open");
        self.1.take_written_bytes()
    }
}

impl Peer for Fastwebsockets {
    type Input = Vec<u8>;

    fn new(role: Role) -> Self {
        let role = match role {
            Role::Server => fastwebsockets::Role::Server,
            Role::Client => fastwebsockets::Role::Client,
        };
        let memory = Memory::default();
        Self(fastwebsockets::WebSocket::after_handshake(memory.clone(), role), memory)
    }

    fn receive(&mut self, input: &mut Vec<u8>, count: usize) -> usize {
        self.1.arrive(input);
        ready(async {
            let mut bytes = 0;
            for _ in 0..count {
                bytes += black_box(self.0.read_frame().await.expect("valid")).payload.len();
            }
            bytes
        })
    }

    fn echo(&mut self, input: &mut Vec<u8>, count: usize) -> usize {
        self.1.arrive(input);
        ready(async {
            for _ in 0..count {
                let frame = self.0.read_frame().await.expect("valid");
                // The frame itself would go out with its old masking key.
                let frame = fastwebsockets::Frame::binary(frame.payload);
                self.0.write_frame(frame).await.expect("open");
            }
            self.0.flush().await.expect("open");
        });
        self.1.take_written_bytes()
    }

    fn send(&mut self, payload: &Bytes, count: usize) -> usize {
        ready(async {
            for _ in 0..count {
                let payload = fastwebsockets::Payload::Borrowed(payload);
                self.0.write_frame(fastwebsockets::Frame::binary(payload)).await.expect("open");
            }
            self.0.flush().await.expect("open");
        });
        self.1.take_written_bytes()
    }
}

impl Peer for TokioWebsockets {
    type Input = Vec<u8>;

    fn new(role: Role) -> Self {
        let memory = Memory::default();
        let socket = match role {
            Role::Server => tokio_websockets::ServerBuilder::new().serve(memory.clone()),
            Role::Client => tokio_websockets::ClientBuilder::new().take_over(memory.clone()),
        };
        Self(socket, memory)
    }

    fn receive(&mut self, input: &mut Vec<u8>, count: usize) -> usize {
        self.1.arrive(input);
        ready(async {
            let mut bytes = 0;
            for _ in 0..count {
                let message = self.0.next().await.expect("open").expect("valid");
                bytes += black_box(message).as_payload().len();
            }
            bytes
        })
    }

    fn echo(&mut self, input: &mut Vec<u8>, count: usize) -> usize {
        self.1.arrive(input);
        ready(async {
            for _ in 0..count {
                let message = self.0.next().await.expect("open").expect("valid");
                self.0.feed(message).await.expect("open");
            }
            self.0.flush().await.expect("open");
        });
        self.1.take_written_bytes()
    }

    fn send(&mut self, payload: &Bytes, count: usize) -> usize {
        ready(async {
            for _ in 0..count {
                let message = tokio_websockets::Message::binary(payload.clone());
                self.0.feed(message).await.expect("open");
            }
            self.0.flush().await.expect("open");
        });
        self.1.take_written_bytes()
    }
}

impl Peer for WebSocket {
    type Input = Vec<u8>;

    fn new(role: Role) -> Self {
        let memory = Memory::default();
        let stream = BufReader::new(memory.clone());
        let socket = match role {
            Role::Server => web_socket::WebSocket::server(stream),
            Role::Client => web_socket::WebSocket::client(stream),
        };
        Self(socket, memory)
    }

    fn receive(&mut self, input: &mut Vec<u8>, count: usize) -> usize {
        self.1.arrive(input);
        ready(async {
            let mut bytes = 0;
            for _ in 0..count {
                bytes += black_box(payload(self.0.recv().await)).len();
            }
            bytes
        })
    }

    fn echo(&mut self, input: &mut Vec<u8>, count: usize) -> usize {
        self.1.arrive(input);
        ready(async {
            for _ in 0..count {
                let payload = payload(self.0.recv().await);
                self.0.send(&*payload).await.expect("open");
            }
        });
        self.1.take_written_bytes()
    }

    fn send(&mut self, payload: &Bytes, count: usize) -> usize {
        ready(async {
            for _ in 0..count {
                self.0.send(&payload[..]).await.expect("open");
            }
        });
        self.1.take_written_bytes()
    }
}

fn payload(event: io::Result<web_socket::Event>) -> Box<[u8]> {
    match event {
        Ok(web_socket::Event::Data { data, .. }) => data,
        other => panic!("{other:?}"),
    }
}

/// The outcome of what never waits: nothing in memory does.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("all that is waited for has arrived"),
    }
}

/// Above whatever is sent here.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
