//! The same for compressed messages: good, corrupt, over the limit, and no text.

use corewire::Compression;
use proptest::collection::vec;
use proptest::prelude::*;

use super::support::agreed::{self, dedicated, shared};
use super::support::deflated::{Bfinal, Bits, Compressor};
use super::*;

/// RSV1 as a number of three bits.
const RSV1: u8 = 0b100;

/// What messages are limited to.
const LIMIT_BYTES: usize = 1000;

/// A part of a message as its sender compresses it, bit by bit. Distances may be wrong.
#[derive(Clone, Debug)]
enum Block {
    Fixed { bfinal: Bfinal, symbols: Vec<Symbol> },
    Stored { bfinal: Bfinal, bytes: Vec<u8> },
}

#[derive(Clone, Debug)]
enum Symbol {
    Literals(Vec<u8>),
    Copy { length: u32, distance: u32 },
}

/// The compressed payload of a message.
#[derive(Clone, Debug)]
enum Payload {
    /// By another implementation, which knows the messages that came before.
    Compressed(Vec<u8>),
    Blocks(Vec<Block>),
    /// A message that lacks its end, or has another bit somewhere.
    Damaged(Vec<Block>, prop::sample::Index, Damage),
    Junk(Vec<u8>),
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut,
    BitTurned,
    ByteAppended(u8),
}

/// What arrives, one after the other.
#[derive(Clone, Debug)]
enum Item {
    Compressed {
        opcode: u8,
        payload: Payload,
        cuts: Vec<Cut>,
    },
    /// As the other tests have it.
    Other(Vec<Formed>),
}

/// Where a message is cut in fragments, and what stands between them.
type Cut = (prop::sample::Index, Option<Frame>);

fn bfinal() -> impl Strategy<Value = Bfinal> {
    prop_oneof![3 => Just(Bfinal::No), 1 => Just(Bfinal::Yes)]
}

fn symbol() -> impl Strategy<Value = Symbol> {
    prop_oneof![
        20 => text().prop_map(Symbol::Literals),
        8 => (3..=10_u32, 1..30_u32)
            .prop_map(|(length, distance)| Symbol::Copy { length, distance }),
        1 => (3..=10_u32, 1..=32_768_u32)
            .prop_map(|(length, distance)| Symbol::Copy { length, distance }),
    ]
}

fn block() -> impl Strategy<Value = Block> {
    prop_oneof![
        (bfinal(), vec(symbol(), 0..6))
            .prop_map(|(bfinal, symbols)| Block::Fixed { bfinal, symbols }),
        (bfinal(), text()).prop_map(|(bfinal, bytes)| Block::Stored { bfinal, bytes }),
    ]
}

