//! Clients that behave: each says something ten times a second and wants it back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sim_peer::{BINARY, TEXT, message, upgrade_request};

pub struct Good {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Good {
    pub fn start(address: SocketAddr, count: usize) -> Self {
        let streams: Vec<_> = (0..count).map(|_| open(address)).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let until = is_over.clone();
        Self { is_over, thread: thread::spawn(move || speak(streams, &until)) }
    }

    /// The longest that an echo took.
    ///
    /// # Panics
    /// If one of them was closed, or not answered in ten seconds.
    pub fn stop(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("every one of them lives")
    }
}

fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&upgrade_request("/", "")).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    // What is run for the first time is resident from then on: once through it with a message in
    // pieces, before anything is measured.
    let large = message(BINARY, &[7; 60_000]);
    let (first, rest) = large.split_at(20_000);
    stream.write_all(first).unwrap();
    thread::sleep(Duration::from_millis(5));
    stream.write_all(rest).unwrap();
    let mut echo = vec![0; 60_004];
    stream.read_exact(&mut echo).unwrap();
    stream
}

fn speak(mut streams: Vec<TcpStream>, is_over: &AtomicBool) -> Duration {
    let mut slowest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        for stream in &mut streams {
            stream.write_all(&message(TEXT, b"still here")).unwrap();
        }
        for stream in &mut streams {
            // Two bytes of header, since it is so short.
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            let slow = begun.elapsed();
            assert_eq!(&answer[2..], b"still here", "{answer:?} after {slow:?}");
            slowest = slowest.max(begun.elapsed());
        }
        thread::sleep(Duration::from_millis(100));
    }
    slowest
}
