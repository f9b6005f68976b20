//! Connections that do nothing: what one of them takes in the server's memory.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use corewire_load::machine;
use rustls::ClientConfig;

use crate::Protocol;
use crate::answers::{Answers, Expected, Uniform};
use crate::compressed::{Compressed, Messages};
use crate::connect;
use crate::deflate::Compression;
use crate::frame::{self, DataOpcode};
use crate::stream::Stream;

/// Resident memory of the server, in bytes, at the three moments that count.
pub struct Outcome {
    connections: usize,
    before: u64,
    opened: u64,
    after_message: Option<u64>,
    open_elapsed: Duration,
    open_cpu_nanoseconds: u64,
}

impl Outcome {
    /// Names and values, in the order to print them.
    pub fn fields(&self) -> Vec<(&'static str, f64)> {
        let count = self.connections as f64;
        // One decimal: a page spread over ten thousand connections is 0.4 bytes each.
        let per_connection =
            |bytes: u64| ((bytes as f64 - self.before as f64) / count * 10.0).round() / 10.0;
        let mut fields = vec![
            ("connections", count),
            ("handshakes_per_second", (count / self.open_elapsed.as_secs_f64()).round()),
            ("server_cpu_ns_per_handshake", (self.open_cpu_nanoseconds as f64 / count).round()),
            ("rss_before_bytes", self.before as f64),
            ("rss_open_bytes", self.opened as f64),
            ("rss_per_connection_bytes", per_connection(self.opened)),
        ];
        if let Some(bytes) = self.after_message {
            fields.push(("rss_after_message_bytes", bytes as f64));
            fields.push(("rss_per_connection_after_message_bytes", per_connection(bytes)));
        }
        fields
    }
}

/// What each connection echoes before the memory is read once more.
pub enum Activity {
    /// Nothing: it is not read once more.
    None,
    /// One message of random bytes.
    Message {
        /// Its size.
        payload_bytes: usize,
    },
    /// With permessage-deflate, which is agreed on from the beginning: one of each message that the
    /// closed loop would send, so that whatever window there is has filled.
    Compressed {
        /// Who takes over.
        compression: Compression,
        /// Before they are compressed.
        payload_bytes: usize,
    },
}

/// The server's last handshake ends a little after we have seen its answer.
const SETTLE: Duration = Duration::from_millis(500);

/// Opens `connections`, looks at the server's memory, lets each echo what is asked, looks again, and
/// closes them all.
///
/// # Errors
/// What the sockets and /proc say, and an answer that is no echo.
pub fn run(
    server: SocketAddr,
    protocol: Protocol,
    tls: Option<&Arc<ClientConfig>>,
    connections: usize,
    activity: &Activity,
    pid: u32,
) -> io::Result<Outcome> {
    let before = machine::resident_bytes(pid)?;
    let cpu_before = machine::cpu_nanoseconds(pid)?;
    let begin = Instant::now();
    let count = connections.max(1);
    let (mut streams, messages) = match activity {
        Activity::Compressed { compression, payload_bytes } => {
            let (streams, agreement) = connect::open_compressed(server, *compression, count)?;
            (streams, Some(Messages::new(agreement, *payload_bytes, 1)?))
        }
        Activity::None | Activity::Message { .. } => {
            (connect::open(server, protocol, tls, count)?, None)
        }
    };
    let open_elapsed = begin.elapsed();
    sleep(SETTLE);
    let open_cpu_nanoseconds = machine::cpu_nanoseconds(pid)? - cpu_before;
    let opened = machine::resident_bytes(pid)?;
    if let Some(messages) = &messages {
        for stream in &mut streams {
            let answers = Compressed::new(messages.agreement);
            echo(stream, &messages.requests, answers, messages)?;
        }
    } else if let Activity::Message { payload_bytes } = activity {
        let payload = DataOpcode::Binary.payload(*payload_bytes, 0);
        let request = [frame::masked_message(DataOpcode::Binary, &payload)];
        let expected = Expected::echo(protocol, DataOpcode::Binary, &payload, &request[0]);
        for stream in &mut streams {
            echo(stream, &request, Uniform::new(), &expected)?;
        }
    }
    let after_message = if let Activity::None = activity {
        None
    } else {
        sleep(SETTLE);
        Some(machine::resident_bytes(pid)?)
    };
    let connections = streams.len();
    Ok(Outcome { connections, before, opened, after_message, open_elapsed, open_cpu_nanoseconds })
}

/// How long the server may take for one message.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends each request once the answer to the one before is there.
fn echo<A: Answers>(
    stream: &mut Stream,
    requests: &[Vec<u8>],
    mut answers: A,
    expected: &A::Expected,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    for request in requests {
        let mut unsent = &request[..];
        let deadline = Instant::now() + PATIENCE;
        let mut answered = 0;
        while answered == 0 {
            if Instant::now() > deadline {
                return Err(io::Error::other("the server stopped answering"));
            }
            if !unsent.is_empty() {
                unsent = &unsent[if_ready(stream.write(unsent))?..];
            }
            let received = match stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("the server closed a connection")),
                result => if_ready(result)?,
            };
            let arrived = answers
                .handle_input(expected, &buffer[..received])
                .map_err(|mismatch| io::Error::other(mismatch.to_string()))?;
            for ping in &arrived.pings {
                stream.write_all(&frame::masked_pong(ping))?;
            }
            answered = arrived.answers;
        }
    }
    Ok(())
}

fn if_ready(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
