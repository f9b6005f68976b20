//! Ways that lead to TLS: through a proxy, by a redirection, to a server of our own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use corewire::{
    Client, ClientHandler, ClientLayer, ClientState, Clients, Config, Context, DialError,
    DialPhase, ListenOptions, ListenerSettings, Message, Proxy, Reactor, ReactorConfig, Role,
    Undecodable,
};

use crate::bed::{Server, bed, server_config, trusting};
use crate::client_bed::{Heard, Settings};
use crate::naive::Frame;
use crate::sim_net::SimNet;
use crate::sim_server::SimServer;
use crate::sim_world::Call;
use crate::tls_peer::{Identity, VERSIONS, server_tls};

fn through_a_proxy(settings: &mut Settings) {
    settings.dial.proxy = Some(Proxy::http("proxy.example:3128").unwrap());
}

#[test]
fn tls_begins_behind_the_proxys_answer_and_not_before() {
    for version in VERSIONS {
        let (mut bed, config) = bed(version, through_a_proxy);
        let id = bed.dial();
        bed.turns(3);
        let socket = bed.host.next().expect("the proxy is reached");
        let mut proxy = SimServer::new(socket.clone());
        let (line, _) = proxy.head().expect("it is asked");
        assert_eq!(line, "CONNECT example.com:443 HTTP/1.1");
        bed.turns(3);
        assert_eq!(proxy.pending(), b"");
        socket.write_all(b"HTTP/1.1 200 Go on\r\n\r\n");
        let mut server = Server::new(socket, &config);
        server.turns(&mut bed, 8);
        let request = server.request().expect("the request is there");
        assert_eq!(request.field("Host"), Some("example.com"));
        server.tls.say(&request.switching(""));
        server.turns(&mut bed, 1);
        assert!(bed.heard(id).contains(&Heard::Open));
    }
}

#[test]
fn what_stands_in_front_of_the_hello_is_nobodys() {
    for unasked in [&b"\x15\x03\x03"[..], b"HTTP/1.1 101 Switching Protocols\r\n\r\n"] {
        let (mut bed, _) = bed(VERSIONS[1], through_a_proxy);
        let id = bed.dial();
        bed.turns(3);
        let socket = bed.host.next().expect("the proxy is reached");
        let _ = SimServer::new(socket.clone()).head();
        socket.write_all(&[b"HTTP/1.1 200 Go on\r\n\r\n", unasked].concat());
        bed.turns(3);
        assert!(matches!(&bed.failure(id).error, DialError::Tls(_)));
        bed.assert_empty();
    }
}

#[test]
fn answer_of_a_proxy_that_has_not_the_whole_request_opens_no_way() {
    let (mut bed, _) = bed(VERSIONS[1], |settings| {
        let proxy = Proxy::http("proxy.example:3128").unwrap();
        settings.dial.proxy = Some(proxy.credentials("user", "secret").unwrap());
    });
    let id = bed.dial();
    bed.sim.shorten(Call::Send, &[10]);
    bed.turn();
    let socket = bed.host.next().expect("the proxy is reached");
    socket.set_buffers(1 << 20, 10);
    socket.write_all(b"HTTP/1.1 200 Go on\r\n\r\n");
    bed.turns(3);
    let DialError::Io { phase, error } = &bed.failure(id).error else { panic!() };
    assert_eq!((*phase, error.kind()), (DialPhase::Tunnel, std::io::ErrorKind::InvalidData));
    bed.assert_empty();
    assert!(!socket.handed_over().windows(3).any(|bytes| bytes == [22, 3, 1]), "no hello");
}