fn deflated() -> impl Strategy<Value = Payload> {
    let damage = prop_oneof![
        Just(Damage::Cut),
        Just(Damage::BitTurned),
        any::<u8>().prop_map(Damage::ByteAppended),
    ];
    let damaged = (vec(block(), 1..4), any::<prop::sample::Index>(), damage);
    prop_oneof![
        6 => text().prop_map(Payload::Compressed),
        4 => payload().prop_map(Payload::Compressed),
        8 => vec(block(), 0..5).prop_map(Payload::Blocks),
        1 => damaged.prop_map(|(blocks, at, damage)| Payload::Damaged(blocks, at, damage)),
        1 => vec(any::<u8>(), 0..30).prop_map(Payload::Junk),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let cuts = vec((any::<prop::sample::Index>(), proptest::option::of(control())), 0..4);
    let opcode = prop_oneof![Just(naive::TEXT), Just(naive::BINARY)];
    prop_oneof![
        6 => (opcode, deflated(), cuts)
            .prop_map(|(opcode, payload, cuts)| Item::Compressed { opcode, payload, cuts }),
        2 => any_frames().prop_map(Item::Other),
    ]
}

fn stream(blocks: &[Block]) -> Bits {
    let mut stream = Bits::new();
    for block in blocks {
        stream = match block {
            Block::Stored { bfinal, bytes } => stream.stored(*bfinal, bytes),
            Block::Fixed { bfinal, symbols } => symbols
                .iter()
                .fold(stream.fixed(*bfinal), |stream, symbol| match symbol {
                    Symbol::Literals(bytes) => stream.literals(bytes),
                    Symbol::Copy { length, distance } => stream.copy(*length, *distance),
                })
                .end_of_block(),
        };
        // What stands behind a last block begins with a byte of its own (RFC 7692 §7.2.3.4).
        if let Block::Stored { bfinal: Bfinal::Yes, .. }
        | Block::Fixed { bfinal: Bfinal::Yes, .. } = block
        {
            stream = stream.aligned();
        }
    }
    stream
}

fn damaged(mut payload: Vec<u8>, at: prop::sample::Index, damage: Damage) -> Vec<u8> {
    match damage {
        Damage::Cut => payload.truncate(at.index(payload.len() + 1)),
        Damage::BitTurned => {
            let bit = at.index(payload.len() * 8);
            payload[bit / 8] ^= 1 << (bit % 8);
        }
        Damage::ByteAppended(byte) => payload.push(byte),
    }
    payload
}

/// The bytes of all that arrives.
fn script(setting: Setting, compression: &Compression, items: &[Item]) -> Vec<u8> {
    let mut compressor = Compressor::new();
    let mut wire = Vec::new();
    for item in items {
        let (opcode, payload, cuts) = match item {
            Item::Other(frames) => {
                wire.extend(frames.iter().flat_map(|frame| encode(setting.role, frame)));
                continue;
            }
            Item::Compressed { opcode, payload, cuts } => (*opcode, payload, cuts),
        };
        if *compression == shared() {
            compressor = Compressor::new();
        }
        let payload = match payload {
            Payload::Compressed(bytes) if bytes.is_empty() => vec![0],
            Payload::Compressed(bytes) => compressor.message(bytes),
            Payload::Blocks(blocks) => stream(blocks).message(),
            Payload::Damaged(blocks, at, damage) => damaged(stream(blocks).message(), *at, *damage),
            Payload::Junk(bytes) => bytes.clone(),
        };
        for frame in cut(opcode, &payload, cuts) {
            wire.extend(encode(setting.role, &(frame, None)));
        }
    }
    wire
}

/// A message in fragments, of which the first has RSV1 (RFC 7692 §6.1).
fn cut(opcode: u8, payload: &[u8], cuts: &[Cut]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = payload;
    let mut frame = Frame::new(opcode, []).rsv(RSV1);
    for (cut, between) in cuts {
        let (first, second) = rest.split_at(cut.index(rest.len() + 1));
        frame.payload = first.to_vec();
        frames.push(frame.open());
        frames.extend(between.clone());
        (rest, frame) = (second, Frame::new(CONTINUATION, []));
    }
    frame.payload = rest.to_vec();
    frames.push(frame);
    frames
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(shared()), Just(dedicated(15)), Just(dedicated(9))]
}

