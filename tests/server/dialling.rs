//! Connections that a loop makes itself, over real sockets.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corewire::opening::{ClientRequest, WebSocketUri};
use corewire::{
    CloseCode, CloseSummary, Config, ConnectionId, Context, DialError, DialPhase, DialSettings,
    Endpoint, Handler, ListenOptions, ListenerSettings, Loop, Message, MioNet, Reactor,
    ReactorConfig, RemoteAddress, Role, UnixEndpoint,
};

/// Both ends on one loop: the accepted one echoes, the dialled one says five things and leaves.
#[derive(Default)]
struct BothEnds {
    heard: Vec<String>,
    failed: Vec<(ConnectionId, u32, DialError)>,
    closed: Vec<CloseSummary>,
}

impl Handler for BothEnds {
    type Data = u32;

    fn on_open(&mut self, ctx: &mut Context<'_, u32>) {
        if ctx.here().listener().is_none() {
            assert_eq!(*ctx.data(), 7, "what was given when it was dialled");
            assert!(ctx.send_text("1").is_taken());
        }
    }

    fn on_message(&mut self, ctx: &mut Context<'_, u32>, message: Message<'_>) {
        if ctx.here().listener().is_some() {
            assert!(ctx.send(message).is_taken());
            return;
        }
        let Message::Text(text) = message else { panic!("only text was sent") };
        self.heard.push(text.to_owned());
        match text.parse::<u32>() {
            Ok(5) => ctx.close(CloseCode::NORMAL, "done").unwrap(),
            Ok(number) => assert!(ctx.send_text(&(number + 1).to_string()).is_taken()),
            Err(_) => panic!("only numbers were sent"),
        }
    }

    fn on_dial_failed(
        &mut self,
        _: &mut Loop<'_, u32>,
        id: ConnectionId,
        data: u32,
        error: DialError,
    ) {
        self.failed.push((id, data, error));
    }

    fn on_close(&mut self, ctx: &mut Context<'_, u32>, summary: &CloseSummary) {
        if ctx.here().listener().is_none() {
            self.closed.push(summary.clone());
        }
    }
}

type Bed = Reactor<MioNet, BothEnds>;

fn bed() -> Bed {
    let net = MioNet::new(64 << 10).unwrap();
    Reactor::new(net, BothEnds::default(), ReactorConfig::new([7; 32]))
}

fn listen(bed: &mut Bed, endpoint: impl Into<Endpoint>) -> Endpoint {
    let settings = ListenerSettings::new(Config::new(Role::Server));
    bed.listen(endpoint, &ListenOptions::default(), settings).unwrap()
}

fn settings() -> Arc<DialSettings> {
    let uri = WebSocketUri::parse("ws://localhost/").unwrap();
    Arc::new(DialSettings::new(ClientRequest::new(uri), Config::new(Role::Client)))
}

fn turn_until(bed: &mut Bed, is_done: impl Fn(&BothEnds) -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_done(bed.handler()) {
        assert!(Instant::now() < until, "it takes too long");
        bed.turn(Some(Duration::from_millis(100))).unwrap();
    }
}

fn assert_conversation(mut bed: Bed, remotes: Vec<RemoteAddress>) {
    bed.dial(remotes, &settings(), 7).unwrap();
    turn_until(&mut bed, |both| !both.closed.is_empty() || !both.failed.is_empty());
    let both = bed.handler();
    assert_eq!(both.heard, ["1", "2", "3", "4", "5"], "{:?}", both.failed);
    assert!(both.closed[0].is_clean());
    let until = Instant::now() + Duration::from_secs(20);
    while bed.usage().sockets > 0 {
        assert!(Instant::now() < until, "a socket is left");
        bed.turn(Some(Duration::from_millis(100))).unwrap();
    }
}

#[test]
fn loop_that_dials_itself_talks_to_itself() {
    let mut bed = bed();
    let endpoint = listen(&mut bed, std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    assert_conversation(bed, vec![endpoint.socket_addr().unwrap().into()]);
}

#[cfg(target_os = "linux")]
#[test]
fn unix_sockets_are_dialled_too() {
    let mut bed = bed();
    let name = UnixEndpoint::Abstract(format!("corewire-dial-{}", std::process::id()).into());
    listen(&mut bed, Endpoint::Unix(name.clone()));
    assert_conversation(bed, vec![name.into()]);
}

// RFC 8305 §5
#[test]
fn address_that_refuses_is_followed_by_the_next_at_once() {
    let mut bed = bed();
    let endpoint = listen(&mut bed, std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answering = endpoint.socket_addr().unwrap();
    assert_conversation(bed, vec![refusing.into(), refusing.into(), answering.into()]);
}

#[test]
fn nobody_there_is_told_with_what_was_kept() {
    let mut bed = bed();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let id = bed.dial([refusing.into()], &settings(), 9).unwrap();
    turn_until(&mut bed, |both| !both.failed.is_empty());
    let (failed, data, error) = &bed.handler().failed[0];
    assert_eq!((*failed, *data), (id, 9));
    let DialError::Io { phase: DialPhase::Connect, error } = error else { panic!("{error}") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(bed.usage().sockets, 0);
}
