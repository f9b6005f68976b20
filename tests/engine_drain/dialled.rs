//! A loop that is a server in front and a client behind.

use std::sync::Arc;

use corewire::opening::{ClientRequest, WebSocketUri};
use corewire::{ClientState, Config, DialSettings, Drain, ListenOptions, ListenerSettings, Role};

use crate::layer_bed::{LayerBed, Told, address, usual};
use crate::naive::{CLOSE, Frame, TEXT};
use crate::sim_peer::upgrade_request;
use crate::watch::{millis, seconds};

fn exact() -> Drain {
    Drain { jitter: 0.0, ..Drain::default() }
}

#[test]
fn clients_of_a_draining_loop_stay_until_the_last_accepted_one_is_told() {
    let mut bed = LayerBed::new(|_| {});
    let mut config = Config::new(Role::Server);
    config.heartbeat = None;
    let settings = ListenerSettings::new(config);
    let address = bed.reactor.listen(([10, 0, 0, 9], 1), &ListenOptions::default(), settings);
    let address = address.unwrap().socket_addr().unwrap();
    let (client, mut server) = bed.open(&usual());
    let peers: Vec<_> = (0..2).map(|_| bed.sim.connect(address)).collect();
    for peer in &peers {
        peer.write_all(&upgrade_request("/", ""));
        bed.turns(3);
        assert!(peer.read_all().starts_with(b"HTTP/1.1 101 "));
    }
    bed.reactor.handle().drain(&exact()).unwrap();
    bed.run_for(seconds(3));
    assert_eq!(bed.state(client), Some(ClientState::Connected));
    assert!(bed.send(client, "for the first").is_some());
    // Another one is dialled as ever.
    let (second, mut other) = bed.open(&usual());
    bed.run_for(seconds(4));
    assert_eq!(bed.state(second), Some(ClientState::Connected));
    let shut = |bed: &mut LayerBed| {
        let told = &bed.reactor.handler().handler().told;
        told.iter().filter(|(_, told)| *told == Told::Shutdown).count()
    };
    assert_eq!(shut(&mut bed), 0);
    // The second of two is told in the middle of the second half.
    bed.run_for(millis(501));
    assert_eq!(shut(&mut bed), 1);
    for (server, text) in [(&mut server, Some("for the first")), (&mut other, None)] {
        let frames = server.frames();
        let texts: Vec<_> = frames.iter().filter(|frame| frame.opcode == TEXT).collect();
        assert!(texts.iter().map(|frame| &frame.payload[..]).eq(text.map(str::as_bytes)));
        let close = frames.last().expect("a Close");
        assert_eq!((close.opcode, &close.payload[..2]), (CLOSE, &1000_u16.to_be_bytes()[..]));
    }
    assert!(!bed.reactor.is_finished());
    // They are cut off with the accepted ones if they do not answer.
    bed.run_for(seconds(6));
    assert!(bed.reactor.is_finished());
    let told = &bed.reactor.handler().handler().told;
    let dialled = told.iter().filter(|(_, told)| matches!(told, Told::Change(..)));
    assert!(dialled.count() >= 4, "{told:?}");
    let counters = bed.reactor.counters();
    let reported = counters.drain_closed + counters.drain_left + counters.drain_failed;
    assert_eq!((reported, counters.drain_cut_off), (0, 2), "accepted ones alone");
}

#[test]
fn loop_of_clients_alone_ends_at_once_however_long_the_window() {
    let mut bed = LayerBed::new(|_| {});
    let (client, mut server) = bed.open(&usual());
    let began = bed.sim.elapsed();
    bed.reactor.handle().drain(&exact()).unwrap();
    bed.turn();
    assert_eq!(bed.state(client), Some(ClientState::Disconnected));
    let close = server.frames().pop().expect("a Close");
    assert_eq!(&close.payload[..2], &1000_u16.to_be_bytes()[..]);
    server.send(&Frame::close(1000, ""));
    server.peer.fin();
    bed.turns(3);
    assert!(bed.reactor.is_finished());
    assert_eq!(bed.sim.elapsed(), began);
}

#[test]
fn connection_that_the_application_has_dialled_says_1001_whatever_the_drain_says() {
    let mut bed = LayerBed::new(|_| {});
    let uri = WebSocketUri::parse("ws://192.0.2.1/own").unwrap();
    let config = Config::new(Role::Client);
    let settings = Arc::new(DialSettings::new(ClientRequest::new(uri), config));
    let dialled = bed.ask(move |at, _| at.dial([address().into()], &settings, 0).is_ok());
    assert!(dialled);
    let mut server = bed.accept();
    bed.reactor.handle().drain(&exact()).unwrap();
    bed.turns(2);
    let close = server.frames().pop().expect("a Close");
    assert_eq!((close.opcode, &close.payload[..]), (CLOSE, &1001_u16.to_be_bytes()[..]));
}
