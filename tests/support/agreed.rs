//! Ends that have agreed on compression, by the real negotiation.

use corewire::opening::{Agreement, FieldStorage, Inspected, inspect, parse_request};
use corewire::{Compression, CompressionMode, Config, LoopLimits, Role};

use super::endpoint::Endpoint;

/// Without context takeover.
pub fn shared() -> Compression {
    Compression::new(CompressionMode::Shared).expect("a mode without numbers")
}

/// With context takeover and a window of so many bits for our own messages.
pub fn dedicated(window_bits: u8) -> Compression {
    let mode = CompressionMode::Dedicated { window_bits, mem_level: 8 };
    Compression::new(mode).expect("bits from 9 to 15")
}

/// What a server with these settings makes of a client's offer, which stands in a request.
pub fn answer(server: &Compression, offer: &str) -> Option<Agreement> {
    let head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Extensions: {offer}\r\n\r\n"
    );
    let mut storage = FieldStorage::new();
    let head = parse_request(head.as_bytes(), &mut storage).expect("a request");
    let Ok(Inspected::Upgrade(upgrade)) = inspect(&head) else { panic!("no upgrade: {offer}") };
    server.answer(upgrade.extensions())
}

/// What a client and a server agree on, as either of them sees it; `None` if they do not.
pub fn agree(client: &Compression, server: &Compression) -> Option<[Agreement; 2]> {
    let offer = client.offer()?;
    let theirs = answer(server, &offer.to_string())?;
    let params: Vec<_> =
        theirs.params().map(|(name, value)| (name, value.map(|value| value.to_string()))).collect();
    let answer = params.iter().map(|(name, value)| (*name, value.as_deref()));
    let ours = offer.conclude(answer).ok()?;
    assert_eq!((ours.client, ours.server), (theirs.client, theirs.server), "both see the same");
    Some([ours, theirs])
}

/// What a peer that compresses in the same way agrees on with us.
pub fn alike(compression: &Compression) -> Agreement {
    let [ours, _] = agree(compression, compression).expect("peers alike agree");
    ours
}

/// An end that has agreed with a peer like itself.
pub fn endpoint(
    role: Role,
    compression: Compression,
    change: impl FnOnce(&mut Config),
) -> Endpoint {
    limited(role, compression, &LoopLimits::default(), change)
}

/// The same with pools of other limits.
pub fn limited(
    role: Role,
    compression: Compression,
    limits: &LoopLimits,
    change: impl FnOnce(&mut Config),
) -> Endpoint {
    let mut config = Config::new(role);
    let agreement = alike(&compression);
    config.compression = compression;
    change(&mut config);
    agreed(Endpoint::with_pools(config, limits, 0), &agreement)
}

/// The same end after it has agreed.
pub fn agreed(endpoint: Endpoint, agreement: &Agreement) -> Endpoint {
    let Endpoint { connection, pools, now, role } = endpoint;
    Endpoint { connection: connection.with_compression(agreement), pools, now, role }
}
