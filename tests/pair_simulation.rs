//! Random conversations of two endpoints over a network that tears and delays.
//!
//! In calm conversations everything that was taken must arrive, exactly once and in order. In rough
//! ones, where ends vanish, connections break and queues overflow, what arrives is a prefix and the
//! close summary accounts for the rest.

#[cfg(feature = "deflate")]
#[path = "pair_simulation/compression.rs"]
mod compression;
#[cfg(not(feature = "deflate"))]
#[path = "pair_simulation/no_compression.rs"]
mod compression;
mod support;

use std::time::Duration;

use compression::{Agreed, Reader};
use corewire::{
    CloseCode, CloseSummary, Config, Delivery, Event, Heartbeat, Opcode, OverflowPolicy, Part,
    PreparedMessage, Role, Transmit,
};
use support::endpoint::Seen;
use support::naive::{self, BINARY, CLOSE, Frame, TEXT};
use support::pair::{Faults, Pair};
use support::rng::Rng;

const SEEDS: u64 = 300;
/// No conversation is so long; one that is has come to a standstill.
const STEPS_MAX: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Calm,
    Rough,
}

/// A message by its opcode and payload.
type Message = (u8, Vec<u8>);

/// What one end has sent, as far as it was taken.
#[derive(Default)]
struct Said {
    messages: Vec<Message>,
    pings: Vec<Vec<u8>>,
    /// The parts so far of a message that is not finished.
    parts: Option<Vec<u8>>,
}

struct Conversation {
    pair: Pair,
    said: [Said; 2],
    agreed: Agreed,
    weather: Weather,
    payload_bytes_max: usize,
}

/// Prints the seed when the conversation panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the conversation of seed {} failed", self.0);
        }
    }
}

fn config(role: Role, weather: Weather, rng: &mut Rng) -> Config {
    let mut config = Config::new(role);
    config.delivery = if rng.one_in(3) { Delivery::Streaming } else { Delivery::Whole };
    config.on_overflow = OverflowPolicy::Refuse;
    config.limits.backpressure_bytes_max = [500, 20_000, 1 << 20][rng.below(3)];
    config.limits.control_bytes_max = [100, 16 << 10][rng.below(2)];
    let ping_every = Duration::from_millis(100 + rng.below(2000) as u64);
    // In calm weather time is no reason to part.
    let mut dead_after = Duration::from_secs(1 << 20);
    config.close_timeout = dead_after;
    if weather == Weather::Rough {
        dead_after = Duration::from_millis([1000, 5000, 90_000][rng.below(3)]);
        config.close_timeout = Duration::from_millis([0, 100, 5000][rng.below(3)]);
        if rng.one_in(2) {
            config.on_overflow = OverflowPolicy::Fail;
        }
    }
    config.heartbeat = Some(Heartbeat { ping_every, dead_after });
    config
}

