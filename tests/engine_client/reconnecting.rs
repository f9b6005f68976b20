//! When a client dials again, and when it does not.

use std::time::Duration;

use corewire::limits::RECONNECT_DELAY_MIN;
use corewire::{Client, ClientId, ClientState, Reconnect, StopReason};

use crate::layer_bed::{LayerBed, Told, exact, texts, usual};
use crate::naive::{Frame, PING};
use crate::sim_errno::ECONNREFUSED;
use crate::sim_host::Reply;
use crate::sim_link::End;
use crate::sim_net::SimPeer;

const SEC: Duration = Duration::from_secs(1);
/// The wheel's, and the loop's own.
const TICK: Duration = Duration::from_millis(2);

/// When a client began to dial.
fn dialled_at(told: &[(Duration, Told)]) -> Vec<Duration> {
    let dials = told.iter().filter_map(|(at, told)| match told {
        Told::Change(_, ClientState::Connecting, ..) => Some(*at),
        _ => None,
    });
    dials.collect()
}

/// How long a client said that it would wait, each time.
fn delays(told: &[(Duration, Told)]) -> Vec<Duration> {
    told.iter().filter_map(|(_, told)| delay(told)).collect()
}

fn delay(told: &Told) -> Option<Duration> {
    match told {
        Told::Change(_, ClientState::RetryPending, _, delay) => *delay,
        _ => None,
    }
}

fn stop(told: &[(Duration, Told)]) -> Option<StopReason> {
    told.iter().find_map(|(_, told)| match told {
        Told::Stop(_, reason) => Some(*reason),
        _ => None,
    })
}

#[test]
fn delays_double_up_to_the_cap_and_are_kept_to_the_tick() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies(Reply::Fail(ECONNREFUSED));
    bed.add(&usual());
    bed.run_for(400 * SEC);
    let told = bed.told();
    let expected = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60].map(|seconds| seconds * SEC);
    assert_eq!(delays(&told)[..expected.len()], expected);
    let dials = dialled_at(&told);
    assert_eq!(dials[0], Duration::ZERO);
    for (pair, delay) in dials.windows(2).zip(expected) {
        let waited = pair[1] - pair[0];
        assert!(waited >= delay && waited <= delay + TICK, "{waited:?} {delay:?}");
    }
    assert_eq!(bed.host.tries(), dials.len() as u64);
    // The number of the try is told with each.
    let tries: Vec<u32> = told
        .iter()
        .filter_map(|(_, told)| match told {
            Told::Change(_, ClientState::RetryPending, tries, _) => Some(*tries),
            _ => None,
        })
        .collect();
    assert!(tries.iter().copied().eq(1..=tries.len() as u32), "{tries:?}");
}

#[test]
fn delays_by_default_are_any_up_to_that() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies(Reply::Fail(ECONNREFUSED));
    let settings = Client::builder("ws://192.0.2.1/").build().unwrap();
    let clients: Vec<ClientId> = (0..200).map(|_| bed.add(&settings)).collect();
    bed.run_for(60 * SEC);
    let told = bed.told();
    let of = |id: ClientId| {
        let own =
            told.iter().filter(move |(_, told)| matches!(told, Told::Change(of, ..) if *of == id));
        own.filter_map(|(_, told)| delay(told)).collect::<Vec<_>>()
    };
    let mut firsts = Vec::new();
    for id in clients {
        let own = of(id);
        for (tries, delay) in own.iter().enumerate() {
            let longest = (SEC * (1 << tries.min(6))).min(60 * SEC);
            assert!(*delay >= RECONNECT_DELAY_MIN && *delay <= longest, "{tries} {delay:?}");
        }
        firsts.push(own[0]);
    }
    let mean = firsts.iter().sum::<Duration>() / firsts.len() as u32;
    assert!(mean > SEC * 4 / 10 && mean < SEC * 6 / 10, "half of the longest: {mean:?}");
    firsts.sort();
    assert!(firsts[10] < SEC / 5 && firsts[190] > SEC * 4 / 5, "all over the range");
}

