//! Nothing leaks, wherever a connection is dropped (row T17), and pools at their limit.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use corewire::{Adoption, CloseCause, Failure};

use crate::sim_bed::{Bed, Occasion, echo, read_frames};
use crate::sim_link::End;
use crate::sim_net::SimPeer;
use crate::sim_peer::{
    BINARY, CONTINUATION, Frame, PING, TEXT, close, masked, message, plain_request, upgrade_request,
};

/// Takes a fresh peer to one of the stages of a life.
fn take_to(stage: usize, bed: &mut Bed, peer: &SimPeer) {
    let script = match stage {
        0 => return,
        1 => Vec::new(),
        2 => b"GET / HTTP/1.1\r\nHo".to_vec(),
        3 => plain_request("/x"),
        4 => b"junk\r\n\r\n".to_vec(),
        5 => upgrade_request("/", ""),
        6 => [upgrade_request("/", ""), vec![0x81]].concat(),
        7 => [upgrade_request("/", ""), message(BINARY, &[1; 100])[..50].to_vec()].concat(),
        8 => [upgrade_request("/", ""), masked(BINARY, b"part")].concat(),
        9 => {
            let torn = message(PING, b"torn ping");
            [upgrade_request("/", ""), masked(BINARY, b"part"), torn[..9].to_vec()].concat()
        }
        10 => [upgrade_request("/", ""), message(TEXT, &[b'x'; 9000])].concat(),
        11 => [upgrade_request("/", ""), message(TEXT, b"x").repeat(3000)].concat(),
        12 => [upgrade_request("/", ""), close(1000)].concat(),
        13 => [upgrade_request("/", ""), masked(0xF0, b"bad")].concat(),
        14 => [upgrade_request("/", ""), message(TEXT, b"pause"), message(TEXT, b"y")].concat(),
        15 => [upgrade_request("/", ""), message(TEXT, b"close")].concat(),
        _ => [upgrade_request("/", ""), masked(BINARY, b"a"), masked(CONTINUATION, b"b")].concat(),
    };
    bed.turns(stage % 2);
    peer.write_all(&script);
    bed.turns(1 + stage % 3);
}

const STAGES: usize = 17;

#[test]
fn t17_connections_dropped_at_every_stage_leave_nothing_behind() {
    let mut bed = Bed::new(
        |settings| settings.receive_buffer_bytes = 4096,
        |ctx, occasion| {
            if let Occasion::Message(message) = occasion {
                let _ = ctx.send(message);
                match message.payload() {
                    b"pause" => ctx.here().pause(),
                    b"close" => ctx.close(corewire::CloseCode::NORMAL, "").unwrap(),
                    _ => {}
                }
            }
        },
    );
    for round in 0..30 {
        let mut peers = Vec::new();
        for stage in 0..STAGES {
            let peer = bed.sim.connect(bed.address);
            peer.set_buffers(1 << 20, 1000);
            take_to(stage, &mut bed, &peer);
            peers.push(peer);
        }
        for (stage, peer) in peers.iter().enumerate() {
            match (round + stage) % 3 {
                0 => peer.fin(),
                1 => peer.reset(),
                _ => {}
            }
            if round % 2 == 0 {
                bed.turn();
            }
        }
        // Paused ones are left alone until they are dropped: their peers reset.
        bed.run_for(Duration::from_secs(100));
        for peer in &peers {
            peer.read_all();
            peer.reset();
        }
        bed.reactor.handler().on_next_open(|ctx| {
            let ids: Vec<_> = ctx.connections().collect();
            for id in ids {
                ctx.peer(id).resume();
            }
        });
        bed.open().reset();
        bed.run_for(Duration::from_secs(10));
        bed.assert_empty();
    }
    let counters = bed.reactor.counters();
    assert_eq!(counters.accepted, 30 * (STAGES as u64 + 1));
    assert_eq!(counters.handshakes_completed, counters.closed);
}

#[test]
fn connection_that_finds_no_block_for_its_message_fails_with_1013() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.block_bytes_max = 8192, echo);
    let hoarder = bed.open();
    hoarder.write_all(&message(BINARY, &[1; 8000])[..7000]);
    bed.turn();
    let peer = bed.open();
    let id = bed.latest();
    peer.write_all(&message(BINARY, &[1; 8000])[..7000]);
    bed.turn();
    assert_eq!(read_frames(&peer)[0].close_code(), Some(1013));
    assert_eq!(bed.summary(id).cause, CloseCause::Failed(Failure::PoolExhausted));
    hoarder.write_all(&message(BINARY, &[1; 8000])[7000..]);
    bed.turn();
    assert_eq!(read_frames(&hoarder), [Frame::new(BINARY, &[1; 8000])]);
}

#[test]
fn connection_that_finds_no_ring_for_its_answer_fails_with_1013() {
    let mut bed = Bed::new(
        |settings| {
            settings.reactor.limits.rings_max = 2;
            settings.reactor.limits.ring_bytes = 1024;
        },
        echo,
    );
    let peer = bed.open();
    let id = bed.latest();
    peer.set_buffers(1 << 20, 10);
    peer.write_all(&message(TEXT, &[b'x'; 1500]));
    peer.write_all(&message(TEXT, &[b'y'; 1500]));
    bed.turn();
    let mut bytes = Vec::new();
    for _ in 0..400 {
        bytes.extend(peer.read_all());
        bed.turn();
    }
    let (frames, _) = crate::sim_peer::frames(&bytes);
    assert_eq!(frames[0], Frame::new(TEXT, &[b'x'; 1500]));
    assert_eq!(frames[1].close_code(), Some(1013));
    assert_eq!(bed.summary(id).cause, CloseCause::Failed(Failure::PoolExhausted));
    assert_eq!(peer.end_seen(), End::Fin);
}

#[test]
fn listener_with_a_full_table_pauses_and_goes_on_when_somebody_leaves() {
    let mut bed = Bed::new(|settings| settings.reactor.limits.connections_max = 1, echo);
    // 256 more than may open can be told so; the others wait in the kernel.
    let peers: Vec<_> = (0..300).map(|_| bed.sim.connect(bed.address)).collect();
    bed.run_for(Duration::from_secs(1));
    assert_eq!(bed.reactor.usage().sockets, 257);
    assert_eq!(bed.sim.sockets(), 257);
    for peer in &peers[..100] {
        peer.reset();
    }
    bed.run_for(Duration::from_secs(2));
    assert_eq!(bed.reactor.usage().sockets, 200);
}

#[test]
fn network_that_takes_no_streams_says_so() {
    let mut bed = Bed::echo();
    let (mut client, stream) = UnixStream::pair().unwrap();
    let error = bed.reactor.adopt(Adoption::new(stream, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    bed.turns(2);
    bed.assert_empty();
}
