//! What more than one target needs, and what one needs that is too long for it.

pub mod dial;
pub mod tls;

#[allow(dead_code)]
#[path = "../../tests/support/client_bed.rs"]
mod client_bed;
#[allow(dead_code)]
#[path = "../../tests/support/naive.rs"]
mod naive;
#[allow(dead_code)]
#[path = "../../tests/support/sim_bed.rs"]
mod sim_bed;
#[allow(dead_code)]
#[path = "../../tests/support/sim_errno.rs"]
mod sim_errno;
#[allow(dead_code)]
#[path = "../../tests/support/sim_host.rs"]
mod sim_host;
#[allow(dead_code)]
#[path = "../../tests/support/sim_link.rs"]
mod sim_link;
#[allow(dead_code)]
#[path = "../../tests/support/sim_net.rs"]
mod sim_net;
#[allow(dead_code)]
#[path = "../../tests/support/sim_peer.rs"]
mod sim_peer;
#[allow(dead_code)]
#[path = "../../tests/support/sim_poll.rs"]
mod sim_poll;
#[allow(dead_code)]
#[path = "../../tests/support/sim_server.rs"]
mod sim_server;
#[allow(dead_code)]
#[path = "../../tests/support/sim_world.rs"]
mod sim_world;
#[allow(dead_code)]
#[path = "../../tests/support/tls_peer.rs"]
mod tls_peer;
#[allow(dead_code)]
#[path = "../../tests/support/tls_records.rs"]
mod tls_records;
#[path = "../../tests/support/topics_bed.rs"]
pub mod topics_bed;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use corewire::fuzzing::pubsub::{
    SlowPolicy, SubscribeError, Subscribed, TopicChange, TopicEvent, TopicId, TopicSettings, Topics,
};
use corewire::opening::Agreement;
use corewire::{Config, Connection, Event, LoopLimits, Pools, PoolsInUse, TopicLimits};
use ppp::{HeaderResult, v1, v2};

/// What a connection makes of `input` in pieces of so many bytes: all events one behind the other,
/// the pieces of a message joined, and how many bytes it has queued. Whole messages are echoed.
///
/// # Panics
/// If a message is longer than the limit, or anything is kept when the connection is over.
pub fn events(
    input: &[u8],
    piece_bytes: usize,
    config: &Config,
    agreement: Option<&Agreement>,
) -> (String, usize) {
    let now = Instant::now();
    let mut pools = Pools::new(&LoopLimits::default(), now, [0; 32]);
    let mut connection = Connection::new(config.clone(), now, &pools);
    if let Some(agreement) = agreement {
        connection = connection.with_compression(agreement);
    }
    let mut seen = String::new();
    let mut lent_bytes = 0;
    for piece in input.to_vec().chunks_mut(piece_bytes) {
        let mut events = connection.handle_input(piece, now, &mut pools);
        while let Some((event, mut transmit)) = events.next() {
            let (payload, what) = match event {
                Event::Text(text) => (text.as_bytes(), format!("{:?}", transmit.send_text(text))),
                Event::Binary(payload) => (payload, format!("{:?}", transmit.send_binary(payload))),
                Event::Chunk(chunk) if chunk.fin => (chunk.payload, format!("{:?}", chunk.opcode)),
                Event::Chunk(chunk) => (chunk.payload, String::new()),
                other => (&[][..], format!("{other:?}")),
            };
            lent_bytes = match event {
                Event::Chunk(chunk) if chunk.offset > 0 => lent_bytes + payload.len() as u64,
                _ => payload.len() as u64,
            };
            assert!(
                lent_bytes <= config.limits.message_bytes_max,
                "{lent_bytes} bytes are too many"
            );
            for byte in payload {
                write!(seen, "{byte:02x}").expect("a string takes everything");
            }
            seen += &what;
        }
    }
    let queued_bytes = connection.queued_bytes();
    connection.finish(&mut pools);
    assert_eq!(pools.in_use(), PoolsInUse::default());
    (seen, queued_bytes)
}

/// Puts a masked frame behind `input`. `first` is its first byte: FIN, RSV bits and opcode.
pub fn push_frame(input: &mut Vec<u8>, first: u8, payload: &[u8]) {
    const MASKING_KEY: [u8; 4] = *b"mask";
    match payload.len() {
        short @ 0..=125 => input.extend([first, 0x80 | short as u8]),
        medium @ 126..=0xffff => {
            input.extend([first, 0x80 | 126]);
            input.extend((medium as u16).to_be_bytes());
        }
        long => {
            input.extend([first, 0x80 | 127]);
            input.extend((long as u64).to_be_bytes());
        }
    }
    input.extend(MASKING_KEY);
    input.extend(payload.iter().zip(MASKING_KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// The source and the destination that ppp reads from a PROXY header; `None` if it reads no addresses
/// of TCP.
pub fn proxied_addresses(header: &[u8]) -> Option<[SocketAddr; 2]> {
    let pair = |addresses: [IpAddr; 2], ports: [u16; 2]| {
        let address = |index: usize| SocketAddr::new(addresses[index].to_canonical(), ports[index]);
        Some([address(0), address(1)])
    };
    let v4 = |tcp: v2::IPv4| {
        let addresses = [tcp.source_address.into(), tcp.destination_address.into()];
        pair(addresses, [tcp.source_port, tcp.destination_port])
    };
    let v6 = |tcp: v2::IPv6| {
        let addresses = [tcp.source_address.into(), tcp.destination_address.into()];
        pair(addresses, [tcp.source_port, tcp.destination_port])
    };
    match HeaderResult::parse(header) {
        HeaderResult::V1(line) => match line.ok()?.addresses {
            v1::Addresses::Tcp4(tcp) => v4(tcp),
            v1::Addresses::Tcp6(tcp) => v6(tcp),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(binary) => match binary.ok()?.addresses {
            v2::Addresses::IPv4(tcp) => v4(tcp),
            v2::Addresses::IPv6(tcp) => v6(tcp),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        },
    }
}
