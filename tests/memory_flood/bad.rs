//! Clients that take as much of the server's memory as they can: some begin large messages and never
//! end them, others want echoes and never read one. Who is closed or refused comes again.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sim_peer::{BINARY, message, upgrade_request};

#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// What they would have had the server hold.
    pub offered_bytes: u64,
    /// What has gone into sockets.
    pub taken_bytes: u64,
    pub closed: u64,
    pub refused: u64,
}

pub struct Flood {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

impl Flood {
    pub fn start(address: SocketAddr, senders: usize, deaf: usize) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        Self { is_over, thread: thread::spawn(move || flood(address, senders, deaf, &until)) }
    }

    pub fn stop(self) -> Report {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What a client says, again and again where it is one message.
#[derive(Clone, Copy)]
enum Script {
    /// Half of a message.
    Half,
    /// Whole messages, of which it wants to see nothing again.
    Deaf,
}

struct Bad {
    script: Script,
    /// `None` while it waits to come again.
    stream: Option<TcpStream>,
    sent_bytes: usize,
    again_at: Instant,
}

const HALF_BYTES: usize = 8 << 20;

fn flood(address: SocketAddr, senders: usize, deaf: usize, is_over: &AtomicBool) -> Report {
    let whole = message(BINARY, &vec![0; 2 * HALF_BYTES]);
    let half = [&upgrade_request("/", "")[..], &whole[..HALF_BYTES]].concat();
    let echoes = [upgrade_request("/", ""), message(BINARY, &[0; 60_000]).repeat(100)].concat();
    let scripts = [vec![Script::Half; senders], vec![Script::Deaf; deaf]].concat();
    let now = Instant::now();
    let mut all: Vec<_> = scripts
        .into_iter()
        .map(|script| Bad { script, stream: None, sent_bytes: 0, again_at: now })
        .collect();
    let mut report = Report::default();
    while !is_over.load(Ordering::Relaxed) {
        for bad in &mut all {
            let text = match bad.script {
                Script::Half => &half,
                Script::Deaf => &echoes,
            };
            bad.go_on(address, text, &mut report);
        }
        thread::sleep(Duration::from_millis(1));
    }
    report
}

impl Bad {
    fn go_on(&mut self, address: SocketAddr, text: &[u8], report: &mut Report) {
        let now = Instant::now();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None if now < self.again_at => return,
            None => {
                let Ok(stream) = TcpStream::connect(address) else { return };
                stream.set_nonblocking(true).unwrap();
                report.offered_bytes += HALF_BYTES as u64;
                self.sent_bytes = 0;
                self.stream.insert(stream)
            }
        };
        let rest = &text[self.sent_bytes..];
        let written = stream.write(&rest[..rest.len().min(256 << 10)]);
        match written {
            Ok(bytes) => {
                self.sent_bytes += bytes;
                report.taken_bytes += bytes as u64;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return self.end(now, report),
        }
        // The first answer is small; who reads no more than that hears of his end by a reset.
        let mut answer = [0; 128];
        match (self.script, stream.peek(&mut answer)) {
            (_, Ok(bytes)) if answer[..bytes].starts_with(b"HTTP/1.1 503") => {
                report.refused += 1;
                self.stream = None;
                self.again_at = now + Duration::from_millis(500);
            }
            (_, Ok(0)) => self.end(now, report),
            (Script::Half, Ok(_)) => {
                let mut answer = [0; 4096];
                if matches!(stream.read(&mut answer), Ok(0)) {
                    self.end(now, report);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, now: Instant, report: &mut Report) {
        report.closed += 1;
        self.stream = None;
        self.again_at = now + Duration::from_millis(100);
    }
}