/// An end that sends nothing compressed, so that what it sends can be read.
fn endpoint(setting: Setting, compression: &Compression) -> Endpoint {
    agreed::endpoint(setting.role, compression.clone(), |config| {
        config.delivery = setting.delivery;
        config.limits.message_bytes_max = LIMIT_BYTES as u64;
        config.limits.control_bytes_max = 1 << 20;
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_compressed_messages_gives_the_same_events_and_answers(
        setting in setting(),
        compression in compression(),
        items in vec(item(), 0..8),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let wire = script(setting, &compression, &items);
        let run = |pieces: &[&[u8]], write| run_on(endpoint(setting, &compression), pieces, write);
        let whole = run(&[&wire], Write::AtTheEnd);
        let bytewise: Vec<_> = wire.chunks(1).collect();
        for write in [Write::AtTheEnd, Write::AfterEachPiece] {
            prop_assert_eq!(&run(&pieces(&wire, &cuts), write), &whole);
            prop_assert_eq!(&run(&bytewise, write), &whole);
        }
    }

    /// Whole or in pieces, the same messages and the same failure.
    #[test]
    fn compressed_messages_are_the_same_whole_and_in_pieces(
        role in prop_oneof![Just(Role::Server), Just(Role::Client)],
        compression in compression(),
        items in vec(item(), 0..8),
    ) {
        let setting = Setting { role, delivery: Delivery::Whole };
        let wire = script(setting, &compression, &items);
        let whole = run_on(endpoint(setting, &compression), &[&wire], Write::AtTheEnd);
        let setting = Setting { role, delivery: Delivery::Streaming };
        let streamed = run_on(endpoint(setting, &compression), &[&wire], Write::AtTheEnd);
        prop_assert_eq!(told(&streamed.seen), told(&whole.seen));
        prop_assert!(lent_bytes_max(&streamed.seen) <= LIMIT_BYTES);
    }
}

/// Ended messages as they are told whole, and everything else but pieces of one that did not end.
fn told(seen: &[Seen]) -> Vec<Seen> {
    // Only pieces that stand side by side are joined; a control frame may stand between them.
    let mut message = Vec::new();
    let mut told = Vec::new();
    for event in seen {
        let Seen::Chunk { opcode, payload, fin, .. } = event else {
            told.push(event.clone());
            continue;
        };
        message.extend(payload);
        if *fin {
            let message = std::mem::take(&mut message);
            told.push(match opcode {
                corewire::Opcode::Text => Seen::Text(String::from_utf8(message).expect("a text")),
                _ => Seen::Binary(message),
            });
        }
    }
    told
}

/// Where the pieces of the longest message end.
fn lent_bytes_max(seen: &[Seen]) -> usize {
    let ends = seen.iter().map(|event| match event {
        Seen::Chunk { payload, offset, .. } => *offset as usize + payload.len(),
        _ => 0,
    });
    ends.max().unwrap_or(0)
}

/// The generator is no good if it only ever fails: every outcome must be among what it gives.
#[test]
fn good_and_bad_messages_are_among_what_is_generated() {
    use corewire::{Failure, ProtocolError};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let setting = Setting { role: Role::Server, delivery: Delivery::Whole };
    let (mut messages, mut corrupt, mut texts, mut large, mut long_scripts) = (0, 0, 0, 0, 0);
    for _ in 0..600 {
        let items = vec(item(), 0..8).new_tree(&mut runner).expect("a value");
        let items = proptest::strategy::ValueTree::current(&items);
        let wire = script(setting, &dedicated(15), &items);
        let outcome = run_on(endpoint(setting, &dedicated(15)), &[&wire], Write::AtTheEnd);
        let whole =
            outcome.seen.iter().filter(|seen| matches!(seen, Seen::Text(_) | Seen::Binary(_)));
        let count = whole.count();
        messages += count;
        long_scripts += usize::from(count >= 4);
        match outcome.seen.last() {
            Some(Seen::Failed(Failure::Protocol(ProtocolError::CorruptCompression))) => {
                corrupt += 1
            }
            Some(Seen::Failed(Failure::Protocol(ProtocolError::InvalidUtf8))) => texts += 1,
            Some(Seen::Failed(Failure::Protocol(ProtocolError::MessageTooLarge { .. }))) => {
                large += 1;
            }
            _ => {}
        }
    }
    let counts = format!(
        "{messages} messages, {corrupt} corrupt, {texts} no texts, {large} too large, \
         {long_scripts} with four messages"
    );
    assert!(messages > 600 && corrupt > 60 && texts > 30 && large > 8, "{counts}");
    assert!(long_scripts > 40, "{counts}");
}
