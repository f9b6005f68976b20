//! Connections whose both ends are the engine's, in one loop or in two.

use std::net::SocketAddr;
use std::time::Duration;

use corewire::{Net, NetKey, PeerAddress, UnixEndpoint, Wait};

use crate::sim_errno::{EAGAIN, ECONNREFUSED, ECONNRESET, EPIPE};
use crate::sim_host::Reply;
use crate::sim_link::End;
use crate::sim_net::{Sim, SimNet};
use crate::{accept, connect, errno, failed, far, listen, poll, receive, send, told, writable};

const SOON: Duration = Duration::from_millis(30);

/// Both ends of one connection, the dialling end first.
fn joined(net: &mut SimNet, listener: NetKey) -> [NetKey; 2] {
    let dialled = connect(net, far(), 7).unwrap();
    poll(net, Duration::ZERO);
    net.finish_connect(dialled).unwrap();
    let accepted = accept(net, listener, 8);
    poll(net, Duration::ZERO);
    [dialled, accepted.key]
}

#[test]
fn engine_connects_to_itself() {
    let (mut net, sim) = SimNet::new(1, 100);
    let listener = listen(&mut net, far(), 10);
    let dialled = connect(&mut net, far(), 7).unwrap();
    let mut events = poll(&mut net, Duration::MAX);
    events.sort_by_key(|event| event.token);
    assert_eq!(events, [told(0, [1, 0, 0]), writable(7)]);
    net.finish_connect(dialled).unwrap();
    send(&mut net, dialled, b"early").unwrap();
    let accepted = accept(&mut net, listener, 8);
    assert!(matches!(accepted.peer, PeerAddress::Inet(_)) && accepted.peer != far().into());
    assert_eq!(poll(&mut net, Duration::MAX), [told(8, [1, 1, 0])]);
    assert_eq!(receive(&mut net, accepted.key).unwrap(), b"early");
    send(&mut net, accepted.key, b"answer").unwrap();
    net.shutdown(accepted.key);
    assert_eq!(poll(&mut net, Duration::MAX), [failed(7)]);
    assert_eq!(receive(&mut net, dialled).unwrap(), b"answer");
    assert_eq!(receive(&mut net, dialled).unwrap(), b"");
    send(&mut net, dialled, b"last").unwrap();
    net.close(dialled);
    assert_eq!(poll(&mut net, Duration::MAX), [failed(8)]);
    assert_eq!(receive(&mut net, accepted.key).unwrap(), b"last");
    assert_eq!(receive(&mut net, accepted.key).unwrap(), b"");
    net.close(accepted.key);
    assert_eq!((sim.sockets(), sim.waiting()), (0, 0));
}

#[test]
fn full_wire_blocks_and_wakes() {
    let (mut net, sim) = SimNet::new(1, 1000);
    let listener = listen(&mut net, far(), 10);
    {
        let mut world = sim.0.borrow_mut();
        (world.to_engine_max, world.to_peer_max) = (300, 90);
    }
    let [dialled, accepted] = joined(&mut net, listener);
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let (mut sent, mut received) = (0, Vec::new());
    while received.len() < bytes.len() {
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match send(&mut net, dialled, rest) {
                Ok(count) => sent += count,
                refused => {
                    assert_eq!(errno(refused), EAGAIN);
                    break;
                }
            }
        }
        let events = poll(&mut net, Duration::MAX);
        if events.iter().any(|event| event.token == 8 && event.readable) {
            loop {
                match receive(&mut net, accepted) {
                    Ok(bytes) => received.extend(bytes),
                    empty => {
                        assert_eq!(errno(empty), EAGAIN);
                        break;
                    }
                }
            }
        }
        assert!(sent - received.len() <= 390, "no more than both buffers hold");
    }
    assert_eq!(received, bytes);
}

#[test]
fn resets_cross_the_wire() {
    let (mut net, sim) = SimNet::new(1, 100);
    let listener = listen(&mut net, far(), 10);
    // Closed with something unread.
    let [dialled, accepted] = joined(&mut net, listener);
    send(&mut net, dialled, b"unread").unwrap();
    poll(&mut net, Duration::ZERO);
    net.close(accepted);
    assert_eq!(poll(&mut net, Duration::ZERO), [failed(7)]);
    assert_eq!(errno(receive(&mut net, dialled)), ECONNRESET);
    net.close(dialled);
    // Written to after it was closed.
    let [dialled, accepted] = joined(&mut net, listener);
    net.close(accepted);
    poll(&mut net, Duration::ZERO);
    send(&mut net, dialled, b"nobody reads this").unwrap();
    assert_eq!(poll(&mut net, Duration::ZERO), [failed(7)]);
    assert_eq!(errno(send(&mut net, dialled, b"more")), EPIPE);
    net.close(dialled);
    // By the network.
    let [dialled, accepted] = joined(&mut net, listener);
    sim.host(far()).reset_all();
    assert_eq!(errno(receive(&mut net, dialled)), ECONNRESET);
    assert_eq!(errno(receive(&mut net, accepted)), ECONNRESET);
}

