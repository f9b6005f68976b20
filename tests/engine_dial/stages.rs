//! What can happen to a dial in each of its stages, and that exactly one callback tells its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use corewire::{
    ConnectionId, DialError, DialPhase, DropReason, Message, Proxy, RemoteAddress, SendOutcome,
};

use crate::client_bed::{Bed, Heard, Settings, Told, address};
use crate::naive::Frame;
use crate::sim_host::Reply;
use crate::sim_link::End;
use crate::sim_server::SimServer;

const TICK: Duration = Duration::from_millis(2);
const USUAL: Duration = Duration::from_secs(10);

/// How far a dial has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for a turn that has time for it.
    Noted,
    Connecting,
    Tunnel,
    Upgrade,
    /// The answer is no 101, and its body is still to come.
    Refused,
}

const ALL: [Stage; 5] =
    [Stage::Noted, Stage::Connecting, Stage::Tunnel, Stage::Upgrade, Stage::Refused];

/// A bed whose only dial has come so far, with the server where there is one.
fn reach(
    stage: Stage,
    change: impl FnOnce(&mut Settings),
) -> (Bed, ConnectionId, Option<SimServer>) {
    let mut bed = Bed::new(|settings| {
        if stage == Stage::Tunnel {
            settings.dial.proxy = Some(Proxy::http("proxy.example:3128").unwrap());
        }
        settings.reactor.limits.dials_per_turn = 1;
        change(settings);
    });
    match stage {
        Stage::Noted => {
            // The turn's only place is taken by another, which is gone when this one is looked at.
            let other = bed.dial();
            let id = bed.dial();
            bed.host.replies_next(&[Reply::Silence]);
            bed.turn();
            assert_eq!(bed.host.tries(), 1);
            bed.order(move |at| at.give_up(other));
            (bed, id, None)
        }
        Stage::Connecting => {
            bed.host.replies(Reply::Silence);
            let id = bed.dial();
            bed.turn();
            assert_eq!(bed.host.held(), 1);
            (bed, id, None)
        }
        Stage::Tunnel | Stage::Upgrade | Stage::Refused => {
            let id = bed.dial();
            bed.turns(2);
            let mut server = SimServer::new(bed.host.next().expect("the connection stands"));
            server.head().expect("somebody is asked");
            if stage == Stage::Refused {
                server.peer.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nhalf");
                bed.turn();
            }
            assert!(bed.reactor.handler().failures.is_empty());
            (bed, id, Some(server))
        }
    }
}

/// The only failure of `id`.
fn failure(bed: &mut Bed, id: ConnectionId) -> &DialError {
    &bed.failure(id).error
}

#[test]
fn dial_that_is_given_up_is_told_once_in_each_stage() {
    for stage in ALL {
        let (mut bed, id, server) = reach(stage, |_| {});
        bed.order(move |at| {
            at.give_up(id);
            at.give_up(id);
        });
        bed.turns(3);
        assert!(matches!(failure(&mut bed, id), DialError::Aborted), "{stage:?}");
        bed.assert_empty();
        let counters = bed.reactor.counters();
        assert_eq!(counters.dialled, counters.dials_failed, "{stage:?}");
        if let Some(server) = server {
            assert_ne!(server.peer.end_seen(), End::None, "{stage:?}");
        }
        // The name is nobody's any more.
        bed.order(move |at| at.give_up(id));
        bed.turns(2);
        assert!(matches!(failure(&mut bed, id), DialError::Aborted), "{stage:?}");
    }
}

#[test]
fn dial_may_be_given_up_in_the_turn_in_which_it_was_begun() {
    let mut bed = Bed::new(|_| {});
    let dial = bed.dial.clone();
    let place = Arc::new(Mutex::new(None));
    let begun = place.clone();
    bed.order(move |at| {
        let id = at.dial([RemoteAddress::from(address())], &dial, 7).unwrap();
        at.give_up(id);
        *begun.lock().unwrap() = Some(id);
    });
    bed.turns(2);
    let id = place.lock().unwrap().unwrap();
    assert!(matches!(failure(&mut bed, id), DialError::Aborted));
    assert_eq!(bed.failure(id).data, 7);
    assert_eq!(bed.host.tries(), 0, "nobody is connected to for nothing");
    bed.assert_empty();
}

#[test]
fn giving_up_wins_over_an_answer_that_is_not_heard_yet() {
    let (mut bed, id, server) = reach(Stage::Upgrade, |_| {});
    let mut other = Bed::new(|_| {});
    let switching = other.dial_and_ask().2.switching("");
    server.unwrap().peer.write_all(&switching);
    bed.order(move |at| at.give_up(id));
    bed.turns(2);
    assert!(matches!(failure(&mut bed, id), DialError::Aborted));
    bed.assert_empty();
}

