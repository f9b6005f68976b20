//! What a client knows of its messages' delivery: against a peer that reads what is on the wire.

use std::io::ErrorKind;
use std::time::Duration;

use corewire::{
    CloseCause, CloseCode, Config, Opcode, OverflowPolicy, Part, PreparedMessage, Proof, Role,
};

use super::support::endpoint::Endpoint;
use super::support::naive::{self, Frame, PING};
use super::support::rng::Rng;

/// Whether the pings of the application can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pings {
    Numbered,
    Alike,
}

/// The server's side of the wire, and what the client must know of it.
#[derive(Default)]
struct Peer {
    /// Bytes of a frame that is not whole yet.
    torn: Vec<u8>,
    /// Messages that are on the wire as a whole.
    read_messages: u64,
    /// Each ping that was read, and the messages in front of it.
    pings: Vec<(Vec<u8>, u64)>,
    /// Messages that a pong has proven.
    proven_messages: u64,
}

impl Peer {
    fn read(&mut self, written: &[u8]) {
        self.torn.extend(written);
        let (frames, rest) = naive::parse(&self.torn);
        for frame in &frames {
            self.read_messages += u64::from(frame.is_data() && frame.fin);
            if frame.opcode == PING {
                self.pings.push((frame.payload.clone(), self.read_messages));
            }
        }
        self.torn = rest.to_vec();
    }

    /// A pong was sent: it proves something if its ping was read, and has a payload.
    fn note_pong(&mut self, payload: &[u8]) {
        let answered = self.pings.iter().find(|(ping, _)| ping == payload && !ping.is_empty());
        let proven = answered.map_or(0, |(_, messages)| *messages);
        self.proven_messages = self.proven_messages.max(proven);
    }
}

