//! Every bound in one place: its value, its unit, its reason and what happens there.
//!
//! Nothing that a peer controls is unbounded. The constants are the defaults; the structs carry
//! what is in force. A limit that was guessed says so; the others name their source.

use std::time::Duration;

/// One kibibyte, so that the numbers below read like the prose about them.
const KIB: usize = 1024;
/// One mebibyte.
const MIB: usize = 1024 * KIB;

/// Payloads given as slices below this many bytes are copied behind what is corked; larger ones
/// are offered to the kernel from the caller's memory. Copying 16 KiB costs less than the second
/// `iovec` saves (measured on loopback: below it a copy and one `write` win).
pub const COPY_BYTES_MAX: usize = 16 * KIB;

/// A payload given as [`bytes::Bytes`] below this many bytes is copied instead of queued by
/// reference: a queue node and two atomic counts cost as much as copying so little.
pub const SHARE_BYTES_MIN: usize = 4 * KIB;

/// Fragments that a message may have whatever its size. Streaming encoders send a few dozen.
pub const FRAGMENTS_MIN: u32 = 1024;

/// Above [`FRAGMENTS_MIN`], one more fragment is allowed for so many payload bytes received:
/// messages in 64-byte fragments pass, floods of empty or one-byte fragments do not. At the bound
/// the connection fails with 1008.
pub const FRAGMENT_BYTES_MEAN_MIN: u64 = 16;

/// The least that must be missing of a frame before the loop reads it straight into its final
/// place instead of the shared receive buffer. Guess: below it the copy is cheaper than `readv`.
pub const RECEIVE_INTO_BYTES_MIN: usize = 16 * KIB;

/// The least that a read has room for, however few messages may still be handled in the turn.
/// Guess: below it the call costs more than what it brings.
pub const READ_BYTES_MIN: usize = 16 * KIB;

/// Bytes that a turn may read straight into their final place past its budget of bytes, to finish a
/// message that was begun: one of 1 MiB that is read in four turns, between those of 50 other
/// connections, has left the processor's cache before it is whole, and costs 1.3 to 1.5 times as
/// much (measured on loopback).
pub const FINISHING_BYTES_MAX: usize = MIB;

/// What a compressed byte counts against a turn's budget of bytes, besides itself and what it
/// inflates to: the worst that it can ask for is tables that give nothing. Guess: incompressible
/// messages get a sixth of the budget.
pub const INFLATE_INPUT_COST: usize = 4;

/// What beginning to inflate counts against a turn's budget of bytes, for a message as for what
/// stands behind a final block. Guess: resetting a decompressor and copying a window of 32 KiB
/// takes as long as inflating so much.
pub const INFLATE_BEGIN_COST: usize = 2 * KIB;

/// Free decompressors kept for the next message, about 48 KiB each, or 80 after messages that were
/// lent in pieces. More than one is needed only where messages arrive in pieces.
pub const INFLATERS_RETAINED: usize = 16;

/// From so many bits on, a connection whose messages refer to earlier ones owns a compressor. With
/// fewer it owns the window alone, and the loop's compressor begins each message with it: who asks
/// for a small window wants little memory, and a compressor owns 128 KiB whatever its window.
/// `docs/performance.md` has what either takes.
pub const DEFLATER_WINDOW_BITS_MIN: u8 = 13;

/// Free compressors kept for the next message or connection.
pub const DEFLATERS_RETAINED: usize = 16;

/// The most of a place for compressed messages that is kept for the next. Guess: larger messages
/// are so rare and take so long that an allocation is nothing to them.
pub const DEFLATED_BYTES_RETAINED: usize = MIB;

/// Routes of one listener. Guess: more than an application has, and few enough to be tried one
/// after another. At the bound the one that is added is refused.
pub const ROUTES_MAX: usize = 1024;

/// Segments of a route's pattern. Guess. At the bound it is refused.
pub const ROUTE_SEGMENTS_MAX: usize = 32;

/// The longest that a request may wait for its decision; a longer time is cut to this one. Guess:
/// who has not decided in an hour does not.
pub const DEFERRAL_MAX: Duration = Duration::from_secs(3600);

/// Bytes of TLS records that wait for the rest of a record or of a handshake message, which may
/// have 64 KiB. At the bound the connection fails, as one that breaks the rules.
pub const TLS_INCOMING_BYTES_MAX: usize = 96 * KIB;