#[test]
fn dial_may_be_given_up_for_what_its_answer_says() {
    let mut bed = Bed::new(|settings| {
        settings.act_loop = Box::new(|at, told| {
            if let Told::Answer(id) = told {
                at.give_up(id);
            }
        });
    });
    let (id, server, request) = bed.dial_and_ask();
    server.peer.write_all(&[request.switching(""), Frame::text("hi").encode()].concat());
    bed.turns(2);
    let heard = bed.heard(id);
    assert!(matches!(heard[..], [Heard::Answer(101, _)]), "{heard:?}");
    let failures = &bed.reactor.handler().failures;
    assert!(matches!(failures[..], [crate::client_bed::Failure { error: DialError::Aborted, .. }]));
    bed.assert_empty();
}

#[test]
fn connection_that_is_open_cannot_be_given_up() {
    let mut bed = Bed::new(|settings| {
        settings.act = Box::new(|ctx, heard| {
            let id = ctx.id();
            if *heard == Heard::Open {
                ctx.give_up(id);
            }
        });
    });
    let (id, server) = bed.open();
    bed.order(move |at| at.give_up(id));
    server.send(&Frame::text("hi"));
    bed.turns(2);
    assert!(bed.heard(id).contains(&Heard::Text("hi".into())));
    assert!(bed.reactor.handler().failures.is_empty());
}

#[test]
fn drain_ends_a_dial_in_each_stage_and_takes_no_other() {
    for stage in ALL {
        let refused = Arc::new(Mutex::new(Vec::new()));
        let told = refused.clone();
        let (mut bed, id, _server) = reach(stage, |settings| {
            // Whoever fails is dialled anew at once.
            let dial = Arc::new(settings.dial.clone());
            settings.act_loop = Box::new(move |at, event| {
                if let Told::Failed(_) = event {
                    let again = at.dial([RemoteAddress::from(address())], &dial, 9);
                    told.lock().unwrap().push(again);
                }
            });
        });
        bed.reactor.handle().shutdown(Duration::from_secs(5)).unwrap();
        bed.turns(3);
        assert!(matches!(failure(&mut bed, id), DialError::NoRoom), "{stage:?}");
        assert!(bed.reactor.is_finished(), "{stage:?}: nobody is left");
        let refused = std::mem::take(&mut *refused.lock().unwrap());
        assert!(
            refused.iter().all(|again| matches!(again, Err(DialError::NoRoom))),
            "{stage:?} {refused:?}"
        );
        assert_eq!(refused.len(), bed.reactor.handler().failures.len());
        bed.assert_empty();
    }
}

#[test]
fn loop_that_is_dropped_closes_what_it_has_dialled() {
    for stage in ALL {
        let (bed, _, server) = reach(stage, |_| {});
        let (sim, host) = (bed.sim.clone(), bed.host.clone());
        drop(bed);
        assert_eq!((sim.sockets(), host.held()), (0, 0), "{stage:?}");
        if let Some(server) = server {
            assert_ne!(server.peer.end_seen(), End::None, "{stage:?}");
        }
    }
}

#[test]
fn each_phase_has_its_own_deadline() {
    let secs = Duration::from_secs;
    for (stage, phase) in [
        (Stage::Connecting, DialPhase::Connect),
        (Stage::Tunnel, DialPhase::Tunnel),
        (Stage::Upgrade, DialPhase::Upgrade),
    ] {
        for (change, due) in [(false, USUAL), (true, secs(3))] {
            let (mut bed, id, _server) = reach(stage, |settings| {
                let timeouts = &mut settings.dial.timeouts;
                if change {
                    // Of the others each has its own.
                    (timeouts.connect, timeouts.tunnel, timeouts.upgrade) =
                        (secs(30), secs(30), secs(30));
                    *match stage {
                        Stage::Connecting => &mut timeouts.connect,
                        Stage::Tunnel => &mut timeouts.tunnel,
                        _ => &mut timeouts.upgrade,
                    } = due;
                }
            });
            let began = bed.sim.elapsed();
            bed.run_for(due - Duration::from_millis(1));
            assert!(bed.reactor.handler().failures.is_empty(), "{stage:?} not before");
            bed.run_for(TICK);
            let failure = bed.failure(id);
            assert!(matches!(failure.error, DialError::TimedOut(own) if own == phase));
            let took = failure.at - began;
            assert!(took >= due && took <= due + TICK, "{stage:?} {took:?}");
            bed.assert_empty();
        }
    }
}

