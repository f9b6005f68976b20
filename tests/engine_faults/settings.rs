//! Settings at the end of their range, and those that cannot be.

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use corewire::{
    Config, ConfigError, Heartbeat, ListenOptions, ListenerSettings, LoopLimits, Net, Role, Route,
};

use crate::sim_bed::{Bed, echo, read_frames};
use crate::sim_errno::EMFILE;
use crate::sim_peer::{TEXT, close, message, plain_request};
use crate::sim_world::Call;

#[test]
fn budgets_and_buffers_of_nothing_count_as_one() {
    let zeros: [fn(&mut LoopLimits); 6] = [
        |limits| limits.accepts_per_turn = 0,
        |limits| limits.turn_bytes_max = 0,
        |limits| limits.turn_messages_max = 0,
        |limits| limits.tls_handshakes_per_turn = 0,
        |limits| limits.receive_buffer_bytes = 0,
        |limits| limits.ring_bytes = 0,
    ];
    for (at, zero) in zeros.into_iter().enumerate() {
        let mut bed = Bed::new(|settings| zero(&mut settings.reactor.limits), echo);
        let peer = bed.open();
        peer.write_all(&message(TEXT, b"Hello").repeat(3));
        bed.turns(60);
        let echoed = read_frames(&peer);
        assert!(echoed.iter().all(|frame| frame.payload == b"Hello"));
        assert_eq!(echoed.len(), 3, "the limit at {at}");
        let now = bed.reactor.net().now();
        assert!(bed.reactor.next_deadline().is_some_and(|deadline| deadline > now), "it rests");
    }
}

#[test]
fn times_without_end_are_as_good_as_a_year() {
    let mut bed = Bed::new(
        |settings| {
            settings.handshake.timeout = Duration::MAX;
            settings.handshake.keep_alive_timeout = Duration::MAX;
            settings.config.close_timeout = Duration::MAX;
            let (ping_every, dead_after) = (Duration::MAX, Duration::MAX);
            settings.config.heartbeat = Some(Heartbeat { ping_every, dead_after });
            let limits = &mut settings.reactor.limits;
            limits.answer_timeout = Duration::MAX;
            limits.parting_timeout = Duration::MAX;
            limits.accept_pause = Duration::MAX;
            limits.accept_pause_max = Duration::MAX;
        },
        echo,
    );
    let (peer, plain) = (bed.open(), bed.sim.connect(bed.address));
    peer.write_all(&message(TEXT, b"Hello"));
    plain.write_all(&plain_request("/"));
    bed.turns(2);
    assert_eq!(read_frames(&peer).len(), 1);
    assert!(plain.read_all().starts_with(b"HTTP/1.1 200 "));
    // It parts, with an answer that waits.
    plain.set_buffers(1 << 20, 10);
    plain.write_all(b"GET /large HTTP/1.0\r\n\r\n");
    bed.turns(2);
    plain.set_buffers(1 << 20, 1 << 20);
    plain.read_all();
    bed.turns(2);
    assert!(plain.read_all().len() > 90_000);
    bed.run_for(Duration::from_secs(3600));
    bed.sim.fail(Call::Accept, &[EMFILE, EMFILE]);
    let _waiting = bed.sim.connect(bed.address);
    bed.turns(2);
    bed.reactor.handle().shutdown(Duration::MAX).unwrap();
    bed.turns(2);
    assert!(!bed.reactor.is_finished());
    peer.write_all(&close(1001));
    plain.fin();
    bed.run_for(Duration::from_secs(366 * 24 * 3600));
    assert!(bed.reactor.is_finished());
}

#[test]
fn listener_whose_configuration_cannot_be_is_refused() {
    let zero = Some(Heartbeat { dead_after: Duration::ZERO, ..Heartbeat::default() });
    let mut marks = Config::new(Role::Server);
    (marks.limits.low_water_bytes, marks.limits.high_water_bytes) = (101, 100);
    let mut beat = Config::new(Role::Server);
    beat.heartbeat = zero;
    let cases = [
        (marks, ConfigError::WaterMarks { low_bytes: 101, high_bytes: 100 }),
        (beat, ConfigError::ZeroHeartbeat),
        (Config::new(Role::Client), ConfigError::ClientRole),
    ];
    for (config, expected) in cases {
        let mut bed = Bed::echo();
        let whole = ListenerSettings::new(config.clone());
        let mut routed = ListenerSettings::new(Config::new(Role::Server));
        let mut route = Route::new(&routed);
        route.config = config.into();
        routed.routes.add("/", route).unwrap();
        for settings in [whole, routed] {
            let any = SocketAddr::from(([10, 0, 0, 9], 0));
            let error = bed.reactor.listen(any, &ListenOptions::default(), settings).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let told = error.get_ref().and_then(|inner| inner.downcast_ref::<ConfigError>());
            assert_eq!(told, Some(&expected), "{error}");
            assert!(told.unwrap().source().is_none());
        }
    }
}
