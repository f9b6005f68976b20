//! Twenty thousand connections, dropped at every stage in every way (row T17).

use std::time::Duration;

use corewire::CloseCode;

use crate::sim_bed::{Bed, Occasion};
use crate::sim_net::SimPeer;
use crate::sim_peer::{BINARY, PING, TEXT, close, masked, message, plain_request, upgrade_request};

/// Where in its life a connection is when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Still in the backlog of the listener.
    Waiting,
    Silent,
    HalfHead,
    JunkHead,
    /// The request and the end come in one event.
    GoneBeforeTheAnswer,
    KeptAlive,
    UnsentAnswer,
    UnsentLastAnswer,
    Idle,
    MidHeader,
    MidPayload,
    BetweenFragments,
    UnsentOutput,
    /// Reading rests above the high-water mark, and something that was read waits.
    Choked,
    Paused,
    /// Our Close is not answered.
    Closing,
    Parting,
}

impl Stage {
    const ALL: [Self; 17] = [
        Self::Waiting,
        Self::Silent,
        Self::HalfHead,
        Self::JunkHead,
        Self::GoneBeforeTheAnswer,
        Self::KeptAlive,
        Self::UnsentAnswer,
        Self::UnsentLastAnswer,
        Self::Idle,
        Self::MidHeader,
        Self::MidPayload,
        Self::BetweenFragments,
        Self::UnsentOutput,
        Self::Choked,
        Self::Paused,
        Self::Closing,
        Self::Parting,
    ];

    /// What the peer says to get there.
    fn script(self) -> Vec<u8> {
        let open = upgrade_request("/", "");
        let rest = match self {
            Self::Waiting | Self::Silent => return Vec::new(),
            Self::HalfHead => return b"GET / HTTP/1.1\r\nHo".to_vec(),
            Self::JunkHead => return b"junk\r\n\r\n".to_vec(),
            Self::KeptAlive => return plain_request("/x"),
            Self::UnsentAnswer => return plain_request("/large"),
            Self::UnsentLastAnswer => {
                return b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec();
            }
            Self::GoneBeforeTheAnswer | Self::Idle => Vec::new(),
            Self::MidHeader => vec![0x81],
            Self::MidPayload => message(BINARY, &[1; 5000])[..3000].to_vec(),
            Self::BetweenFragments => {
                [masked(BINARY, b"part"), message(PING, b"torn")[..5].to_vec()].concat()
            }
            Self::UnsentOutput => message(TEXT, &[b'x'; 3000]),
            Self::Choked => [message(TEXT, &[b'x'; 9000]), message(TEXT, b"y")].concat(),
            Self::Paused => [message(TEXT, b"pause"), message(TEXT, b"y")].concat(),
            Self::Closing => message(TEXT, b"close"),
            Self::Parting => masked(0xF0, b"bad"),
        };
        [open, rest].concat()
    }