/// A client under random use.
struct Run {
    rng: Rng,
    client: Endpoint,
    peer: Peer,
    pings: Pings,
    taken_messages: u64,
    sent_pings: u64,
    heartbeats_max: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut config = Config::new(Role::Client);
        config.on_overflow = OverflowPolicy::Refuse;
        config.limits.backpressure_bytes_max = 4000;
        Self {
            rng: Rng::new(seed),
            client: Endpoint::new(config),
            peer: Peer::default(),
            pings: if seed.is_multiple_of(4) { Pings::Alike } else { Pings::Numbered },
            taken_messages: 0,
            sent_pings: 0,
            heartbeats_max: 0,
        }
    }

    fn step(&mut self) {
        match self.rng.below(16) {
            0..=5 => self.send(),
            6..=8 => self.write(),
            9..=10 => self.ping(),
            11 => {
                self.client.advance(Duration::from_secs(30));
                self.heartbeats_max += 1;
            }
            12 => drop(self.client.receive_frames(&[Frame::ping([7; 9])])),
            _ => self.pong(),
        }
    }

    fn send(&mut self) {
        let length = self.rng.below(300);
        let payload = self.rng.bytes(length);
        let choice = self.rng.below(6);
        let part = [Part::First, Part::Middle, Part::Last][self.rng.below(3)];
        let taken = self.client.act(|t| match choice {
            0 => {
                let is_taken = t.send_part(Opcode::Binary, &payload, part).is_taken();
                usize::from(is_taken && part == Part::Last)
            }
            1 => t.send_prepared(&PreparedMessage::binary(&payload)).is_taken().into(),
            2 => t.send_bytes(payload.into()).is_taken().into(),
            3 => t.send_batch([(Opcode::Binary, &*payload); 5]).taken_messages,
            _ => t.send_binary(&payload).is_taken().into(),
        });
        self.taken_messages += taken as u64;
    }

    fn write(&mut self) {
        let bytes = [self.rng.below(8), self.rng.below(2000), usize::MAX][self.rng.below(3)];
        let written = self.client.write(bytes);
        self.peer.read(&written);
    }

    fn ping(&mut self) {
        let payload = match self.pings {
            Pings::Alike => [b"".as_slice(), b"alike"][self.rng.below(2)].to_vec(),
            Pings::Numbered => {
                self.sent_pings += 1;
                self.sent_pings.to_string().into_bytes()
            }
        };
        let _ = self.client.act(|t| t.send_ping(&payload));
    }

    /// An answer to any ping, read or not, answered before or not; or one that nobody asked for.
    fn pong(&mut self) {
        let on_the_wire = self.peer.pings.len();
        let payload = match self.rng.below(8) {
            0 => Vec::new(),
            1 => (self.sent_pings + 1).to_string().into_bytes(),
            2 => self.sent_pings.to_string().into_bytes(),
            3 if on_the_wire > 0 => self.peer.pings[self.rng.below(on_the_wire)].0.clone(),
            _ if on_the_wire > 0 => {
                self.peer.pings[on_the_wire - 1 - self.rng.below(on_the_wire.min(3))].0.clone()
            }
            _ => b"unsolicited".to_vec(),
        };
        if !self.client.connection.is_closed() {
            self.peer.note_pong(&payload);
        }
        self.client.receive_frames(&[Frame::pong(payload)]);
    }

    fn check(&self) {
        let Proof { confirmed_messages, unconfirmed_messages, unsent_messages, .. } =
            self.client.connection.delivery(&self.client.pools);
        let sent_messages = confirmed_messages + unconfirmed_messages;
        assert_eq!(sent_messages, self.peer.read_messages);
        assert_eq!(sent_messages + unsent_messages, self.taken_messages);
        if self.pings == Pings::Numbered {
            assert!(confirmed_messages <= self.peer.proven_messages);
            // Of more pings than these some are not waited for.
            if self.sent_pings + self.heartbeats_max <= 8 {
                assert_eq!(confirmed_messages, self.peer.proven_messages);
            }
        }
    }

    /// The end, in any of the ways there are.
    fn end(mut self) -> Proof {
        let (now, reset) = (self.client.now, ErrorKind::ConnectionReset);
        match self.rng.below(6) {
            0 => self.client.connection.handle_transport_error(reset),
            1 => self.client.connection.handle_end_of_stream(now, &self.client.pools),
            2 => self.client.act(|t| t.close(CloseCode::NORMAL, "bye")).unwrap(),
            3 => drop(self.client.receive_frames(&[Frame::close(1000, "bye")])),
            4 => self.client.advance(Duration::from_secs(90)),
            _ => {}
        }
        if self.rng.one_in(2) {
            self.write();
        }
        self.check();
        let before = self.client.connection.delivery(&self.client.pools);
        let summary = self.client.finish();
        assert_eq!(summary.unsent_messages, before.unsent_messages);
        assert_eq!(summary.unconfirmed_messages, before.unconfirmed_messages);
        before
    }
}

/// Sends, pings, partial writes, pongs in any order, twice, too early and unasked for, and an end
/// at any point: each message that was taken is in one count, and none is confirmed that the peer
/// has not read.
#[test]
fn what_was_taken_is_confirmed_or_unconfirmed_or_unsent() {
    let (mut confirmed, mut unconfirmed, mut unsent) = (0, 0, 0);
    for seed in 0..2000 {
        let mut run = Run::new(seed);
        for _ in 0..run.rng.below(80) {
            run.step();
            run.check();
        }
        let proof = run.end();
        confirmed += u64::from(proof.confirmed_messages > 0);
        unconfirmed += u64::from(proof.unconfirmed_messages > 0);
        unsent += u64::from(proof.unsent_messages > 0);
    }
    assert!(confirmed.min(unconfirmed).min(unsent) > 500, "{confirmed} {unconfirmed} {unsent}");
}

