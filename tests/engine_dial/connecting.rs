//! Which of several addresses it becomes, and when (RFC 8305 §5).

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use corewire::{DialError, DialPhase};

use crate::client_bed::Bed;
use crate::sim_errno::{EADDRNOTAVAIL, ECONNREFUSED, EHOSTUNREACH, EMFILE, ENETUNREACH, ETIMEDOUT};
use crate::sim_host::{Reply, SimHost};
use crate::sim_server::SimServer;
use crate::sim_world::Call;

const STEP: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_millis(2);

/// Hosts that reply so, and their addresses.
fn hosts<const COUNT: usize>(
    bed: &Bed,
    replies: [Reply; COUNT],
) -> (Vec<SocketAddr>, Vec<SimHost>) {
    let address = |number: usize| SocketAddr::from(([198, 51, 100, number as u8], 80));
    let addresses: Vec<_> = (0..COUNT).map(address).collect();
    let hosts = addresses.iter().zip(replies).map(|(address, reply)| {
        let host = bed.sim.host(*address);
        host.replies(reply);
        host
    });
    let hosts = hosts.collect();
    (addresses, hosts)
}

fn tries(hosts: &[SimHost]) -> Vec<u64> {
    hosts.iter().map(SimHost::tries).collect()
}

#[test]
fn silent_address_is_joined_by_the_next_after_a_quarter_of_a_second() {
    let mut bed = Bed::new(|_| {});
    let replies = [Reply::Silence, Reply::Silence, Reply::Accept, Reply::Accept];
    let (addresses, hosts) = hosts(&bed, replies);
    let id = bed.dial_all(&addresses);
    bed.turn();
    assert_eq!(tries(&hosts), [1, 0, 0, 0]);
    bed.run_for(STEP - TICK);
    assert_eq!(tries(&hosts), [1, 0, 0, 0], "not earlier");
    bed.run_for(2 * TICK);
    assert_eq!(tries(&hosts), [1, 1, 0, 0]);
    bed.run_for(STEP + TICK);
    assert_eq!(tries(&hosts), [1, 1, 1, 0]);
    assert_eq!((bed.sim.sockets(), hosts[0].held(), hosts[1].held()), (1, 0, 0), "losers go");
    let mut server = SimServer::new(hosts[2].next().unwrap());
    server.upgrade();
    bed.turn();
    assert_eq!(bed.heard(id).len(), 2);
    assert_eq!(bed.reactor.counters().dials_failed, 0);
}

#[test]
fn earlier_address_that_answers_late_still_wins_over_silence() {
    let mut bed = Bed::new(|_| {});
    let replies = [Reply::AcceptAfter(STEP + STEP / 2), Reply::Silence, Reply::Silence];
    let (addresses, hosts) = hosts(&bed, replies);
    bed.dial_all(&addresses);
    bed.run_for(2 * STEP);
    assert_eq!(tries(&hosts), [1, 1, 0]);
    assert!(hosts[0].next().is_some());
    assert_eq!((bed.sim.sockets(), hosts[1].held()), (1, 0));
}

#[test]
fn failures_are_followed_by_the_next_at_once_and_the_last_is_told() {
    let failing = [
        Reply::FailAtOnce(ENETUNREACH),
        Reply::Fail(ECONNREFUSED),
        Reply::AcceptAndReset(Duration::ZERO),
        Reply::FailAfter(TICK, EHOSTUNREACH),
    ];
    let mut bed = Bed::new(|_| {});
    let (addresses, hosts) = hosts(&bed, failing);
    let id = bed.dial_all(&addresses);
    bed.run_for(2 * TICK);
    assert_eq!(tries(&hosts), [1; 4]);
    let failure = bed.failure(id);
    assert!(failure.at <= TICK, "{failure:?}");
    let DialError::Io { phase: DialPhase::Connect, error } = &failure.error else { panic!() };
    assert_eq!(error.raw_os_error(), Some(EHOSTUNREACH));
    bed.assert_empty();
}

#[test]
fn errors_of_the_calls_are_told() {
    for (call, error) in [
        (Call::Connect, EMFILE),
        (Call::Connect, EADDRNOTAVAIL),
        (Call::FinishConnect, ETIMEDOUT),
        (Call::FinishConnect, ECONNREFUSED),
    ] {
        let mut bed = Bed::new(|_| {});
        bed.sim.fail(call, &[error]);
        let id = bed.dial();
        bed.turns(2);
        let DialError::Io { phase, error: told } = &bed.failure(id).error else { panic!() };
        assert_eq!((*phase, told.raw_os_error()), (DialPhase::Connect, Some(error)));
        bed.assert_empty();
    }
}

#[test]
fn silence_of_all_ends_with_the_phase() {
    let timeout = 3 * STEP - STEP / 2;
    let mut bed = Bed::new(|settings| settings.dial.timeouts.connect = timeout);
    let (addresses, hosts) = hosts(&bed, [Reply::Silence; 9]);
    let id = bed.dial_all(&addresses);
    bed.run_for(10 * STEP);
    let failure = bed.failure(id);
    assert!(matches!(failure.error, DialError::TimedOut(DialPhase::Connect)), "{failure:?}");
    assert!(failure.at >= timeout && failure.at <= timeout + TICK, "{failure:?}");
    let held: usize = hosts.iter().map(SimHost::held).sum();
    assert_eq!((hosts.iter().map(SimHost::tries).sum::<u64>(), held), (3, 0));
    bed.assert_empty();
}

#[test]
fn connection_that_resets_before_the_answer_is_told_as_the_upgrades() {
    let mut bed = Bed::new(|_| {});
    bed.host.replies(Reply::AcceptAndReset(TICK));
    let id = bed.dial();
    bed.run_for(2 * TICK);
    let DialError::Io { phase, error } = &bed.failure(id).error else { panic!() };
    assert_eq!((*phase, error.kind()), (DialPhase::Upgrade, ErrorKind::ConnectionReset));
    bed.assert_empty();
}