#[test]
fn row_of_tries_ends_with_a_connection_that_was_stable() {
    let mut bed = LayerBed::new(|_| {});
    bed.add(&usual());
    // One that lasts for less than a minute goes on with the row; the first is none of it.
    for (lasts, expected) in [(59, 1), (59, 2), (1, 4), (60, 1), (59, 2), (90, 1)] {
        let server = bed.accept();
        let from = bed.sim.elapsed();
        // It says something, so that the heartbeat is content.
        bed.run_for(SEC * lasts / 2);
        server.send(&Frame::text("alive"));
        bed.run_for(from + SEC * lasts - bed.sim.elapsed());
        bed.told();
        server.peer.fin();
        bed.turns(2);
        assert_eq!(delays(&bed.told()), [SEC * expected], "after {lasts} s");
        bed.run_for(SEC * expected + TICK);
    }
}

#[test]
fn tries_in_a_row_may_be_bounded() {
    for max in [0, 1, 3] {
        let mut bed = LayerBed::new(|_| {});
        bed.host.replies(Reply::Fail(ECONNREFUSED));
        let settings = exact(|reconnect| reconnect.tries_max = Some(max)).build().unwrap();
        let id = bed.add(&settings);
        bed.run_for(1000 * SEC);
        assert_eq!(bed.host.tries(), u64::from(max) + 1);
        assert_eq!(bed.state(id), Some(ClientState::Disconnected));
        let told = bed.told();
        assert_eq!(stop(&told), Some(StopReason::TriesExhausted));
        let stops = told.iter().filter(|(_, told)| matches!(told, Told::Stop(..))).count();
        assert_eq!(stops, 1);
        // Starting it again begins anew.
        bed.order(move |_, clients| clients.start(id));
        bed.turns(2);
        assert_eq!(bed.host.tries(), u64::from(max) + 2);
        bed.order(move |_, clients| clients.remove(id));
        bed.assert_empty();
    }
    assert_eq!(Reconnect::never().tries_max, Some(0));
}

/// What a client makes of a connection that ends so.
fn after(end: impl FnOnce(&mut LayerBed, &crate::sim_server::SimServer)) -> Option<StopReason> {
    let mut bed = LayerBed::new(|_| {});
    let (id, server) = bed.open(&usual());
    bed.told();
    end(&mut bed, &server);
    bed.turns(4);
    let told = bed.told();
    let reason = stop(&told);
    let closes = told.iter().filter(|(_, told)| matches!(told, Told::Close(..))).count();
    assert_eq!(closes, 1, "{told:?}");
    match reason {
        Some(_) => {
            assert_eq!(bed.state(id), Some(ClientState::Disconnected));
            bed.assert_empty();
            assert_eq!(bed.host.tries(), 1);
        }
        None => {
            assert_eq!(delays(&told), [SEC]);
            bed.run_for(SEC + TICK);
            assert_eq!(bed.host.tries(), 2);
            bed.accept();
            assert_eq!(bed.state(id), Some(ClientState::Connected));
        }
    }
    reason
}

#[test]
fn close_code_of_the_server_decides_whether_it_is_dialled_again() {
    for code in [1001, 1011, 1012, 1013, 1014, 3008] {
        assert_eq!(after(|_, server| server.send(&Frame::close(code, "x"))), None, "{code}");
    }
    for code in [1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003, 4000, 4999] {
        let reason = after(|_, server| server.send(&Frame::close(code, "x")));
        assert_eq!(reason, Some(StopReason::Final), "{code}");
    }
    // None at all.
    assert_eq!(after(|_, server| server.send(&Frame::new(8, ""))), None);
}

#[test]
fn connection_that_breaks_off_is_dialled_again() {
    let ends: [fn(&SimPeer); 2] = [SimPeer::fin, SimPeer::reset];
    for end in ends {
        assert_eq!(after(|_, server| end(&server.peer)), None);
    }
}