    fn is_before_the_answer(self) -> bool {
        matches!(self, Self::Waiting | Self::GoneBeforeTheAnswer)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Fin,
    Reset,
    /// A Close, and then nothing more.
    Close,
}

const PEERS_PER_STAGE: usize = 40;
const BATCHES: usize = 30;
const DROPPED: usize = Stage::ALL.len() * PEERS_PER_STAGE * BATCHES;
const _: () = assert!(DROPPED >= 20_000);

#[test]
fn t17_twenty_thousand_connections_dropped_at_every_stage_in_every_way_leave_nothing() {
    let mut bed = Bed::new(
        |settings| {
            settings.config.limits.high_water_bytes = 4096;
            settings.config.limits.low_water_bytes = 1024;
        },
        |ctx, occasion| {
            if let Occasion::Message(message) = occasion {
                let _ = ctx.send(message);
                match message.payload() {
                    b"pause" => ctx.here().pause(),
                    b"close" => ctx.close(CloseCode::NORMAL, "").unwrap(),
                    _ => {}
                }
            }
        },
    );
    let mut pinned_bytes = Vec::new();
    for batch in 0..BATCHES {
        let ending = [Ending::Fin, Ending::Reset, Ending::Close][batch % 3];
        drop_a_batch(&mut bed, ending);
        bed.assert_empty();
        assert_eq!(bed.sim.waiting(), 0);
        pinned_bytes.push(bed.reactor.usage().pinned_bytes);
        bed.log.borrow_mut().clear();
    }
    // What is kept for the next is what the first batches have needed.
    assert!(pinned_bytes[3..].iter().all(|bytes| *bytes <= pinned_bytes[2]), "{pinned_bytes:?}");
    assert!(pinned_bytes[2] < 16 << 20, "{pinned_bytes:?}");
    let counters = bed.reactor.counters();
    assert_eq!(counters.accepted as usize, DROPPED + BATCHES);
    assert_eq!(counters.handshakes_completed, counters.closed);
}

fn drop_a_batch(bed: &mut Bed, ending: Ending) {
    let connect = |bed: &Bed, stage: Stage| {
        let peer = bed.sim.connect(bed.address);
        peer.set_buffers(1 << 20, 1000);
        (stage, peer)
    };
    let stages = || Stage::ALL.into_iter().cycle().take(Stage::ALL.len() * PEERS_PER_STAGE);
    let (late, early): (Vec<Stage>, Vec<Stage>) = stages().partition(|s| s.is_before_the_answer());
    let mut peers: Vec<_> = early.into_iter().map(|stage| connect(bed, stage)).collect();
    bed.turns(4);
    for (stage, peer) in &peers {
        peer.write_all(&stage.script());
    }
    bed.turns(3);
    assert_stages_are_held(bed);
    peers.extend(late.into_iter().map(|stage| {
        let (stage, peer) = connect(bed, stage);
        peer.write_all(&stage.script());
        (stage, peer)
    }));
    for (_, peer) in &peers {
        end(peer, ending);
    }
    let left = |bed: &Bed| (bed.reactor.usage().sockets, bed.reactor.usage().open);
    match ending {
        Ending::Reset => bed.turns(5),
        Ending::Fin => {
            // Whose output waits may still read, and is given the time of a closing handshake. Of
            // those from whom nothing is read the end is not known.
            bed.run_for(Duration::from_secs(6));
            assert_eq!(left(bed), (2 * PEERS_PER_STAGE, 2 * PEERS_PER_STAGE), "choked and paused");
            bed.run_for(Duration::from_secs(90));
        }
        Ending::Close => bed.run_for(Duration::from_secs(100)),
    }
    assert_eq!(left(bed), (PEERS_PER_STAGE, PEERS_PER_STAGE), "paused, {ending:?}");
    bed.reactor.handler().on_next_open(|ctx| {
        let ids: Vec<_> = ctx.connections().collect();
        ids.into_iter().for_each(|id| ctx.peer(id).resume());
    });
    bed.open().reset();
    bed.run_for(Duration::from_secs(10));
}

/// Each of the pools has something out.
fn assert_stages_are_held(bed: &Bed) {
    let usage = bed.reactor.usage();
    let accepted = (Stage::ALL.len() - 2) * PEERS_PER_STAGE;
    assert_eq!((usage.sockets, usage.timers), (accepted, accepted));
    assert_eq!(usage.open, 8 * PEERS_PER_STAGE);
    assert_eq!(usage.assemblies, 2 * PEERS_PER_STAGE, "mid payload and between fragments");
    assert_eq!(usage.backlogs, 3 * PEERS_PER_STAGE, "half a head, choked and paused");
    assert_eq!(usage.blocks, 5 * PEERS_PER_STAGE, "the five above");
    // One for each message that is unsent, and seven for each page of 100,000 bytes.
    let rings = (2 + 2 * 7) * PEERS_PER_STAGE;
    assert_eq!((usage.rings, usage.segments), (rings, rings));
}

fn end(peer: &SimPeer, ending: Ending) {
    match ending {
        Ending::Fin => peer.fin(),
        Ending::Reset => peer.reset(),
        Ending::Close => peer.write_all(&close(1000)),
    }
}
