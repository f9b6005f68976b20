//! What hosts reply, and when the engine is told.

use std::io::ErrorKind;
use std::time::Duration;

use corewire::{Net, UnixEndpoint};

use crate::sim_errno::{
    EADDRNOTAVAIL, EAGAIN, ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EINTR, EMFILE, ENETUNREACH,
    ENFILE, ENOBUFS, ENOENT, ENOMEM, ENOTCONN, ETIMEDOUT,
};
use crate::sim_host::Reply;
use crate::sim_link::End;
use crate::sim_net::SimNet;
use crate::sim_world::Call;
use crate::{connect, errno, failed, far, poll, receive, send, told, writable};

const SOON: Duration = Duration::from_millis(30);

#[test]
fn host_accepts_and_both_ends_are_joined() {
    let (mut net, sim) = SimNet::new(1, 100);
    let host = sim.host(far());
    let key = connect(&mut net, far(), 7).unwrap();
    assert_eq!(sim.sockets(), 1);
    assert_eq!(poll(&mut net, Duration::MAX), [writable(7)]);
    assert_eq!(poll(&mut net, Duration::ZERO), [], "an edge is told once");
    net.finish_connect(key).unwrap();
    let peer = host.next().expect("the connection is made");
    assert!(host.next().is_none() && host.tries() == 1);
    assert_eq!(peer.address(), far());
    assert_eq!(send(&mut net, key, b"there").unwrap(), 5);
    assert_eq!(peer.read_all(), b"there");
    peer.write_all(b"back");
    peer.fin();
    assert_eq!(poll(&mut net, Duration::MAX), [told(7, [1, 1, 1])]);
    assert_eq!(receive(&mut net, key).unwrap(), b"back");
    assert_eq!(receive(&mut net, key).unwrap(), b"");
    net.close(key);
    assert_eq!((peer.end_seen(), sim.sockets()), (End::Fin, 0));
    assert_eq!((sim.tries(Call::Connect), sim.tries(Call::FinishConnect)), (1, 1));
}