#[test]
fn server_that_breaks_the_protocol_is_not_dialled_again() {
    let masked = Frame::text("masked").masked([1, 2, 3, 4]);
    assert_eq!(after(|_, server| server.send(&masked)), Some(StopReason::Final));
    let invalid = Frame::text([0xFF]);
    assert_eq!(after(|_, server| server.send(&invalid)), Some(StopReason::Final));
}

#[test]
fn connection_that_the_application_closes_is_not_dialled_again() {
    let reason = after(|bed, server| {
        bed.ask(|at, _| {
            let all: Vec<_> = at.connections().collect();
            at.peer(all[0]).close(corewire::CloseCode::NORMAL, "").unwrap();
        });
        server.send(&Frame::close(1000, ""));
    });
    assert_eq!(reason, Some(StopReason::Final));
}

#[test]
fn status_of_the_answer_decides_whether_it_is_dialled_again() {
    for (status, lines, expected) in [
        (400, "", None),
        (401, "Retry-After: 7\r\n", None),
        (403, "", None),
        (404, "", None),
        (301, "Location: ws://192.0.2.1/other\r\n", None),
        (408, "", Some(1)),
        (429, "Retry-After: 7\r\n", Some(8)),
        (500, "", Some(1)),
        (503, "Retry-After: 30\r\n", Some(31)),
        (503, "Retry-After: soon\r\n", Some(1)),
        // No longer than ten minutes.
        (503, "Retry-After: 100000\r\n", Some(601)),
        (503, "Retry-After: 18446744073709551615\r\n", Some(601)),
    ] {
        let mut bed = LayerBed::new(|_| {});
        let id = bed.add(&usual());
        bed.turns(2);
        let peer = bed.host.next().unwrap();
        let answer = format!("HTTP/1.1 {status} No\r\n{lines}Content-Length: 0\r\n\r\n");
        peer.write_all(answer.as_bytes());
        bed.turns(2);
        let told = bed.told();
        let failed = told.iter().any(|(_, told)| {
            matches!(told, Told::DialFailed(_, words) if words.contains(&status.to_string()))
        });
        assert!(failed, "{told:?}");
        match expected {
            None => assert_eq!(stop(&told), Some(StopReason::Final), "{status}"),
            Some(seconds) => {
                assert_eq!(delays(&told), [seconds * SEC], "{status} {lines}");
                bed.run_for(seconds * SEC - TICK);
                assert_eq!(bed.host.tries(), 1);
                bed.run_for(2 * TICK);
                assert_eq!(bed.host.tries(), 2);
                assert_eq!(bed.state(id), Some(ClientState::Connecting));
            }
        }
    }
}