#[test]
fn listener_with_a_full_backlog_is_tried_again() {
    let (mut net, sim) = SimNet::new(1, 100);
    let listener = listen(&mut net, far(), 1);
    let _first = connect(&mut net, far(), 1).unwrap();
    let second = connect(&mut net, far(), 2).unwrap();
    assert_eq!(poll(&mut net, Duration::ZERO).len(), 2);
    assert_eq!(poll(&mut net, Duration::from_millis(1500)), [], "it is full still");
    accept(&mut net, listener, 9);
    assert_eq!(poll(&mut net, Duration::ZERO), [writable(9)]);
    assert_eq!(poll(&mut net, Duration::MAX).len(), 2);
    assert_eq!(sim.elapsed(), Duration::from_secs(2));
    net.finish_connect(second).unwrap();
    net.close(listener);
    let refused = connect(&mut net, far(), 3).unwrap();
    assert_eq!(errno(net.finish_connect(refused)), ECONNREFUSED);
    let again = listen(&mut net, far(), 1);
    joined(&mut net, again);
}

#[test]
fn host_stands_before_the_listener_at_its_address() {
    let (mut net, sim) = SimNet::new(1, 100);
    let name = UnixEndpoint::Abstract(b"back end".to_vec());
    let listener = listen(&mut net, name.clone(), 10);
    let host = sim.host(name.clone());
    host.replies_next(&[Reply::FailAtOnce(ECONNREFUSED), Reply::AcceptAfter(SOON)]);
    assert_eq!(errno(connect(&mut net, name.clone(), 7)), ECONNREFUSED);
    let key = connect(&mut net, name, 7).unwrap();
    assert_eq!(poll(&mut net, Duration::MAX).len(), 2);
    assert_eq!(sim.elapsed(), SOON);
    net.finish_connect(key).unwrap();
    assert_eq!(accept(&mut net, listener, 8).peer, PeerAddress::Unix);
    assert!(host.next().is_none(), "it is the engine's");
}

/// A loop that listens and one beside it.
fn two_loops() -> (SimNet, SimNet, Sim) {
    let (mut first, sim) = SimNet::new(1, 100);
    listen(&mut first, far(), 10);
    let second = SimNet::beside(&sim, 100);
    (first, second, sim)
}

#[test]
fn loops_hear_of_their_own_alone() {
    let (mut server, mut client, _) = two_loops();
    let dialled = connect(&mut client, far(), 7).unwrap();
    assert_eq!(poll(&mut client, Duration::MAX), [writable(7)]);
    assert_eq!(poll(&mut server, Duration::MAX), [told(0, [1, 0, 0])]);
    client.finish_connect(dialled).unwrap();
    let accepted = accept(&mut server, NetKey(0), 8);
    assert_eq!(poll(&mut client, Duration::ZERO), []);
    assert_eq!(poll(&mut server, Duration::MAX), [writable(8)]);
    send(&mut client, dialled, b"across").unwrap();
    assert_eq!(poll(&mut server, Duration::MAX), [told(8, [1, 1, 0])]);
    assert_eq!(receive(&mut server, accepted.key).unwrap(), b"across");
}

#[test]
fn time_goes_no_further_than_the_first_who_wakes() {
    let (mut server, mut client, sim) = two_loops();
    let long = SOON * 10;
    assert_eq!(poll(&mut server, SOON), [], "alone it sleeps to its end");
    assert_eq!(sim.elapsed(), SOON);
    assert_eq!(poll(&mut client, long), [], "the other has not slept again");
    assert_eq!(sim.elapsed(), SOON);
    assert_eq!(poll(&mut server, SOON), []);
    assert_eq!(sim.elapsed(), 2 * SOON, "both sleep");
    assert_eq!(poll(&mut server, long), []);
    assert_eq!(sim.elapsed(), SOON + long, "the other's sleep ends first");
    poll(&mut client, long);
    // A wake from outside holds the time as well.
    poll(&mut server, long);
    let until = sim.elapsed();
    server.waker().wake();
    assert_eq!(poll(&mut client, long), []);
    assert_eq!(sim.elapsed(), until);
    // And so does what came over a wire.
    poll(&mut server, long);
    connect(&mut client, far(), 7).unwrap();
    poll(&mut client, long);
    assert_eq!(poll(&mut client, long), []);
    assert_eq!(sim.elapsed(), until);
    assert_eq!(poll(&mut server, long), [told(0, [1, 0, 0])]);
}

#[test]
#[should_panic(expected = "another loop has something to do and no turn")]
fn loop_that_is_forgotten_is_noticed() {
    let (mut server, mut client, _) = two_loops();
    connect(&mut client, far(), 7).unwrap();
    poll(&mut client, Duration::ZERO);
    loop {
        server.poll(&mut Vec::new(), Wait::Forever).unwrap();
    }
}

#[test]
fn loop_that_ends_closes_everything() {
    let (mut server, mut client, sim) = two_loops();
    let other = SocketAddr::from(([192, 0, 2, 8], 80));
    let host = sim.host(other);
    let peer = {
        let key = connect(&mut server, other, 3).unwrap();
        server.finish_connect(key).unwrap();
        host.next().unwrap()
    };
    let keys = [7, 8].map(|token| {
        let key = connect(&mut client, far(), token).unwrap();
        client.finish_connect(key).unwrap();
        key
    });
    poll(&mut client, Duration::ZERO);
    accept(&mut server, NetKey(0), 9);
    drop(server);
    assert_eq!(poll(&mut client, Duration::MAX).len(), 2);
    assert_eq!(receive(&mut client, keys[0]).unwrap(), b"", "closed");
    assert_eq!(errno(receive(&mut client, keys[1])), ECONNRESET, "never accepted");
    assert_eq!((peer.end_seen(), sim.sockets()), (End::Fin, 2));
    let refused = connect(&mut client, far(), 10).unwrap();
    assert_eq!(errno(client.finish_connect(refused)), ECONNREFUSED);
}