/// What a TLS session takes while nothing is under way (measured with rustls 0.23.46 and ring:
/// 3,273 bytes in TLS 1.3, 3,361 in TLS 1.2; a client's 3,368 and 3,120), with its place among the
/// connections. What certificates the peer has shown comes on top.
pub const TLS_SESSION_BYTES: usize = 3584;

/// The same in the middle of its handshake: 3,500 bytes, 5,290 where the client is asked for a
/// certificate; a client's 3,303 in TLS 1.3, 3,648 in TLS 1.2.
pub const TLS_HANDSHAKE_BYTES: usize = 5632;

/// Bytes of a header of the PROXY protocol. 536 would do for addresses; names and certificates of
/// clients can follow them, and nginx has the same bound. At the bound the header is an error.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * KIB;

/// Bytes that are kept of the body of an answer that refuses an upgrade: enough for a reason in plain
/// words. The rest is not read.
pub const REFUSAL_BODY_BYTES_MAX: usize = 4 * KIB;

/// The shortest delay before a connection is dialled again, whatever is set. Guess: a hundred dials
/// a second are no busy loop, and nobody waits for so little.
pub const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(10);

/// The longest delay before a connection is dialled again, whatever is set; what a server asks for
/// comes on top, and has the same bound. Guess: who is not back in a day is dialled by hand.
pub const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(86_400);
/// Endpoints that one balancer chooses among. Each choice looks at all of them. Guess: who has more
/// has a proxy. At the bound the one that is added is refused.
pub const ENDPOINTS_MAX: u32 = 1024;

/// Addresses of one name that are tried. Guess: who publishes more does not mean them all. Those
/// behind it are left out.
pub const ADDRESSES_MAX: usize = 32;

/// Connections of one loop that wait for the addresses of their names. Guess: more than can be
/// dialled while a name is asked for. At the bound a further one fails.
pub const RESOLVE_WAITERS_MAX: usize = 65_536;

/// Threads whose resolver does not return, though nobody waits for the name any more, that do not
/// count as those that may ask. Guess: more names than a broken part of a network hides. Beyond the
/// bound they count.
pub const RESOLVE_HUNG_MAX: usize = 64;

/// The longest that a balancer waits for anything: a back-off, a trial, the next check. A longer
/// time is cut to this one, so that no sum with the clock overflows.
pub const BALANCE_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most connections that a pool can be told to have: as many as a client address has ports for
/// one server. A larger number is refused when the pool is described.
pub const POOL_CONNECTIONS_MAX: u32 = 65_536;

/// The most that can be told to wait for a connection of a pool, about 130 bytes each. Guess. A
/// larger number is refused when the pool is described.
pub const POOL_WAITERS_MAX: u32 = 1 << 20;

/// The most users whose connection a pool can be told to remember, about 80 bytes each. Guess. A
/// larger number is refused when the pool is described.
pub const POOL_USERS_MAX: u32 = 1 << 24;
/// The longest that a server's `Retry-After` keeps a client from asking again; a longer time is cut
/// to this one. Guess: who sends a client away for longer than a day has mistaken the unit.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// What a message that waits to be sent in a batch, or for its turn under a rate, counts besides its
/// payload: its place in the queue. So messages without payload have a bound too.
pub const WAITING_MESSAGE_BYTES: usize = 16;

/// Arrays and objects that a JSON message of an envelope may be nested in, itself counted. Common
/// parsers bound it likewise (serde_json 128). At the bound the message, or the envelope that
/// arrived, is refused.
pub const JSON_DEPTH_MAX: u32 = 128;

/// Bounds of one connection after its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Payload bytes of one message, whole or in fragments. Default 1 MiB: larger messages are
    /// rare and each pins its size in memory. At the bound: fail with 1009, at the header; where a
    /// message is compressed, at the byte that it inflates to and that is too much.
    pub message_bytes_max: u64,
    /// Unsent bytes at which further messages are refused. A message is refused only when the
    /// queue already holds so much, so the overshoot is at most one message. Default 1 MiB.
    pub backpressure_bytes_max: usize,
    /// Unsent bytes above which we stop reading from the peer; TCP then holds it back, so an echo
    /// loses nothing. Default 256 KiB, one receive buffer.
    pub high_water_bytes: usize,
    /// Unsent bytes at which reading goes on and `on_drain` is called. Default 64 KiB.
    pub low_water_bytes: usize,
    /// Unsent bytes of control frames; above it, pongs that wait collapse into the latest one
    /// (RFC 6455 §5.5.3 allows it). Default 16 KiB, more than 100 full pongs.
    pub control_bytes_max: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: MIB as u64,
            backpressure_bytes_max: MIB,
            high_water_bytes: 256 * KIB,
            low_water_bytes: 64 * KIB,
            control_bytes_max: 16 * KIB,
        }
    }
}