impl Conversation {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults::random(&mut rng);
        let mut configs = [Role::Client, Role::Server].map(|role| config(role, weather, &mut rng));
        let agreed = Agreed::choose(&mut configs, &mut rng);
        // A slow network is given less to carry.
        let payload_bytes_max = (faults.delivered_bytes_max * 60).min(70_000);
        let pair = Pair::new(seed, faults, configs);
        let pair = pair.map_endpoints(|endpoint| agreed.apply(endpoint));
        Self { pair, said: Default::default(), agreed, weather, payload_bytes_max }
    }

    fn payload(&mut self) -> Vec<u8> {
        let bytes = self.pair.rng.length().min(self.payload_bytes_max);
        self.pair.rng.bytes(bytes)
    }

    /// One of the two does something.
    fn act(&mut self) {
        let index = self.pair.rng.below(2);
        let payload = self.payload();
        let (choice, text) = (self.pair.rng.below(8), self.pair.rng.text(payload.len() % 3000));
        let endpoint = &mut self.pair.ends[index].endpoint;
        let Said { messages, pings, parts } = &mut self.said[index];
        let message = match choice {
            0 => {
                let number = (pings.len() as u32).to_be_bytes();
                let payload = [&number[..], &[0; 5], &payload[..payload.len() % 116]];
                let payload = payload.concat();
                if endpoint.act(|t| t.send_ping(&payload)).is_taken() {
                    pings.push(payload);
                }
                return;
            }
            1 | 2 => {
                let part = match parts {
                    None => Part::First,
                    Some(_) if choice == 1 => Part::Middle,
                    Some(_) => Part::Last,
                };
                if endpoint.act(|t| t.send_part(Opcode::Binary, &payload, part)).is_taken() {
                    let mut joined = parts.take().unwrap_or_default();
                    joined.extend(payload);
                    match part {
                        Part::Last => messages.push((BINARY, joined)),
                        Part::First | Part::Middle => *parts = Some(joined),
                    }
                }
                return;
            }
            3 => {
                endpoint.act(|t| t.send_bytes(payload.clone().into())).is_taken().then_some(payload)
            }
            4 => {
                let prepared = PreparedMessage::binary(&payload);
                endpoint.act(|t| t.send_prepared(&prepared)).is_taken().then_some(payload)
            }
            5 => endpoint.act(|t| t.send_binary(&payload)).is_taken().then_some(payload),
            _ => {
                if endpoint.act(|t| t.send_text(&text)).is_taken() {
                    messages.push((TEXT, text.into_bytes()));
                }
                return;
            }
        };
        messages.extend(message.map(|payload| (BINARY, payload)));
    }

    /// The network moves, time passes.
    fn step(&mut self) {
        let index = self.pair.rng.below(2);
        if self.pair.rng.one_in(2) {
            self.pair.transmit(index);
        }
        // The server sends texts back; the client listens.
        let messages = &mut self.said[1].messages;
        self.pair.deliver(index, |event: &Event<'_>, transmit: &mut Transmit<'_>| {
            if let (1, Event::Text(text)) = (index, event)
                && transmit.send_text(text).is_taken()
            {
                messages.push((TEXT, text.as_bytes().to_vec()));
            }
        });
        if self.pair.rng.one_in(4) {
            let millis = self.pair.rng.below(30) as u64;
            self.pair.pass(Duration::from_millis(millis));
            self.pair.time_out();
        }
    }

    /// What only happens in rough weather.
    fn misfortune(&mut self) {
        let index = self.pair.rng.below(2);
        match self.pair.rng.below(400) {
            0 => self.pair.reset(),
            1 => self.pair.ends[index].endpoint.act(|t| t.abort()),
            2 => self.pair.pass(Duration::from_secs(2)),
            _ => {}
        }
    }

    fn close(&mut self) {
        let index = self.pair.rng.below(2);
        let code = CloseCode::new(3000 + index as u16);
        let closed = self.pair.ends[index].endpoint.act(|t| t.close(code, "enough"));
        closed.expect("the code may be sent");
    }

    /// Runs to the end and returns the hash of all that happened.
    fn run(mut self) -> u64 {
        let mut actions = self.pair.rng.below(60);
        for step in 0.. {
            assert!(step < STEPS_MAX, "the conversation has come to a standstill");
            if self.pair.is_over() {
                break;
            }
            if actions > 0 && self.pair.rng.one_in(3) {
                actions -= 1;
                self.act();
            } else if actions == 0 && self.pair.rng.one_in(10) {
                self.close();
            }
            if self.weather == Weather::Rough {
                self.misfortune();
            }
            self.step();
        }
        self.judge()
    }

    fn judge(self) -> u64 {
        let Self { pair, said, agreed, weather, .. } = self;
        let trace = pair.trace();
        let [client, server] = pair.ends;
        let heard = [messages(&server.seen), messages(&client.seen)];
        let pongs = [pongs(&client.seen), pongs(&server.seen)];
        for (index, end) in [client, server].into_iter().enumerate() {
            let role = end.endpoint.role;
            let queued_bytes = end.endpoint.connection.queued_bytes() as u64;
            let summary = end.endpoint.finish();
            let reader = agreed.reader(role);
            judge_written(&end.written, role, reader, &said[index].messages, &summary);
            assert_eq!(summary.unsent_bytes, queued_bytes);
            let sent = &said[index].messages;
            assert!(sent.starts_with(&heard[index]), "in order, exactly once");
            let mut pings = said[index].pings.iter();
            let is_subset = pongs[index].iter().all(|pong| pings.any(|ping| ping == pong));
            assert!(is_subset, "pongs answer pings in order");
            if weather == Weather::Calm {
                assert!(summary.is_clean(), "{summary:?}");
                assert_eq!(heard[index].len(), sent.len(), "everything has arrived");
                assert_eq!((summary.unsent_messages, summary.unsent_bytes), (0, 0));
            }
        }
        trace
    }
}

