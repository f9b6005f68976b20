//! Stop, start and remove in every state, and from inside every callback.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewire::{
    ClientId, ClientState, Clients, Loop, Message, Owner, Pool, StopReason, Submitted, UnsentReason,
};

use crate::layer_bed::{LayerBed, Told, usual};
use crate::naive::Frame;
use crate::sim_errno::ECONNREFUSED;
use crate::sim_host::Reply;
use crate::sim_link::End;
use crate::sim_server::SimServer;

const SEC: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(2);

const STATES: [ClientState; 4] = [
    ClientState::Disconnected,
    ClientState::Connecting,
    ClientState::Connected,
    ClientState::RetryPending,
];

/// A client in this state, and its server if there is one.
fn reach(state: ClientState) -> (LayerBed, ClientId, Option<SimServer>) {
    let mut bed = LayerBed::new(|_| {});
    let (id, server) = match state {
        ClientState::Disconnected => {
            let id = bed.add(&usual());
            bed.ask(move |_, clients| clients.stop(id));
            (id, None)
        }
        ClientState::Connecting => {
            bed.host.replies_next(&[Reply::Silence]);
            (bed.add(&usual()), None)
        }
        ClientState::Connected => {
            let (id, server) = bed.open(&usual());
            (id, Some(server))
        }
        ClientState::RetryPending => {
            bed.host.replies_next(&[Reply::Fail(ECONNREFUSED)]);
            (bed.add(&usual()), None)
        }
    };
    bed.turns(2);
    assert_eq!(bed.state(id), Some(state));
    bed.told();
    while server.is_none() && bed.host.next().is_some() {}
    (bed, id, server)
}

fn changes(told: &[Told]) -> Vec<ClientState> {
    let changes = told.iter().filter_map(|told| match told {
        Told::Change(_, state, ..) => Some(*state),
        _ => None,
    });
    changes.collect()
}

fn stops(told: &[Told]) -> Vec<StopReason> {
    let stops = told.iter().filter_map(|told| match told {
        Told::Stop(_, reason) => Some(*reason),
        _ => None,
    });
    stops.collect()
}

#[test]
fn client_may_be_stopped_in_every_state() {
    for state in STATES {
        let (mut bed, id, server) = reach(state);
        let tries = bed.host.tries();
        bed.ask(move |_, clients| {
            clients.stop(id);
            clients.stop(id);
            assert_eq!(clients.state(id), Some(ClientState::Disconnected));
        });
        if let Some(mut server) = server {
            let frames = server.plain_frames();
            assert_eq!(frames, [Frame::close(1000, "")]);
            server.send(&frames[0]);
            bed.turns(2);
            server.peer.fin();
        }
        bed.turns(2);
        let told = bed.events();
        let is_news = state != ClientState::Disconnected;
        assert_eq!(stops(&told).len(), usize::from(is_news), "{state:?}");
        assert!(stops(&told).iter().all(|reason| *reason == StopReason::Stopped));
        assert!(!told.iter().any(|told| matches!(told, Told::DialFailed(..))), "it was wanted");
        bed.assert_empty();
        assert_eq!(bed.host.tries(), tries, "{state:?}: nothing is dialled");
        assert_eq!(bed.state(id), Some(ClientState::Disconnected));
    }
}

#[test]
fn client_may_be_started_in_every_state() {
    for state in STATES {
        let (mut bed, id, _server) = reach(state);
        bed.ask(move |_, clients| {
            clients.start(id);
            clients.start(id);
        });
        let is_news = state == ClientState::Disconnected;
        let expected = if is_news { vec![ClientState::Connecting] } else { vec![] };
        assert_eq!(changes(&bed.events()), expected, "{state:?}");
    }
}

#[test]
fn client_that_is_stopped_and_started_at_once_is_dialled_anew() {
    for state in STATES {
        let (mut bed, id, server) = reach(state);
        bed.ask(move |_, clients| {
            clients.stop(id);
            clients.start(id);
            assert_eq!(clients.state(id), Some(ClientState::Connecting));
        });
        bed.turn();
        if let Some(server) = server {
            // The connection of before goes on to its end, and is not the client's any more.
            server.send(&Frame::close(1011, ""));
            server.peer.fin();
            bed.turns(2);
        }
        bed.accept();
        assert_eq!(bed.state(id), Some(ClientState::Connected), "{state:?}");
        let told = bed.events();
        let expected = usize::from(state != ClientState::Disconnected);
        assert_eq!(stops(&told).len(), expected, "{state:?}");
        assert_eq!(changes(&told).last(), Some(&ClientState::Connected));
        bed.ask(move |_, clients| clients.remove(id));
        bed.assert_empty();
    }
}