/// Bounds of the opening handshake and of plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeLimits {
    /// Bytes of a request or response head. Default 16 KiB, twice what browsers send with large
    /// cookies. At the bound: 431.
    pub head_bytes_max: u32,
    /// Header fields of a head. Default 100. At the bound: 431.
    pub fields_max: u16,
    /// Bytes of the request target. Default 8 KiB (RFC 9112 §3 recommends at least 8,000). At the
    /// bound: 414.
    pub target_bytes_max: u32,
    /// Time from accepting to the end of the request's head, absolute: dripping does not extend
    /// it. Default 10 s. At the bound: 408.
    pub timeout: Duration,
    /// Time that a plain HTTP connection may wait for its next request. Default 5 s.
    pub keep_alive_timeout: Duration,
    /// Requests on one plain HTTP connection. Default 100.
    pub keep_alive_requests_max: u16,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * KIB as u32,
            fields_max: 100,
            target_bytes_max: 8 * KIB as u32,
            timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            keep_alive_requests_max: 100,
        }
    }
}

/// Bounds of one loop. A budget of nothing for a turn would have the loop wait for ever, so there 0
/// counts as 1; as it does for the sizes of buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopLimits {
    /// WebSockets in all: accepted, dialled, and those that are being dialled. Default 1,000,000;
    /// descriptors usually end sooner. Who is in the opening handshake, asks by plain HTTP or takes
    /// his leave does not count; with them there are 256 more at most. At the bound: 503, or
    /// `DialError::NoRoom` for who dials.
    pub connections_max: u32,
    /// Connections from one address, `None` for no bound. Default `None`: proxies and carrier NAT
    /// share addresses. At the bound: 503.
    pub connections_per_address_max: Option<u32>,
    /// Connections accepted in one turn, so that a storm of them does not starve the established.
    pub accepts_per_turn: u32,
    /// Connections begun to be made in one turn, so that a thousand of them do not hold the others
    /// up. Default 64: about 1 ms, guess. The rest waits one turn.
    pub dials_per_turn: u32,
    /// Bytes handled for one connection in one turn. What comes behind waits one turn, but for the
    /// rest of a message that was begun, of at most [`FINISHING_BYTES_MAX`]. Default 256 KiB.
    pub turn_bytes_max: usize,
    /// Messages handled for one connection in one turn. Default 1,024. The rest waits one turn.
    pub turn_messages_max: u32,
    /// The size of the loop's one receive buffer. Default 256 KiB.
    pub receive_buffer_bytes: usize,
    /// The size of one send ring. Default 16 KiB, one corked batch.
    pub ring_bytes: usize,
    /// Send rings in all. Default 65,536 (1 GiB). At the bound: fail with 1013.
    pub rings_max: usize,
    /// Free send rings kept for the next batch. Default 1,024 (16 MiB).
    pub rings_retained: usize,
    /// Entries of all send queues together: rings, and messages queued by reference. Default 4
    /// million. At the bound: fail with 1013.
    pub segments_max: usize,
    /// Bytes of blocks for messages that arrive in pieces, in use and kept. Default 1 GiB. At the
    /// bound: fail with 1013.
    pub block_bytes_max: usize,
    /// Bytes of free blocks kept for the next message. Default 16 MiB.
    pub block_bytes_retained: usize,
    /// Bytes of decompressors, each about 48 KiB for a compressed message under way, and of what
    /// peers' messages may refer to, in use and kept. Default 1 GiB. At the bound: fail with 1013.
    pub inflate_bytes_max: usize,
    /// Bytes of compressors, and of what messages to peers may refer to, in use and kept. Default
    /// 1 GiB. At the bound: messages are sent uncompressed.
    pub deflate_bytes_max: usize,
    /// Steps of TLS handshakes worked through in one turn; a handshake has two or three, of which
    /// one takes the time of many messages. The rest waits, those that have begun in front. Default
    /// 16: about 3 ms, guess.
    pub tls_handshakes_per_turn: u32,
    /// Bytes of TLS sessions and of records that wait for each other or for the kernel. Default
    /// 1 GiB, 300,000 idle sessions. At the bound: new connections are closed, those that hold torn
    /// records fail with 1013, and what is sent is encrypted by 1 KiB.
    pub tls_bytes_max: usize,
    /// Commands from other threads that may wait. Default 65,536. At the bound the sender gets
    /// its command back.
    pub mailbox_commands_max: usize,
    /// Topics and who subscribes to them.
    pub topics: TopicLimits,
    /// How long accepting rests when descriptors or memory run out. Default 100 ms, doubling to
    /// [`LoopLimits::accept_pause_max`] while the shortage lasts.
    pub accept_pause: Duration,
    /// The longest rest. Default 1 s.
    pub accept_pause_max: Duration,
    /// Time in which the kernel has to take some of the last answer before we part, again after
    /// each that it took. Default 5 s, as a closing handshake has. At the bound: closed.
    pub answer_timeout: Duration,
    /// Input read and thrown away while parting, so that the peer sees our last words and not a
    /// reset. Default 256 KiB.
    pub parting_bytes_max: usize,
    /// Time for the same, once everything is sent. Default 1 s.
    pub parting_timeout: Duration,
}