#[test]
fn answers_come_when_they_are_due() {
    for (reply, error) in
        [(Reply::AcceptAfter(SOON), None), (Reply::FailAfter(SOON, 113), Some(113))]
    {
        let (mut net, sim) = SimNet::new(1, 100);
        sim.host(far()).replies(reply);
        let key = connect(&mut net, far(), 7).unwrap();
        assert_eq!(poll(&mut net, SOON / 2), [], "nothing is told of what is under way");
        assert_eq!(net.finish_connect(key).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert!(sim.host(far()).next().is_none());
        let event = if error.is_none() { writable(7) } else { failed(7) };
        assert_eq!(poll(&mut net, Duration::MAX), [event]);
        assert_eq!(sim.elapsed(), SOON);
        assert_eq!(net.finish_connect(key).err().and_then(|error| error.raw_os_error()), error);
        assert_eq!(sim.host(far()).next().is_some(), error.is_none());
    }
}

#[test]
fn failure_is_told_by_finishing_and_the_socket_stays() {
    for error in [ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH] {
        let (mut net, sim) = SimNet::new(1, 100);
        let host = sim.host(far());
        host.replies(Reply::Fail(error));
        let key = connect(&mut net, far(), 7).unwrap();
        assert_eq!(poll(&mut net, Duration::MAX), [failed(7)]);
        assert_eq!(errno(net.finish_connect(key)), error);
        assert_eq!(errno(net.finish_connect(key)), ENOTCONN, "an error is told once");
        assert_eq!((sim.sockets(), host.next().is_none()), (1, true));
        net.close(key);
        assert_eq!((sim.sockets(), poll(&mut net, Duration::ZERO)), (0, vec![]));
    }
}

#[test]
fn failure_at_once_leaves_no_socket() {
    let (mut net, sim) = SimNet::new(1, 100);
    for error in [EHOSTUNREACH, ENETUNREACH, ECONNREFUSED] {
        sim.host(far()).replies(Reply::FailAtOnce(error));
        assert_eq!(errno(connect(&mut net, far(), 7)), error);
        assert_eq!(sim.sockets(), 0);
    }
    assert_eq!((sim.host(far()).tries(), sim.tries(Call::FinishConnect)), (3, 0));
}

#[test]
fn nobody_refuses() {
    let (mut net, sim) = SimNet::new(1, 100);
    let key = connect(&mut net, far(), 7).unwrap();
    assert_eq!(poll(&mut net, Duration::MAX), [failed(7)]);
    assert_eq!(errno(net.finish_connect(key)), ECONNREFUSED);
    let nowhere = UnixEndpoint::Path("/nowhere".into());
    assert_eq!(errno(connect(&mut net, nowhere, 8)), ENOENT, "a path is there or not");
    assert_eq!(sim.sockets(), 1);
}

#[test]
fn silence_lasts_until_the_test_answers() {
    let (mut net, sim) = SimNet::new(1, 100);
    let host = sim.host(far());
    host.replies(Reply::Silence);
    let first = connect(&mut net, far(), 7).unwrap();
    let second = connect(&mut net, far(), 8).unwrap();
    assert_eq!(poll(&mut net, Duration::from_secs(1000)), []);
    assert_eq!((sim.elapsed().as_secs(), host.held()), (1000, 2));
    net.close(first);
    assert_eq!(host.held(), 1, "who gave up waits no more");
    host.answer(Reply::Accept);
    assert_eq!(poll(&mut net, Duration::ZERO), [writable(8)]);
    net.finish_connect(second).unwrap();
    assert!(host.next().is_some() && host.next().is_none());
}

#[test]
fn who_gave_up_never_arrives() {
    let (mut net, sim) = SimNet::new(1, 100);
    let host = sim.host(far());
    host.replies(Reply::AcceptAfter(SOON));
    let key = connect(&mut net, far(), 7).unwrap();
    net.close(key);
    assert_eq!(poll(&mut net, SOON * 2), []);
    assert_eq!((sim.elapsed(), host.next().is_none()), (SOON * 2, true));
}

#[test]
fn reset_before_or_after_the_engine_has_asked() {
    let (mut net, sim) = SimNet::new(1, 100);
    let host = sim.host(far());
    host.replies_next(&[Reply::AcceptAndReset(Duration::ZERO), Reply::AcceptAndReset(SOON)]);
    let before = connect(&mut net, far(), 7).unwrap();
    assert_eq!(poll(&mut net, Duration::MAX), [failed(7)]);
    assert_eq!(errno(net.finish_connect(before)), ECONNRESET);
    let after = connect(&mut net, far(), 8).unwrap();
    assert_eq!(poll(&mut net, Duration::MAX), [writable(8)]);
    net.finish_connect(after).unwrap();
    assert_eq!(poll(&mut net, Duration::MAX), [failed(8)]);
    assert_eq!(sim.elapsed(), SOON);
    assert_eq!(errno(receive(&mut net, after)), ECONNRESET);
    let third = connect(&mut net, far(), 9).unwrap();
    poll(&mut net, Duration::ZERO);
    net.finish_connect(third).unwrap();
    host.reset_all();
    assert_eq!(errno(receive(&mut net, third)), ECONNRESET, "what was ordered is used up");
}

#[test]
fn unix_hosts_go_by_their_names() {
    let (mut net, sim) = SimNet::new(1, 100);
    let path = UnixEndpoint::Path("/run/x.sock".into());
    let name = UnixEndpoint::Abstract(b"/run/x.sock".to_vec());
    let (file, other) = (sim.host(path.clone()), sim.host(name.clone()));
    let key = connect(&mut net, path.clone(), 7).unwrap();
    net.finish_connect(key).unwrap();
    assert!(file.next().is_some() && other.next().is_none());
    other.replies(Reply::Fail(ECONNREFUSED));
    assert_eq!(errno(connect(&mut net, name, 8)), ECONNREFUSED, "the call itself says so");
    assert_eq!(sim.sockets(), 1);
}

#[test]
fn ordered_errors_strike_in_order_and_are_counted() {
    let (mut net, sim) = SimNet::new(1, 100);
    let host = sim.host(far());
    sim.fail(Call::Connect, &[EMFILE, ENOBUFS, EADDRNOTAVAIL, EINTR]);
    for error in [EMFILE, ENOBUFS, EADDRNOTAVAIL, EINTR] {
        assert_eq!(errno(connect(&mut net, far(), 7)), error);
        assert_eq!((sim.hits(Call::Connect, error), sim.sockets()), (1, 0));
    }
    let key = connect(&mut net, far(), 7).unwrap();
    assert_eq!(poll(&mut net, Duration::MAX), [writable(7)]);
    sim.fail(Call::FinishConnect, &[EINTR, EAGAIN, ETIMEDOUT]);
    assert_eq!(errno(net.finish_connect(key)), EINTR);
    assert_eq!(errno(net.finish_connect(key)), EAGAIN);
    assert_eq!(poll(&mut net, Duration::MAX), [writable(7)], "it is told again");
    assert_eq!(errno(net.finish_connect(key)), ETIMEDOUT);
    assert_eq!(host.next().expect("it stood").end_seen(), End::Reset);
    net.close(key);
    assert_eq!((sim.sockets(), sim.tries(Call::Connect)), (0, 5));
    assert_eq!((host.tries(), sim.tries(Call::FinishConnect)), (5, 3));
}

#[test]
#[should_panic(expected = "before it stood")]
fn use_of_what_does_not_stand_is_noticed() {
    let (mut net, sim) = SimNet::new(1, 100);
    sim.host(far());
    let key = connect(&mut net, far(), 7).unwrap();
    let _ = send(&mut net, key, b"too early");
}

/// Connects many times over a bad network; how each ended, and the trace.
fn ordeal(seed: u64) -> (Vec<Result<(), i32>>, u64) {
    let (mut net, sim) = SimNet::new(seed, 100);
    sim.host(far());
    {
        let mut world = sim.0.borrow_mut();
        world.faults.failed_connects = 200;
        world.faults.failed_finishes = 200;
        world.faults.slow_connects = 200;
        world.faults.lost_connects = 100;
    }
    let outcomes = (0..400).map(|token| {
        let key = connect(&mut net, far(), token).map_err(|error| error.raw_os_error().unwrap())?;
        let result = match poll(&mut net, Duration::from_millis(500)).as_slice() {
            [] => Err(0),
            _ => net.finish_connect(key).map_err(|error| error.raw_os_error().unwrap()),
        };
        net.close(key);
        result
    });
    (outcomes.collect(), sim.trace())
}

#[test]
fn seed_repeats_every_fault_of_connecting() {
    let (outcomes, trace) = ordeal(3);
    assert_eq!(ordeal(3), (outcomes.clone(), trace));
    assert_ne!(ordeal(4).1, trace);
    // 0: nothing was told in time.
    let drawn = [
        0,
        EMFILE,
        ENFILE,
        ENOBUFS,
        ENOMEM,
        EADDRNOTAVAIL,
        ENETUNREACH,
        EHOSTUNREACH,
        ECONNREFUSED,
        ECONNRESET,
        ETIMEDOUT,
    ];
    for errno in drawn {
        assert!(outcomes.contains(&Err(errno)), "{errno} is drawn");
    }
    assert!(outcomes.iter().all(|outcome| outcome.is_ok() || drawn.map(Err).contains(outcome)));
    assert!(outcomes.contains(&Ok(())));
}