#[test]
fn client_and_server_of_ours_understand_each_other_on_one_loop() {
    let identity = Identity::new(&["example.com"]);
    let (mut bed, _) = bed(VERSIONS[1], |settings| {
        settings.dial.tls = Some(trusting(&identity));
        settings.act = Box::new(|ctx, heard| {
            let is_accepted = ctx.here().listener().is_some();
            match heard {
                Heard::Open if !is_accepted => {
                    let _ = ctx.send_text("over here");
                }
                Heard::Text(text) if is_accepted => {
                    let _ = ctx.send_text(text);
                }
                _ => {}
            }
        });
    });
    let mut settings = ListenerSettings::new(Config::new(Role::Server));
    settings.tls = Some(server_tls(&[&identity]));
    bed.reactor.listen(([192, 0, 2, 9], 443), &ListenOptions::default(), settings).unwrap();
    let id = bed.dial_all(&[([192, 0, 2, 9], 443).into()]);
    bed.turns(20);
    let heard = bed.heard(id);
    assert!(
        matches!(&heard[..], [Heard::Answer(101, _), Heard::Open, Heard::Text(text)]
            if text == "over here"),
        "{heard:?} {:?}",
        bed.reactor.handler().failures
    );
    let counters = bed.reactor.counters();
    assert_eq!((counters.tls_handshakes, counters.handshakes_completed), (2, 2));
    assert_eq!((counters.dialled, counters.http_requests), (1, 1));
    assert_eq!(bed.reactor.usage().open, 2);
}

/// Keeps what it is told.
#[derive(Default)]
struct Caller {
    heard: Vec<String>,
    answers: Vec<u16>,
}

impl ClientHandler for Caller {
    type Data = ();

    fn on_answer(
        &mut self,
        at: &mut corewire::Loop<'_, ()>,
        clients: &mut Clients,
        id: corewire::ConnectionId,
        head: &corewire::opening::ResponseHead<'_>,
    ) {
        assert!(clients.owner(id).is_some(), "it is a client's");
        assert!(at.peer(id).tls().is_some());
        self.answers.push(head.status);
    }

    fn on_message(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &mut Clients,
        message: Message<'_>,
    ) -> Result<(), Undecodable> {
        self.heard.push(String::from_utf8_lossy(message.payload()).into_owned());
        Ok(())
    }
}

#[test]
fn redirection_from_ws_leads_to_wss_and_none_leads_back() {
    let identity = Identity::new(&["192.0.2.1"]);
    for (version, leads_back) in [(VERSIONS[0], false), (VERSIONS[1], false), (VERSIONS[1], true)] {
        let config = Arc::new(server_config(version, &identity));
        let (net, sim) = SimNet::new(1, 256 << 10);
        let mut layer = ClientLayer::new(Caller::default());
        let settings = Client::builder("ws://192.0.2.1/").redirects(3).tls(trusting(&identity));
        let client = layer.clients().add(settings.build().unwrap());
        let mut reactor = Reactor::new(net, layer, ReactorConfig::new([1; 32]));
        let hosts = [80, 443].map(|port| sim.host(SocketAddr::from(([192, 0, 2, 1], port))));
        let turn = |reactor: &mut Reactor<_, _>| reactor.turn(Some(Duration::ZERO)).unwrap();
        (0..4).for_each(|_| turn(&mut reactor));
        let mut first = SimServer::new(hosts[0].next().expect("the connection stands"));
        first.request().expect("the request is there");
        let to = "HTTP/1.1 307 There\r\nLocation: wss://192.0.2.1/x\r\nContent-Length: 0\r\n\r\n";
        first.peer.write_all(to.as_bytes());
        (0..4).for_each(|_| turn(&mut reactor));
        let mut server = Server::new(hosts[1].next().expect("it is followed"), &config);
        for _ in 0..6 {
            server.tls.pull();
            server.tls.push();
            turn(&mut reactor);
        }
        let request = server.request().expect("the request is there");
        assert_eq!(request.target, "/x");
        if leads_back {
            let to = "HTTP/1.1 307 Back\r\nLocation: ws://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
            server.tls.say(to.as_bytes());
        } else {
            server.tls.say(&request.switching(""));
            server.tls.say(&Frame::text("welcome").encode());
        }
        server.tls.push();
        (0..4).for_each(|_| turn(&mut reactor));
        let layer = reactor.handler();
        let expected = if leads_back { ClientState::Disconnected } else { ClientState::Connected };
        assert_eq!(layer.clients().state(client), Some(expected));
        let Caller { heard, answers } = layer.handler();
        let (texts, statuses) =
            if leads_back { (vec![], vec![]) } else { (vec!["welcome".to_owned()], vec![101]) };
        assert_eq!((&**heard, &**answers), (&*texts, &*statuses));
        assert_eq!(hosts.map(|host| host.tries()), [1, 1]);
    }
}