impl LoopLimits {
    /// The same, without zeros that nothing can be done with.
    #[cfg(feature = "net")]
    pub(crate) fn workable(mut self) -> Self {
        let counts = [
            &mut self.accepts_per_turn,
            &mut self.dials_per_turn,
            &mut self.turn_messages_max,
            &mut self.tls_handshakes_per_turn,
        ];
        counts.into_iter().for_each(|count| *count = (*count).max(1));
        let bytes =
            [&mut self.turn_bytes_max, &mut self.receive_buffer_bytes, &mut self.ring_bytes];
        bytes.into_iter().for_each(|bytes| *bytes = (*bytes).max(1));
        self
    }
}

impl Default for LoopLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            connections_per_address_max: None,
            accepts_per_turn: 256,
            dials_per_turn: 64,
            turn_bytes_max: 256 * KIB,
            turn_messages_max: 1024,
            receive_buffer_bytes: 256 * KIB,
            ring_bytes: 16 * KIB,
            rings_max: 65_536,
            rings_retained: 1024,
            segments_max: 4 << 20,
            block_bytes_max: 1024 * MIB,
            block_bytes_retained: 16 * MIB,
            inflate_bytes_max: 1024 * MIB,
            deflate_bytes_max: 1024 * MIB,
            tls_handshakes_per_turn: 16,
            tls_bytes_max: 1024 * MIB,
            mailbox_commands_max: 65_536,
            topics: TopicLimits::default(),
            accept_pause: Duration::from_millis(100),
            accept_pause_max: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(5),
            parting_bytes_max: 256 * KIB,
            parting_timeout: Duration::from_secs(1),
        }
    }
}

/// Bounds of the topics of one loop.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicLimits {
    /// Topics that somebody is subscribed to or that have settings; a filter is one. Default
    /// 1,000,000, so that each of as many connections may have one of its own. At the bound a
    /// subscription to a further one is refused.
    pub topics_max: u32,
    /// Subscriptions of all connections. Default 4 million, of at most 40 bytes each. At the bound
    /// a further one is refused.
    pub subscriptions_max: u32,
    /// Subscriptions of one connection. Default 1,024. Guess: more than a page shows. At the bound a
    /// further one is refused.
    pub subscriptions_per_connection_max: u32,
    /// Bytes of a name or filter. Default 256, as AWS IoT Core has; MQTT's own bound is 65,535. At
    /// the bound it is refused.
    pub name_bytes_max: u16,
    /// Levels of a name or filter. Default 8, as AWS IoT Core has. Each further level doubles what
    /// peers can make a message to a new name cost with filters that have `+` in all combinations:
    /// with eight levels 10 µs (measured on an AMD EPYC). At the bound it is refused.
    pub levels_max: u8,
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self {
            topics_max: 1_000_000,
            subscriptions_max: 4 << 20,
            subscriptions_per_connection_max: 1024,
            name_bytes_max: 256,
            levels_max: 8,
        }
    }
}