/// The heartbeat alone proves delivery, also where a peer answers the second ping only.
#[test]
fn the_pong_of_a_heartbeat_proves_what_was_sent_in_front_of_its_ping() {
    let proof = |client: &Endpoint| {
        let proof = client.connection.delivery(&client.pools);
        (proof.confirmed_messages, proof.unconfirmed_messages, proof.unsent_messages)
    };
    let mut client = Endpoint::client();
    assert!(client.act(|t| t.send_text("one")).is_taken());
    assert_eq!(proof(&client), (0, 0, 1));
    client.advance(Duration::from_secs(30));
    assert!(client.act(|t| t.send_text("two")).is_taken());
    client.advance(Duration::from_secs(30));
    assert!(client.act(|t| t.send_text("three")).is_taken());
    let frames = client.write_frames();
    assert_eq!(proof(&client), (0, 3, 0));
    let pings: Vec<_> = frames.iter().filter(|frame| frame.opcode == PING).collect();
    client.receive_frames(&[Frame::pong(&pings[1].payload), Frame::pong(&pings[0].payload)]);
    assert_eq!(proof(&client), (2, 1, 0));
    let summary = client.finish();
    assert_eq!((summary.unconfirmed_messages, summary.unsent_messages), (1, 0));
}

/// The peer's Close may have crossed ours: it proves nothing.
#[test]
fn a_clean_close_leaves_messages_unconfirmed() {
    let mut client = Endpoint::client();
    assert!(client.act(|t| t.send_text("last")).is_taken());
    client.act(|t| t.close(CloseCode::NORMAL, "")).unwrap();
    client.write_all();
    client.receive_frames(&[Frame::close(1000, "")]);
    let summary = client.finish();
    assert_eq!((summary.cause, summary.unconfirmed_messages), (CloseCause::ClosingHandshake, 1));
}

/// A pong that comes while the closing handshake is under way still counts.
#[test]
fn a_pong_behind_our_close_proves_delivery() {
    let mut client = Endpoint::client();
    assert!(client.act(|t| t.send_text("last")).is_taken());
    assert!(client.act(|t| t.send_ping(b"1")).is_taken());
    client.act(|t| t.close(CloseCode::NORMAL, "")).unwrap();
    client.write_all();
    client.receive_frames(&[Frame::pong("1"), Frame::close(1000, "")]);
    assert_eq!(client.finish().unconfirmed_messages, 0);
}

#[test]
fn a_server_counts_what_is_unsent_and_nothing_else() {
    let mut server = Endpoint::server();
    for text in ["one", "two"] {
        assert!(server.act(|t| t.send_text(text)).is_taken());
    }
    assert!(server.act(|t| t.send_ping(b"1")).is_taken());
    server.write(5);
    server.receive_frames(&[Frame::pong("1")]);
    let proof = server.connection.delivery(&server.pools);
    assert_eq!((proof.confirmed_messages, proof.unconfirmed_messages), (0, 0));
    assert_eq!(proof.unsent_messages, 1);
    let summary = server.finish();
    assert_eq!((summary.unsent_messages, summary.unconfirmed_messages), (1, 0));
}

/// A pong of ours in front of the ping may not be exchanged for a longer one, or the ping would
/// seem to have left before it has.
#[test]
fn a_ping_has_left_when_its_last_byte_has() {
    let mut client = Endpoint::client();
    assert!(client.act(|t| t.send_text("0123456789")).is_taken());
    let written = client.write(5);
    client.receive_frames(&[Frame::ping("")]);
    assert!(client.act(|t| t.send_ping(b"1")).is_taken());
    client.receive_frames(&[Frame::ping([0; 125])]);
    let frames = naive::parse_all(&[written, client.unsent()].concat());
    let index = frames.iter().position(|frame| frame.opcode == PING).unwrap();
    let end: usize = frames[..=index].iter().map(|frame| frame.encode().len()).sum();
    client.write(end - 5 - 1);
    client.receive_frames(&[Frame::pong("1")]);
    assert_eq!(client.connection.delivery(&client.pools).confirmed_messages, 0, "a guess");
    client.write(1);
    client.receive_frames(&[Frame::pong("1")]);
    assert_eq!(client.connection.delivery(&client.pools).confirmed_messages, 1);
}