#[test]
fn end_of_a_connection_that_is_not_the_clients_any_more_is_not_its_end() {
    let mut bed = LayerBed::new(|_| {});
    let (id, old) = bed.open(&usual());
    bed.ask(move |_, clients| {
        clients.stop(id);
        clients.start(id);
    });
    let mut new = bed.accept();
    bed.told();
    old.send(&Frame::text("late"));
    old.send(&Frame::close(1001, ""));
    old.peer.fin();
    bed.turns(3);
    let told = bed.events();
    assert!(told.iter().any(|told| matches!(told, Told::Close(..))), "{told:?}");
    assert!(changes(&told).is_empty(), "{told:?}");
    let _ = bed.send(id, "by the new one");
    assert_eq!(crate::layer_bed::texts(&new.frames()), ["by the new one"]);
}

#[test]
fn dial_that_a_client_has_given_up_opens_nothing() {
    for is_asked in [false, true] {
        let mut bed = LayerBed::new(|_| {});
        if !is_asked {
            bed.host.replies(Reply::Silence);
        }
        let id = bed.add(&usual());
        bed.turns(2);
        let server = is_asked.then(|| SimServer::new(bed.host.next().unwrap()));
        bed.order(move |_, clients| clients.stop(id));
        if let Some(mut server) = server {
            server.upgrade();
        }
        bed.turns(2);
        assert_eq!((bed.sim.sockets(), bed.host.held()), (0, 0), "its sockets are closed");
        assert!(!bed.events().iter().any(|told| matches!(told, Told::Open(_))));
        bed.assert_empty();
    }
}

#[test]
fn client_may_be_removed_in_every_state_and_its_name_is_nobodys_then() {
    for state in STATES {
        let (mut bed, id, server) = reach(state);
        bed.ask(move |_, clients| clients.remove(id));
        bed.turns(2);
        let told = bed.events();
        assert_eq!(stops(&told).len(), usize::from(state != ClientState::Disconnected));
        // Another takes its place.
        bed.host.replies(Reply::Silence);
        let other = bed.add(&usual());
        assert_ne!(id, other);
        bed.ask(move |at, clients| {
            assert_eq!(clients.state(id), None);
            assert!(clients.stats(id).is_none() && clients.connection(id).is_none());
            assert_eq!(clients.send(at, id, Message::Text("x")), None);
            clients.start(id);
            clients.stop(id);
            clients.remove(id);
            assert_eq!(clients.iter().collect::<Vec<_>>(), [other]);
        });
        bed.turn();
        assert_eq!(bed.state(other), Some(ClientState::Connecting), "{state:?}");
        if let Some(server) = server {
            server.send(&Frame::close(1000, ""));
            bed.turns(2);
            server.peer.fin();
        }
        bed.ask(move |_, clients| clients.remove(other));
        bed.assert_empty();
    }
}

#[test]
fn client_that_is_to_go_cannot_be_started_again() {
    for state in STATES {
        let (mut bed, id, _server) = reach(state);
        let tries = bed.host.tries();
        bed.ask(move |at, clients| {
            clients.remove(id);
            clients.start(id);
            let sent = clients.send(at, id, Message::Text("x"));
            assert!(matches!(sent, None | Some(Submitted::Refused(UnsentReason::Stopped))));
        });
        bed.run_for(10 * SEC);
        assert_eq!(bed.state(id), None, "{state:?}");
        assert_eq!(bed.host.tries(), tries);
    }
}

#[test]
fn owner_of_a_connection_is_known_from_on_open_to_on_close() {
    let owners = Arc::new(Mutex::new(Vec::new()));
    let seen = owners.clone();
    let mut bed = LayerBed::new(|settings| {
        settings.act = Box::new(move |_, clients, told| {
            if let Told::Open(id) | Told::Text(id, _) | Told::Close(id, _) = told {
                seen.lock().unwrap().push((*id, clients.owner(*id)));
            }
        });
    });
    let (id, server) = bed.open(&usual());
    server.send(&Frame::text("x"));
    server.peer.fin();
    bed.turns(3);
    let owners = owners.lock().unwrap().clone();
    assert_eq!(owners.len(), 3);
    for (_, owner) in &owners {
        assert_eq!(*owner, Some(Owner::Client(id)));
    }
    let connection = owners[0].0;
    bed.ask(move |_, clients| {
        assert_eq!(clients.owner(connection), None);
        assert_eq!(clients.connection(id), None);
    });
}

