//! Where redirections lead.

use corewire::{Client, ClientState, StopReason};

use crate::layer_bed::{LayerBed, Told, address, exact};
use crate::sim_host::SimHost;
use crate::sim_server::{Request, SimServer};

/// What the next who asks there says; it is answered so.
fn answer(bed: &mut LayerBed, host: &SimHost, status: u16, lines: &str) -> Request {
    bed.turns(2);
    let mut server = SimServer::new(host.next().expect("somebody comes"));
    let request = server.request().expect("and asks");
    let head = format!("HTTP/1.1 {status} There\r\n{lines}Content-Length: 0\r\n\r\n");
    server.peer.write_all(head.as_bytes());
    bed.turns(2);
    request
}

fn stopped(bed: &mut LayerBed) -> Option<StopReason> {
    bed.events().iter().find_map(|told| match told {
        Told::Stop(_, reason) => Some(*reason),
        _ => None,
    })
}

#[test]
fn redirection_is_followed_as_often_as_is_allowed() {
    for allowed in 0..4_u8 {
        let mut bed = LayerBed::new(|_| {});
        let settings = exact(|_| {}).redirects(allowed).build().unwrap();
        let id = bed.add(&settings);
        let host = bed.host.clone();
        for (asked, status) in (0..=allowed).zip([301, 302, 303, 307, 308]) {
            assert_eq!(stopped(&mut bed), None);
            let request = answer(&mut bed, &host, status, "Location: ws://192.0.2.1/feed\r\n");
            assert_eq!(request.target, "/feed", "{asked}");
        }
        // It leads to itself for ever.
        assert_eq!(stopped(&mut bed), Some(StopReason::Final), "{allowed}");
        assert_eq!(bed.host.tries(), u64::from(allowed) + 1);
        assert_eq!(bed.state(id), Some(ClientState::Disconnected));
        bed.assert_empty();
    }
}

#[test]
fn location_may_be_relative_or_elsewhere() {
    for (location, target, is_elsewhere) in [
        ("/other", "/other", false),
        ("other?x=1", "/a/other?x=1", false),
        ("../up", "/up", false),
        ("//192.0.2.2/there", "/there", true),
        ("ws://192.0.2.2/there#x", "/there", true),
        ("http://192.0.2.2/there", "/there", true),
        ("http://192.0.2.2", "/", true),
    ] {
        let mut bed = LayerBed::new(|_| {});
        let other = bed.sim.host(std::net::SocketAddr::from(([192, 0, 2, 2], 80)));
        let settings = Client::builder("ws://192.0.2.1/a/b").redirects(1).build().unwrap();
        let id = bed.add(&settings);
        let host = bed.host.clone();
        answer(&mut bed, &host, 302, &format!("Location: {location}\r\n"));
        let there = if is_elsewhere { other } else { host };
        let peer = there.next().unwrap_or_else(|| panic!("{location}"));
        let mut server = SimServer::new(peer);
        assert_eq!(server.upgrade().target, target, "{location}");
        bed.turn();
        assert_eq!(bed.state(id), Some(ClientState::Connected));
    }
}

#[test]
fn credentials_do_not_leave_their_host() {
    for (location, goes_along) in [
        ("/other", true),
        ("ws://192.0.2.1:80/other", true),
        ("ws://192.0.2.2/", false),
        ("ws://192.0.2.1:81/", false),
    ] {
        let mut bed = LayerBed::new(|_| {});
        let hosts = [([192, 0, 2, 2], 80), ([192, 0, 2, 1], 81)];
        let hosts = hosts.map(|place| bed.sim.host(std::net::SocketAddr::from(place)));
        let settings = Client::builder("ws://192.0.2.1/")
            .basic_auth("user", "password")
            .header("Cookie", "a=b")
            .header("X-Other", "c")
            .header("User-Agent", "d")
            .subprotocol("chat")
            .redirects(2)
            .build()
            .unwrap();
        bed.add(&settings);
        let host = bed.host.clone();
        let request = answer(&mut bed, &host, 307, &format!("Location: {location}\r\n"));
        assert!(request.field("Authorization").is_some() && request.field("Cookie").is_some());
        let peer = hosts.iter().chain([&host]).find_map(SimHost::next).unwrap();
        let request = SimServer::new(peer).request().unwrap();
        let secrets = ["Authorization", "Cookie", "X-Other"].map(|name| request.field(name));
        assert_eq!(secrets.map(|secret| secret.is_some()), [goes_along; 3], "{location}");
        assert_eq!(request.field("User-Agent"), Some("d"));
        assert_eq!(request.field("Sec-WebSocket-Protocol"), Some("chat"));
    }
}

#[test]
fn redirection_to_nowhere_is_a_refusal_like_any_other() {
    for location in
        ["", "Location: ftp://192.0.2.1/\r\n", "Location: ws://\r\n", "Location: \u{7f}\r\n"]
    {
        let mut bed = LayerBed::new(|_| {});
        bed.add(&exact(|_| {}).redirects(5).build().unwrap());
        let host = bed.host.clone();
        answer(&mut bed, &host, 302, location);
        assert!(stopped(&mut bed).is_some(), "{location}");
        assert_eq!(bed.host.tries(), 1);
        bed.assert_empty();
    }
    // Nor is one without an address that is asked for by another status.
    let mut bed = LayerBed::new(|_| {});
    bed.add(&exact(|_| {}).redirects(5).build().unwrap());
    let host = bed.host.clone();
    answer(&mut bed, &host, 300, "Location: /x\r\n");
    assert_eq!(stopped(&mut bed), Some(StopReason::Final));
}

#[test]
fn next_try_begins_where_the_client_was_told_to() {
    let mut bed = LayerBed::new(|_| {});
    let other = bed.sim.host(std::net::SocketAddr::from(([192, 0, 2, 2], 80)));
    let id = bed.add(&exact(|_| {}).redirects(1).build().unwrap());
    let host = bed.host.clone();
    for _ in 0..3 {
        answer(&mut bed, &host, 302, "Location: ws://192.0.2.2/\r\n");
        let mut server = SimServer::new(other.next().unwrap());
        server.upgrade();
        bed.turn();
        assert_eq!(bed.state(id), Some(ClientState::Connected));
        server.peer.fin();
        bed.run_for(std::time::Duration::from_secs(10));
    }
    assert_eq!(address().port(), 80);
}

#[test]
fn client_may_be_stopped_between_a_redirection_and_where_it_leads() {
    let mut bed = LayerBed::new(|_| {});
    let id = bed.add(&exact(|_| {}).redirects(1).build().unwrap());
    let host = bed.host.clone();
    answer(&mut bed, &host, 302, "Location: /again\r\n");
    bed.ask(move |_, clients| clients.stop(id));
    bed.turns(2);
    assert_eq!(stopped(&mut bed), Some(StopReason::Stopped));
    bed.assert_empty();
}