/// What the network took from one end: frames as the RFC wants them, and with the messages that the
/// summary counts as unsent exactly those that were sent.
fn judge_written(
    wire: &[u8],
    role: Role,
    mut reader: Reader,
    sent: &[Message],
    summary: &CloseSummary,
) {
    let (frames, _torn) = naive::parse(wire);
    let close = frames.iter().position(|frame| frame.opcode == CLOSE);
    assert!(close.is_none_or(|index| index + 1 == frames.len()), "nothing follows a Close");
    assert!(frames.iter().all(|frame| frame.rsv == 0 || frame.is_data()));
    assert!(frames.iter().all(|frame| frame.key.is_some() == (role == Role::Client)));
    let mut written = Vec::new();
    let mut parts: Option<Message> = None;
    for frame in frames.into_iter().filter(Frame::is_data) {
        let payload = reader.read(&frame);
        let Frame { fin, opcode, .. } = frame;
        let (opcode, mut joined) = parts.take().unwrap_or((opcode, Vec::new()));
        joined.extend(payload);
        if fin {
            written.push((opcode, joined));
        } else {
            parts = Some((opcode, joined));
        }
    }
    assert!(sent.starts_with(&written), "what is written is what was sent");
    assert_eq!(written.len() as u64 + summary.unsent_messages, sent.len() as u64, "{summary:?}");
}

/// The messages among events, pieces joined; an unfinished one is none.
fn messages(seen: &[Seen]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut joined = Vec::new();
    for event in seen {
        match event {
            Seen::Text(text) => messages.push((TEXT, text.clone().into_bytes())),
            Seen::Binary(bytes) => messages.push((BINARY, bytes.clone())),
            Seen::Chunk { opcode, payload, fin, .. } => {
                joined.extend(payload);
                if *fin {
                    messages.push((*opcode as u8, std::mem::take(&mut joined)));
                }
            }
            Seen::Failed(failure) => panic!("nobody did anything wrong: {failure:?}"),
            Seen::Ping(_) | Seen::Pong(..) | Seen::Close(_) => {}
        }
    }
    messages
}

/// The pongs that answer pings of the application.
fn pongs(seen: &[Seen]) -> Vec<Vec<u8>> {
    let pongs = seen.iter().filter_map(|event| match event {
        Seen::Pong(payload, None) => Some(payload.clone()),
        _ => None,
    });
    // Late answers to a heartbeat have its eight bytes; pings here have another length.
    pongs.filter(|payload| payload.len() != 8).collect()
}

fn converse(weather: Weather) {
    for seed in 0..SEEDS {
        let _named = Named(seed);
        let trace = Conversation::new(seed, weather).run();
        if seed % 8 == 0 {
            let again = Conversation::new(seed, weather).run();
            assert_eq!(trace, again, "the same seed is the same conversation");
        }
    }
}

#[test]
fn in_calm_conversations_everything_arrives_once_and_in_order() {
    converse(Weather::Calm);
}

#[test]
fn in_rough_conversations_what_arrives_is_a_prefix_and_the_rest_is_counted() {
    converse(Weather::Rough);
}
