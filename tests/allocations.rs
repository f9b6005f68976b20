//! After warm-up the echo path allocates nothing, whatever the size and however it arrives, nor does
//! what a client sends.
//!
//! One thread runs the loop and a client on a real socket in turn; a counting allocator watches
//! while the loop runs.

#![cfg(feature = "net")]

#[cfg(feature = "deflate")]
#[allow(dead_code, reason = "what is compressed here is not inflated")]
#[path = "support/deflated.rs"]
mod deflated;

#[path = "allocations/charged.rs"]
mod charged;
#[path = "allocations/client.rs"]
mod client;
#[cfg(feature = "tls")]
#[path = "allocations/tls.rs"]
mod tls;
#[path = "allocations/topics.rs"]
mod topics;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use corewire::{
    Config, Context, Handler, ListenOptions, ListenerSettings, Message, MioNet, PreparedMessage,
    Reactor, ReactorConfig, Role,
};

struct Counting;

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that the loop has allocated and not freed.
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(allocations: u64, bytes: isize) {
    // A thread that is ending has no cells any more, and nothing to count.
    let _ = COUNTING.try_with(|counting| {
        if counting.get() {
            ALLOCATIONS.with(|count| count.set(count.get() + allocations));
            HELD_BYTES.with(|held| held.set(held.get() + bytes));
        }
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting does not allocate.
#[expect(unsafe_code, reason = "a global allocator cannot be written without it")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(1, bytes as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted<R>(run: impl FnOnce() -> R) -> R {
    COUNTING.set(true);
    let result = run();
    COUNTING.set(false);
    result
}

/// How the application answers.
#[derive(Clone)]
enum Answer {
    Slice,
    Shared(Bytes),
    Prepared(PreparedMessage),
}

struct Echo(Answer);

impl Handler for Echo {
    type Data = ();

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let outcome = match &self.0 {
            Answer::Slice => ctx.send(message),
            Answer::Shared(bytes) => ctx.here().send_bytes(bytes.clone()),
            Answer::Prepared(prepared) => ctx.here().send_prepared(prepared),
        };
        assert!(outcome.is_taken(), "{outcome:?}");
    }
}

struct Bed {
    reactor: Reactor<MioNet, Echo>,
    client: TcpStream,
}

impl Bed {
    fn new(answer: Answer) -> Self {
        Self::with(answer, "", |_| {})
    }

    /// A connection whose request has further `lines`.
    fn with(answer: Answer, lines: &str, change: impl FnOnce(&mut Config)) -> Self {
        let net = MioNet::new(256 << 10).unwrap();
        let mut reactor = Reactor::new(net, Echo(answer), ReactorConfig::new([1; 32]));
        let mut config = Config::new(Role::Server);
        config.limits.message_bytes_max = 4 << 20;
        change(&mut config);
        let mut options = ListenOptions::default();
        options.sockets.send_buffer_bytes = Some(64 << 10);
        options.sockets.receive_buffer_bytes = Some(64 << 10);
        let any = ([127, 0, 0, 1], 0);
        let endpoint = reactor.listen(any, &options, ListenerSettings::new(config)).unwrap();
        let client = TcpStream::connect(endpoint.socket_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        client.set_nodelay(true).unwrap();
        let mut bed = Self { reactor, client };
        let request = format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        bed.client.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            bed.turn();
            let mut some = [0; 256];
            let bytes = read_some(&mut bed.client, &mut some, 256);
            answer.extend_from_slice(&some[..bytes]);
        }
        bed
    }

    /// Writes `pieces` one by one, each handled by the loop before the next, and reads
    /// `answer_bytes` back. Only the loop's own work is counted.
    fn exchange(&mut self, pieces: &[&[u8]], answer_bytes: usize) {
        let mut sink = [0; 64 << 10];
        let mut missing = answer_bytes;
        for piece in pieces {
            let mut at = 0;
            while at < piece.len() {
                match self.client.write(&piece[at..]) {
                    Ok(written) => at += written,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                self.turn();
                missing -= read_some(&mut self.client, &mut sink, missing);
            }
        }
        while missing > 0 {
            self.turn();
            missing -= read_some(&mut self.client, &mut sink, missing);
        }
    }

    fn turn(&mut self) {
        counted(|| self.reactor.turn(Some(Duration::ZERO))).unwrap();
    }

    /// Writes `pieces` as [`Bed::exchange`] does; the whole frame that comes back.
    #[cfg(feature = "deflate")]
    fn echo_compressed(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut room = [0; 64 << 10];
        let mut pieces = pieces.iter();
        let mut rest: &[u8] = &[];
        loop {
            if rest.is_empty() {
                rest = pieces.next().copied().unwrap_or_default();
            }
            rest = &rest[self.client.write(rest).unwrap_or(0)..];
            self.turn();
            let bytes = read_some(&mut self.client, &mut room, 64 << 10);
            answer.extend_from_slice(&room[..bytes]);
            if frame_bytes(&answer) == Some(answer.len()) {
                return answer;
            }
        }
    }

    /// Allocations of the loop for each of `rounds` exchanges, after as many for warm-up.
    fn allocations_per_exchange(
        &mut self,
        pieces: &[&[u8]],
        answer_bytes: usize,
        rounds: u64,
    ) -> u64 {
        for _ in 0..rounds {
            self.exchange(pieces, answer_bytes);
        }
        ALLOCATIONS.set(0);
        for _ in 0..rounds {
            self.exchange(pieces, answer_bytes);
        }
        ALLOCATIONS.get().div_ceil(rounds)
    }
}

fn read_some(client: &mut TcpStream, sink: &mut [u8], missing: usize) -> usize {
    let room = sink.len().min(missing);
    match client.read(&mut sink[..room]) {
        Ok(0) if room > 0 => panic!("the server closed the connection"),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

/// A masked frame with a key of zeros, so that the payload stands as it is.
fn frame(first_byte: u8, payload_bytes: usize) -> Vec<u8> {
    frame_of(first_byte, &vec![b'x'; payload_bytes])
}

fn frame_of(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let payload_bytes = payload.len();
    let mut frame = vec![first_byte];
    match payload_bytes {
        0..126 => frame.push(0x80 | payload_bytes as u8),
        126..0x1_0000 => {
            frame.push(0xfe);
            frame.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// The length of the frame at the front of what a server has sent.
#[cfg(feature = "deflate")]
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    Some(match *bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes(*bytes[2..].first_chunk()?)),
        127 => 10 + u64::from_be_bytes(*bytes[2..].first_chunk()?) as usize,
        short => 2 + usize::from(short),
    })
}

/// The size of the echo of so many bytes.
fn echo_bytes(payload_bytes: usize) -> usize {
    frame(0x82, payload_bytes).len() - 4
}

const BINARY: u8 = 0x82;

#[test]
fn whole_messages_of_any_size_are_echoed_without_an_allocation() {
    for payload_bytes in [0, 20, 1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let frame = frame(BINARY, payload_bytes);
        let allocations = Bed::new(Answer::Slice).allocations_per_exchange(
            &[&frame],
            echo_bytes(payload_bytes),
            20,
        );
        assert_eq!(allocations, 0, "{payload_bytes} bytes");
    }
}

#[test]
fn pipelined_messages_are_echoed_without_an_allocation() {
    let batch = frame(BINARY, 20).repeat(3000);
    let allocations =
        Bed::new(Answer::Slice).allocations_per_exchange(&[&batch], 3000 * echo_bytes(20), 10);
    assert_eq!(allocations, 0);
}

#[test]
fn fragmented_messages_are_echoed_without_an_allocation() {
    for payload_bytes in [20, 1 << 10, 64 << 10, 1 << 20] {
        let part = payload_bytes / 4;
        let mut frames = frame(0x02, part);
        frames.extend(frame(0x00, part));
        frames.extend(frame(0x00, part));
        frames.extend(frame(0x80, part));
        let allocations =
            Bed::new(Answer::Slice).allocations_per_exchange(&[&frames], echo_bytes(part * 4), 20);
        assert_eq!(allocations, 0, "{payload_bytes} bytes");
    }
}

#[test]
fn torn_messages_are_echoed_without_an_allocation() {
    for payload_bytes in [20, 1 << 10, 64 << 10, 1 << 20] {
        let frame = frame(BINARY, payload_bytes);
        let (head, rest) = frame.split_at(3);
        let (middle, tail) = rest.split_at(rest.len() / 2);
        let allocations = Bed::new(Answer::Slice).allocations_per_exchange(
            &[head, middle, tail],
            echo_bytes(payload_bytes),
            20,
        );
        assert_eq!(allocations, 0, "{payload_bytes} bytes");
    }
}

#[test]
fn back_pressured_messages_are_echoed_without_an_allocation() {
    for payload_bytes in [20, 1 << 10, 64 << 10, 1 << 20] {
        let mut bed = Bed::new(Answer::Slice);
        let frame = frame(BINARY, payload_bytes);
        let count = (16 << 20) / frame.len();
        let batch = frame.repeat(count);
        let answer_bytes = count * echo_bytes(payload_bytes);
        let stall = |bed: &mut Bed| {
            // The client writes until nothing is taken any more, so that the echo is held up, and
            // only then begins to read.
            let (mut at, mut idle) = (0, 0);
            while at < batch.len() && idle < 50 {
                match bed.client.write(&batch[at..]) {
                    Ok(written) => (at, idle) = (at + written, 0),
                    Err(_) => idle += 1,
                }
                bed.turn();
            }
            let held_up = at < batch.len();
            let mut sink = [0; 64 << 10];
            let mut missing = answer_bytes;
            while missing > 0 {
                if let Ok(written) = bed.client.write(&batch[at..]) {
                    at += written;
                }
                bed.turn();
                missing -= read_some(&mut bed.client, &mut sink, missing);
            }
            held_up
        };
        // The pools grow to the most that a stall ever needs, which is not the same each time; the
        // bound is the high-water mark. A message that costs an allocation costs it in every stall.
        let mut stalls = (0..30).map(|_| {
            ALLOCATIONS.set(0);
            assert!(stall(&mut bed), "16 MiB are more than the sockets hold");
            ALLOCATIONS.get()
        });
        assert!(stalls.any(|allocations| allocations == 0), "{payload_bytes} bytes");
    }
}

#[test]
fn shared_and_prepared_messages_cost_at_most_one_allocation_each() {
    for payload_bytes in [20, 1 << 10, 64 << 10, 1 << 20] {
        let request = frame(BINARY, 20);
        for answer in [
            Answer::Shared(Bytes::from(vec![b'x'; payload_bytes])),
            Answer::Prepared(PreparedMessage::binary(&vec![b'x'; payload_bytes])),
        ] {
            let mut bed = Bed::new(answer);
            let allocations =
                bed.allocations_per_exchange(&[&request], echo_bytes(payload_bytes), 20);
            assert!(allocations <= 1, "{payload_bytes} bytes: {allocations}");
        }
    }
}

// With context takeover once the window is full: until then it grows with what has come.
#[cfg(feature = "deflate")]
#[test]
fn compressed_messages_are_echoed_without_an_allocation() {
    use corewire::{Compression, CompressionMode};
    use deflated::{OFFER, compressed};

    let dedicated = CompressionMode::Dedicated { window_bits: 15, mem_level: 8 };
    for mode in [CompressionMode::Shared, dedicated] {
        for (payload_bytes, rounds) in [(200, 200), (1 << 10, 40), (64 << 10, 2), (1 << 20, 1)] {
            let mut bed = Bed::with(Answer::Slice, OFFER, |config| {
                config.compression = Compression::new(mode).unwrap();
            });
            let text: String =
                (0..payload_bytes / 8).map(|at| format!("{{\"n\":{at}}},")).collect();
            let payload = &text.as_bytes()[..payload_bytes];
            let compressed = compressed(payload);
            let whole = frame_of(0xC2, &compressed);
            let (front, back) = compressed.split_at(compressed.len() / 2);
            let fragments = [frame_of(0x42, front), frame_of(0x80, back)].concat();
            for frames in [&whole, &fragments] {
                let (head, tail) = frames.split_at(frames.len() / 3);
                for pieces in [&[frames.as_slice()][..], &[head, tail]] {
                    let mut round = || bed.echo_compressed(pieces);
                    assert_eq!(round()[0], 0xC2, "the echo is compressed");
                    (0..rounds).for_each(|_| drop(round()));
                    ALLOCATIONS.set(0);
                    (0..rounds).for_each(|_| drop(round()));
                    assert_eq!(ALLOCATIONS.get(), 0, "{mode:?}, {payload_bytes} bytes");
                }
            }
        }
    }
}

#[test]
fn the_counter_counts() {
    ALLOCATIONS.set(0);
    let boxed = counted(|| Box::new(std::hint::black_box(1)));
    assert_eq!((*boxed, ALLOCATIONS.get()), (1, 1));
}
