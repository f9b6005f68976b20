//! The defaults that `docs/behaviour.md` promises.

use std::time::Duration;

use corewire::{
    Config, ConnectionLimits, Delivery, HandshakeLimits, Heartbeat, LoopLimits, Origins,
    OverflowPolicy, Role, TopicLimits,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[test]
fn handshakes_have_their_documented_defaults() {
    let limits = HandshakeLimits::default();
    assert_eq!((limits.head_bytes_max, limits.fields_max), (16 << 10, 100));
    assert_eq!((limits.target_bytes_max, limits.keep_alive_requests_max), (8 << 10, 100));
    assert_eq!(limits.timeout, Duration::from_secs(10));
    assert_eq!(limits.keep_alive_timeout, Duration::from_secs(5));
    assert_eq!(Origins::default(), Origins::SameOrigin);
}

#[test]
fn connections_have_their_documented_defaults() {
    let config = Config::new(Role::Server);
    assert_eq!(config.limits, ConnectionLimits::default());
    assert_eq!(config.limits.message_bytes_max, MIB as u64);
    assert_eq!(config.limits.backpressure_bytes_max, MIB);
    assert_eq!(config.limits.high_water_bytes, 256 * KIB);
    assert_eq!(config.limits.low_water_bytes, 64 * KIB);
    assert_eq!(config.limits.control_bytes_max, 16 * KIB);
    assert_eq!(config.delivery, Delivery::Whole);
    assert_eq!(config.on_overflow, OverflowPolicy::Fail);
    assert_eq!(config.close_timeout, Duration::from_secs(5));
    let (ping_every, dead_after) = (Duration::from_secs(30), Duration::from_secs(90));
    assert_eq!(config.heartbeat, Some(Heartbeat { ping_every, dead_after }));
    #[cfg(feature = "deflate")]
    assert_eq!(config.compression.mode(), corewire::CompressionMode::Disabled);
}

#[test]
fn loops_have_their_documented_tls_defaults() {
    let limits = LoopLimits::default();
    assert_eq!((limits.tls_handshakes_per_turn, limits.tls_bytes_max), (16, 1024 * MIB));
}

#[test]
fn topics_have_their_documented_defaults() {
    let limits = TopicLimits::default();
    assert_eq!((limits.topics_max, limits.subscriptions_max), (1_000_000, 4 << 20));
    assert_eq!(limits.subscriptions_per_connection_max, 1024);
    assert_eq!((limits.name_bytes_max, limits.levels_max), (256, 8));
}

#[test]
fn loops_have_their_documented_defaults() {
    let limits = LoopLimits::default();
    assert_eq!(limits.connections_max, 1_000_000);
    assert_eq!(limits.connections_per_address_max, None);
    assert_eq!((limits.turn_bytes_max, limits.turn_messages_max), (256 * KIB, 1024));
    assert_eq!(limits.accepts_per_turn, 256);
    assert_eq!(limits.accept_pause, Duration::from_millis(100));
    assert_eq!(limits.accept_pause_max, Duration::from_secs(1));
    assert_eq!((limits.receive_buffer_bytes, limits.ring_bytes), (256 * KIB, 16 * KIB));
    assert_eq!((limits.rings_max, limits.rings_retained), (65_536, 1024));
    assert_eq!(limits.segments_max, 4 << 20);
    assert_eq!((limits.block_bytes_max, limits.block_bytes_retained), (1024 * MIB, 16 * MIB));
    assert_eq!((limits.inflate_bytes_max, limits.deflate_bytes_max), (1024 * MIB, 1024 * MIB));
    assert_eq!(limits.mailbox_commands_max, 65_536);
    assert_eq!(limits.answer_timeout, Duration::from_secs(5));
    assert_eq!(limits.parting_bytes_max, 256 * KIB);
    assert_eq!(limits.parting_timeout, Duration::from_secs(1));
}

#[cfg(feature = "net")]
#[test]
fn sockets_have_their_documented_defaults() {
    use corewire::{IpStack, ListenOptions, PanicPolicy, ReactorConfig, SocketOptions};

    let socket = SocketOptions::default();
    assert!(socket.nodelay);
    assert_eq!(socket.keepalive, None);
    assert_eq!((socket.receive_buffer_bytes, socket.send_buffer_bytes), (None, None));
    let listen = ListenOptions::default();
    assert_eq!((listen.backlog, listen.reuse_port, listen.unix_mode), (4096, false, None));
    assert_eq!(listen.ip_stack, IpStack::System);
    assert_eq!(ReactorConfig::new([0; 32]).panics, PanicPolicy::Propagate);
}

#[cfg(feature = "net")]
#[test]
fn memory_pressure_has_its_documented_defaults() {
    use corewire::{PressureReactions, PressureSettings, ReactorConfig};

    assert!(ReactorConfig::new([0; 32]).pressure.is_none());
    let pressure = PressureSettings::default();
    assert_eq!(pressure.budget_bytes, None);
    let thresholds = &pressure.thresholds;
    let percents =
        [thresholds.moderate_percent, thresholds.high_percent, thresholds.critical_percent];
    assert_eq!((percents, thresholds.margin_percent), ([60, 72, 80], 5));
    assert_eq!((thresholds.calm, thresholds.stall_percent), (Duration::from_secs(1), Some(20)));
    assert_eq!(pressure.sample_interval, Duration::from_millis(250));
    assert_eq!(pressure.idle_interval, Duration::from_secs(4));
    assert_eq!(pressure.idle_after, Duration::from_secs(10));
    assert_eq!((pressure.hold_timeout, pressure.closes_per_turn), (Duration::from_secs(5), 64));
    assert_ne!(pressure.reactions, PressureReactions::none());
    assert_eq!(pressure.reactions, PressureReactions::default());
}