#[test]
fn dial_that_no_turn_has_time_for_ends_with_its_phase() {
    let (mut bed, id, _) = reach(Stage::Noted, |_| {});
    // This process stands still for longer than the phase.
    bed.sim.advance(USUAL + TICK);
    bed.turns(2);
    assert!(matches!(failure(&mut bed, id), DialError::TimedOut(DialPhase::Connect)));
    bed.turn();
    bed.assert_empty();
}

#[test]
fn times_without_end_are_as_good_as_a_year_for_a_dial() {
    let (mut bed, id, server) = reach(Stage::Upgrade, |settings| {
        let timeouts = &mut settings.dial.timeouts;
        (timeouts.connect, timeouts.upgrade) = (Duration::MAX, Duration::MAX);
        settings.dial.attempt_delay = Duration::MAX;
    });
    bed.run_for(Duration::from_secs(300 * 24 * 3600));
    assert!(bed.reactor.handler().failures.is_empty());
    server.unwrap().peer.fin();
    bed.turns(2);
    assert!(matches!(failure(&mut bed, id), DialError::Io { .. }));
}

#[test]
fn phases_of_no_time_fail_and_do_not_spin() {
    for phase in [DialPhase::Connect, DialPhase::Upgrade] {
        let mut bed = Bed::new(|settings| {
            let timeouts = &mut settings.dial.timeouts;
            *match phase {
                DialPhase::Connect => &mut timeouts.connect,
                _ => &mut timeouts.upgrade,
            } = Duration::ZERO;
        });
        bed.host.replies(Reply::AcceptAfter(Duration::from_millis(5)));
        let id = bed.dial();
        bed.run_for(Duration::from_secs(1));
        assert!(matches!(failure(&mut bed, id), DialError::TimedOut(own) if *own == phase));
        bed.assert_empty();
    }
}

#[test]
fn answer_that_came_in_time_is_heard_before_its_deadline_is_judged() {
    // The process was stopped for longer than the phase may take; meanwhile the server has answered.
    let mut bed = Bed::new(|_| {});
    let (id, server, request) = bed.dial_and_ask();
    server.peer.write_all(&request.switching(""));
    bed.sim.advance(3 * USUAL);
    bed.turn();
    assert!(bed.heard(id).contains(&Heard::Open));

    // The same while it connects: the request has all of its own time.
    let mut bed = Bed::new(|_| {});
    bed.host.replies(Reply::AcceptAfter(USUAL / 2));
    let id = bed.dial();
    bed.turn();
    bed.sim.advance(3 * USUAL);
    bed.turns(2);
    let began = bed.sim.elapsed();
    let mut server = SimServer::new(bed.host.next().expect("it stands"));
    server.request().expect("it was asked");
    bed.run_for(USUAL + TICK);
    let failure = bed.failure(id);
    assert!(matches!(failure.error, DialError::TimedOut(DialPhase::Upgrade)));
    assert!(failure.at >= began + USUAL, "{failure:?}");

    // The same in a tunnel.
    let (mut bed, id, server) = reach(Stage::Tunnel, |_| {});
    let mut server = server.unwrap();
    server.peer.write_all(b"HTTP/1.1 200 Go on\r\n\r\n");
    bed.sim.advance(3 * USUAL);
    bed.turn();
    server.upgrade();
    bed.turn();
    assert!(bed.heard(id).contains(&Heard::Open));
}

#[test]
fn name_of_a_dial_is_nobodys_to_send_to_before_it_opens_and_after_it_failed() {
    for stage in ALL {
        let (mut bed, id, _server) = reach(stage, |_| {});
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let probe = |bed: &mut Bed| {
            let told = outcomes.clone();
            bed.order(move |at| {
                let mut peer = at.peer(id);
                let outcome = peer.send(Message::Text("early"));
                peer.pause();
                peer.abort();
                peer.close(corewire::CloseCode::NORMAL, "").unwrap();
                told.lock().unwrap().push((outcome, peer.is_open(), peer.queued_bytes()));
                assert_eq!(peer.subprotocol(), None);
                assert!(!at.connections().any(|open| open == id));
            });
            bed.turn();
        };
        probe(&mut bed);
        assert!(bed.reactor.handler().failures.iter().all(|failure| failure.id != id));
        bed.order(move |at| at.give_up(id));
        bed.turns(2);
        // Somebody else has the place.
        let other = bed.dial();
        probe(&mut bed);
        assert_ne!(other, id);
        bed.turn();
        assert!(bed.reactor.handler().failures.iter().all(|failure| failure.id != other));
        let gone = (SendOutcome::Dropped(DropReason::Gone), false, 0);
        assert_eq!(*outcomes.lock().unwrap(), [gone, gone], "{stage:?}");
    }
}