/// What is done inside a callback.
type Deed = fn(&mut Loop<'_, u32>, &mut Clients, ClientId);

const DEEDS: [(&str, Deed); 6] = [
    ("stop", |_, clients, id| clients.stop(id)),
    ("start", |_, clients, id| clients.start(id)),
    ("remove", |_, clients, id| clients.remove(id)),
    ("stop and start", |_, clients, id| {
        clients.stop(id);
        clients.start(id);
    }),
    ("add another", |_, clients, _| {
        clients.add(usual());
    }),
    ("send", |at, clients, id| {
        let _ = clients.send(at, id, Message::Text("from inside"));
    }),
];

/// Callbacks by their order in this.
const KINDS: [&str; 9] =
    ["Start", "Open", "Text", "Close", "Change", "DialFailed", "Unsent", "Stop", "Timer"];

fn kind(told: &Told) -> Option<usize> {
    let name = format!("{told:?}");
    KINDS.iter().position(|kind| name.starts_with(&format!("{kind}(")) || name == *kind)
}

/// One run in which `deed` is done up to three times in the callbacks of this kind. Says whether it
/// was.
fn run(what: &str, deed: Deed, place: usize) -> bool {
    let done = Arc::new(Mutex::new(0));
    let count = done.clone();
    let mut bed = LayerBed::new(|settings| {
        settings.act = Box::new(move |at, clients, told| {
            let mut done = count.lock().unwrap();
            let first = clients.iter().min_by_key(|id| format!("{id:?}"));
            if let Some(id) = first
                && kind(told) == Some(place)
                && *done < 3
            {
                *done += 1;
                deed(at, clients, id);
            }
        });
    });
    bed.reactor.handler().clients().add(usual());
    bed.host.replies_next(&[Reply::Fail(ECONNREFUSED)]);
    bed.order(|at, _| {
        let due = at.now() + SEC / 2;
        at.set_timer(due, 7);
    });
    let mut servers = Vec::new();
    (0..12).for_each(|step| live_on(&mut bed, &mut servers, step));
    // All of them go, and who is added meanwhile.
    for _ in 0..2 {
        bed.ask(|_, clients| {
            let all: Vec<_> = clients.iter().collect();
            all.into_iter().for_each(|id| clients.remove(id));
        });
        bed.run_for(SEC);
    }
    bed.host.reset_all();
    bed.run_for(10 * SEC);
    let told = bed.events();
    let opens = told.iter().filter(|told| matches!(told, Told::Open(_))).count();
    let closes = told.iter().filter(|told| matches!(told, Told::Close(..))).count();
    assert_eq!(opens, closes, "{what} in {}", KINDS[place]);
    let left = bed.reactor.handler().clients().iter().count();
    assert_eq!(left, 0, "{what} in {}", KINDS[place]);
    bed.assert_empty();
    *done.lock().unwrap() > 0
}

/// Half a second of a life in which everything happens once in a while.
fn live_on(bed: &mut LayerBed, servers: &mut Vec<SimServer>, step: u32) {
    let first = bed.reactor.handler().clients().iter().next();
    if let Some(id) = first {
        if step == 8 {
            bed.host.reset_all();
            bed.turns(2);
        }
        let _ = bed.send(id, "from outside");
        if step == 8 {
            bed.ask(move |_, clients| clients.stop(id));
        }
    }
    bed.run_for(SEC / 2 + TICK);
    while let Some(peer) = bed.host.next() {
        let mut server = SimServer::new(peer);
        if let Some(request) = server.request() {
            server.peer.write_all(&request.switching(""));
            servers.push(server);
        }
    }
    bed.turn();
    for server in servers {
        if server.peer.end_seen() == End::None {
            server.send(&Frame::text("hi"));
        }
    }
    bed.turn();
    if step % 3 == 2 {
        bed.host.reset_all();
    }
}

#[test]
fn everything_may_be_done_from_inside_every_callback() {
    let mut met = BTreeSet::new();
    for (what, deed) in DEEDS {
        for (place, name) in KINDS.iter().enumerate() {
            if run(what, deed, place) {
                met.insert(*name);
            }
        }
    }
    assert_eq!(met.len(), KINDS.len(), "{met:?}");
}

#[test]
fn application_hears_nothing_of_a_connection_that_merely_looks_whether_a_server_answers() {
    let mut bed = LayerBed::new(|_| {});
    let pool = Pool::builder().min(0).health_check(|_| {}).endpoint(usual());
    let pool = pool.build().unwrap();
    bed.ask(move |_, clients| clients.add_pool(pool));
    bed.turns(2);
    let mut server = SimServer::new(bed.host.next().expect("it is looked for"));
    let mut greeting = server.request().expect("it asks").switching("");
    let frames = [Frame::text("hi"), Frame::text("?"), Frame::ping("hi"), Frame::pong("hi")];
    frames.iter().for_each(|frame| greeting.extend(frame.encode()));
    server.peer.write_all(&greeting);
    bed.turns(2);
    frames.iter().for_each(|frame| server.send(frame));
    bed.turns(2);
    server.send(&Frame::close(1000, ""));
    server.peer.fin();
    bed.turns(4);
    assert_eq!(bed.events(), [Told::Start]);
    assert_eq!(bed.reactor.usage().open, 0);
}