#[test]
fn answer_that_is_wrong_is_not_asked_for_again() {
    let mut bed = LayerBed::new(|_| {});
    bed.add(&usual());
    bed.turns(2);
    let peer = bed.host.next().unwrap();
    peer.write_all(b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    bed.turns(2);
    assert_eq!(stop(&bed.told()), Some(StopReason::Final));
}

#[test]
fn silent_server_is_given_up_by_each_phase_and_dialled_again() {
    let mut bed = LayerBed::new(|_| {});
    let settings = exact(|_| {})
        .timeouts(|timeouts| (timeouts.connect, timeouts.upgrade) = (3 * SEC, 5 * SEC))
        .build()
        .unwrap();
    bed.host.replies_next(&[Reply::Silence]);
    bed.add(&settings);
    bed.run_for(30 * SEC);
    // 3 s and 1 s for the first, 5 s and 2, 4, 8 s for those that get no answer.
    let expected = [0, 4, 11, 20].map(|seconds| seconds * SEC);
    let dials = dialled_at(&bed.told());
    for (at, expected) in dials.iter().zip(expected) {
        assert!(*at >= expected && *at <= expected + 4 * TICK, "{dials:?}");
    }
    assert_eq!(dials.len(), 4);
}

#[test]
fn client_pings_every_30_s_and_drops_a_silent_server_after_90_s() {
    let mut bed = LayerBed::new(|_| {});
    let (id, mut server) = bed.open(&usual());
    bed.run_for(30 * SEC - TICK);
    assert!(server.frames().is_empty());
    bed.run_for(2 * TICK);
    let frames = server.frames();
    assert!(
        matches!(&frames[..], [ping] if ping.opcode == PING && ping.key.is_some()),
        "{frames:?}"
    );
    bed.sim.advance(SEC / 10);
    server.send(&Frame::pong(&frames[0].payload));
    bed.turn();
    let stats = bed.ask(move |_, clients| clients.stats(id).cloned()).unwrap();
    assert_eq!(stats.round_trips.count(), 1);
    let trip = stats.round_trips.max().unwrap();
    assert!(trip >= SEC / 10 && trip <= SEC / 10 + 2 * TICK, "{trip:?}");
    bed.told();
    let life = bed.sim.elapsed();
    bed.run_for(89 * SEC);
    assert_eq!(bed.state(id), Some(ClientState::Connected));
    bed.run_for(life + 90 * SEC + 2 * TICK - bed.sim.elapsed());
    assert_eq!(bed.state(id), Some(ClientState::RetryPending));
    let told = bed.told();
    let close = told.iter().find_map(|(at, told)| match told {
        Told::Close(_, summary) => Some((*at, summary.cause)),
        _ => None,
    });
    let (at, cause) = close.unwrap();
    assert_eq!(cause, corewire::CloseCause::HeartbeatTimeout);
    assert!(at - life >= 90 * SEC && at - life <= 90 * SEC + 2 * TICK, "{:?}", at - life);
    assert_ne!(server.peer.end_seen(), End::None);
    bed.run_for(SEC);
    let mut next = bed.accept();
    assert_eq!(bed.send(id, "on").map(|sent| format!("{sent:?}")), Some("Given(Sent)".into()));
    assert_eq!(texts(&next.frames()), ["on"]);
}

#[test]
fn message_that_nobody_understands_is_counted_and_the_connection_lives() {
    let mut bed = LayerBed::new(|_| {});
    let (id, server) = bed.open(&usual());
    for frame in [Frame::text("?"), Frame::text("fine"), Frame::binary([0xFF]), Frame::text("ok")] {
        server.send(&frame);
    }
    bed.turn();
    let told = bed.events();
    let words = told.iter().filter_map(|told| match told {
        Told::Undecodable(_, why) => Some(why.as_str()),
        Told::Text(_, text) => Some(text.as_str()),
        _ => None,
    });
    let words: Vec<_> = words.collect();
    assert_eq!((words[0], words[1], words[3]), ("nobody understands that", "fine", "ok"));
    assert!(words[2].contains("invalid utf-8"), "{}", words[2]);
    assert_eq!(bed.state(id), Some(ClientState::Connected));
    let stats = bed.ask(move |_, clients| clients.stats(id).cloned()).unwrap();
    assert_eq!((stats.undecodable, stats.opened, stats.dials_failed), (2, 1, 0));
}

#[test]
fn what_happens_is_told_in_its_order() {
    let mut bed = LayerBed::new(|_| {});
    bed.host.replies_next(&[Reply::Fail(ECONNREFUSED)]);
    let id = bed.add(&usual());
    bed.run_for(SEC + TICK);
    let server = bed.accept();
    server.send(&Frame::text("hi"));
    bed.turn();
    server.send(&Frame::close(1008, "policy"));
    bed.turns(3);
    use ClientState::*;
    let told = bed.events();
    let [
        Told::Start,
        Told::Change(_, Connecting, 0, None),
        Told::DialFailed(..),
        Told::Change(_, RetryPending, 1, Some(_)),
        Told::Change(_, Connecting, 1, None),
        Told::Open(open),
        Told::Change(changed, Connected, 1, None),
        Told::Text(..),
        Told::Close(closed, _),
        Told::Change(_, Disconnected, 0, None),
        Told::Stop(stopped, StopReason::Final),
    ] = &told[..]
    else {
        panic!("{told:#?}")
    };
    assert_eq!((open, changed, stopped), (closed, &id, &id));
}
