use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::limits::BALANCE_WAIT_MAX;

const SECOND: Duration = Duration::from_secs(1);
/// Draws that give the shortest and the longest of all delays.
const SHORTEST: u64 = 0;
const LONGEST: u64 = u64::MAX;

fn weight(weight: u32) -> NonZeroU32 {
    NonZeroU32::new(weight).unwrap()
}

/// A balancer of `policy` with endpoints of these weights, named `a`, `b` and so on.
fn balancer(policy: Balance, weights: &[u32], now: Instant) -> (Balancer, Vec<EndpointId>) {
    let mut balancer = Balancer::new(policy, Some(Ejection::default()), None);
    let add = |(weight_, name)| balancer.add(name, weight(weight_), now).unwrap();
    let ids = weights.iter().copied().zip(NAMES).map(add).collect();
    (balancer, ids)
}

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

/// The names of the next `count` picks among all candidates.
fn picks(balancer: &mut Balancer, count: usize, now: Instant) -> String {
    let picks = (0..count).map(|_| balancer.pick(now, 0, |_| true));
    let picks: Vec<_> = picks.collect();
    picks.into_iter().map(|id| id.and_then(|id| balancer.name(id)).unwrap_or("-")).collect()
}

fn fail(balancer: &mut Balancer, id: EndpointId, times: u32, now: Instant) {
    (0..times).for_each(|_| balancer.handle_outcome(id, Outcome::Failure, now, LONGEST));
}

fn state(balancer: &Balancer, id: EndpointId) -> EndpointState {
    balancer.stats(id).unwrap().state
}

fn active(balancer: &Balancer, id: EndpointId) -> u64 {
    balancer.stats(id).unwrap().active
}

#[test]
fn smooth_round_robin_gives_the_sequence_of_nginx() {
    let now = Instant::now();
    let (mut balancer, _) = balancer(Balance::WeightedRoundRobin, &[5, 1, 1], now);
    // The example of the commit that brought it to nginx, twice through.
    assert_eq!(picks(&mut balancer, 14, now), "aabacaaaabacaa");
}

#[test]
fn weights_that_change_owe_nothing_to_those_before() {
    let now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::WeightedRoundRobin, &[1000, 1], now);
    for _ in 0..450 {
        assert_eq!(balancer.pick(now, 0, |_| true), Some(ids[0]));
    }
    // Nothing has changed, so the rarer one still comes in its time.
    let names: Vec<_> = ids.iter().map(|id| balancer.name(*id).unwrap().to_owned()).collect();
    balancer.add(&names[0], weight(1000), now).unwrap();
    assert!(picks(&mut balancer, 100, now).contains('b'));
    balancer.add(&names[0], weight(1), now).unwrap();
    assert_eq!(picks(&mut balancer, 6, now), "ababab");
}

#[test]
fn round_robin_gives_each_its_turn_whatever_its_weight() {
    let now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::RoundRobin, &[5, 1, 1], now);
    assert_eq!(picks(&mut balancer, 7, now), "abcabca");
    let without_b = balancer.pick(now, 0, |id| id != ids[1]);
    assert_eq!(without_b, Some(ids[2]));
    assert_eq!(picks(&mut balancer, 1, now), "b", "its turn was kept");
    assert_eq!(balancer.pick(now, 0, |_| false), None);
    assert_eq!(Balancer::new(Balance::RoundRobin, None, None).pick(now, 0, |_| true), None);
}

proptest! {
    #[test]
    fn weights_hold_over_every_window_and_nobody_runs_ahead(
        weights in prop::collection::vec(1..20_u32, 1..8),
    ) {
        let now = Instant::now();
        let (mut balancer, ids) = balancer(Balance::WeightedRoundRobin, &weights, now);
        let sum: u32 = weights.iter().sum();
        let picked: Vec<_> = (0..3 * sum).map(|_| balancer.pick(now, 0, |_| true)).collect();
        let count = |window: &[_], id| window.iter().filter(|pick| **pick == Some(id)).count();
        for (id, weight) in ids.iter().zip(&weights) {
            for window in picked.windows(sum as usize) {
                prop_assert_eq!(count(window, *id), *weight as usize);
            }
            for end in 0..picked.len() {
                // Its count is below its share plus one: nobody takes a turn before it is earned.
                let ahead = (count(&picked[..end], *id) as i64 - 1) * i64::from(sum);
                prop_assert!(ahead < end as i64 * i64::from(*weight));
            }
        }
    }
}

#[test]
fn a_reload_of_the_membership_does_not_reset_what_is_out() {
    let now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::LeastConnections, &[1, 1], now);
    (0..10).for_each(|_| balancer.handle_acquired(ids[0]));
    (0..3).for_each(|_| balancer.handle_acquired(ids[1]));
    // A new configuration: everything is removed, and the same is added.
    ids.iter().for_each(|id| balancer.remove(*id, now));
    assert_eq!(balancer.poll_action(), None, "what is out keeps them");
    assert_eq!(balancer.pick(now, 0, |_| true), None);
    balancer.handle_released(ids[0]);
    assert_eq!(balancer.add("a", weight(1), now), Ok(ids[0]));
    assert_eq!(balancer.add("b", weight(1), now), Ok(ids[1]));
    assert_eq!([active(&balancer, ids[0]), active(&balancer, ids[1])], [9, 3]);
    // The next six go to `b`, until it has as many as `a`. Were the counts lost, they would be
    // shared.
    for _ in 0..6 {
        let id = balancer.pick(now, 0, |_| true).unwrap();
        assert_eq!(id, ids[1]);
        balancer.handle_acquired(id);
    }
    // Leases from before the reload come back to the endpoint that gave them.
    (0..9).for_each(|_| balancer.handle_released(ids[0]));
    assert_eq!([active(&balancer, ids[0]), active(&balancer, ids[1])], [0, 9]);
}

#[test]
fn what_is_drained_runs_out_and_is_gone() {
    let now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::RoundRobin, &[1, 1, 1], now);
    balancer.handle_acquired(ids[0]);
    balancer.drain(ids[0], now);
    assert_eq!(state(&balancer, ids[0]), EndpointState::Draining);
    assert_eq!(picks(&mut balancer, 4, now), "bcbc");
    assert_eq!(balancer.poll_action(), None);
    balancer.handle_released(ids[0]);
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Gone(ids[0])));
    assert_eq!(balancer.poll_action(), None);
    assert_eq!((balancer.stats(ids[0]), balancer.name(ids[0])), (None, None));
    assert_eq!(balancer.id_of("a"), None);
    // Its place is used again, its name is not.
    let again = balancer.add("a", weight(1), now).unwrap();
    assert_eq!(again.index(), ids[0].index());
    assert_ne!(again, ids[0]);
    balancer.handle_acquired(ids[0]);
    balancer.handle_released(ids[0]);
    balancer.handle_outcome(ids[0], Outcome::Failure, now, 0);
    balancer.remove(ids[0], now);
    let fresh = balancer.stats(again).unwrap();
    assert_eq!((fresh.active, fresh.failures, fresh.state), (0, 0, EndpointState::Serving));
    assert!(balancer.endpoints().eq([ids[1], ids[2], again]));
    // Draining does not bring back what was removed.
    balancer.handle_acquired(again);
    balancer.remove(again, now);
    balancer.drain(again, now);
    assert_eq!(state(&balancer, again), EndpointState::Removed);
}

#[test]
fn an_endpoint_too_many_is_refused() {
    let now = Instant::now();
    let mut balancer = Balancer::new(Balance::RoundRobin, None, None);
    for index in 0..ENDPOINTS_MAX {
        balancer.add(&index.to_string(), weight(1), now).unwrap();
    }
    assert_eq!(balancer.add("more", weight(1), now), Err(TooManyEndpoints));
    let id = balancer.add("7", weight(3), now).unwrap();
    assert_eq!(balancer.stats(id).unwrap().weight, weight(3), "a new weight needs no room");
    balancer.remove(id, now);
    assert_eq!(balancer.add("more", weight(1), now), Err(TooManyEndpoints), "not gone yet");
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Gone(id)));
    balancer.add("more", weight(1), now).unwrap();
}

#[test]
fn failures_in_a_row_eject_and_the_back_off_doubles_up_to_its_cap() {
    let mut now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::RoundRobin, &[1, 1], now);
    fail(&mut balancer, ids[0], 4, now);
    balancer.handle_outcome(ids[0], Outcome::Success, now, 0);
    fail(&mut balancer, ids[0], 4, now);
    assert_eq!(state(&balancer, ids[0]), EndpointState::Serving, "not in a row");
    fail(&mut balancer, ids[0], 1, now);
    for (index, seconds) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
        assert_eq!(state(&balancer, ids[0]), EndpointState::Ejected);
        assert_eq!(balancer.stats(ids[0]).unwrap().ejections, index as u64 + 1);
        let until = balancer.poll_timeout().unwrap();
        // The longest draw is a nanosecond short of the whole.
        let short = seconds * SECOND - (until - now);
        assert!(short <= Duration::from_nanos(1), "{seconds} s: short by {short:?}");
        balancer.handle_timeout(until - Duration::from_nanos(1));
        assert_eq!(picks(&mut balancer, 2, now), "bb");
        // What was begun before the ejection says nothing about it.
        balancer.handle_outcome(ids[0], Outcome::Success, now, 0);
        fail(&mut balancer, ids[0], 9, now);
        now = until;
        balancer.handle_timeout(now);
        assert_eq!(
            (state(&balancer, ids[0]), balancer.poll_timeout()),
            (EndpointState::OnTrial, None)
        );
        balancer.handle_outcome(ids[0], Outcome::Success, now, 0);
        assert_eq!(state(&balancer, ids[0]), EndpointState::OnTrial, "it was not tried yet");
        let picked = picks(&mut balancer, 4, now);
        assert_eq!(picked.matches('a').count(), 1, "one at a time: {picked}");
        fail(&mut balancer, ids[0], 1, now);
    }
}

#[test]
fn a_trial_that_succeeds_readmits_and_a_relapse_waits_longer_until_it_was_stable() {
    let mut now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::RoundRobin, &[1, 1], now);
    let ejection = Ejection::default();
    let mut eject = |balancer: &mut Balancer, after: Duration| {
        now += after;
        fail(balancer, ids[0], ejection.failures, now);
        let until = balancer.poll_timeout().unwrap();
        let back_off = until - now;
        now = until;
        balancer.handle_timeout(now);
        assert!(picks(balancer, 2, now).contains('a'));
        balancer.handle_outcome(ids[0], Outcome::Success, now, 0);
        assert_eq!(state(balancer, ids[0]), EndpointState::Serving);
        back_off.as_secs_f64().round()
    };
    assert_eq!(eject(&mut balancer, Duration::ZERO), 1.0);
    assert_eq!(eject(&mut balancer, Duration::ZERO), 2.0);
    let stable = ejection.back_off_max;
    assert_eq!(eject(&mut balancer, stable - Duration::from_nanos(1)), 4.0);
    assert_eq!(eject(&mut balancer, stable), 1.0);
}

#[test]
fn a_trial_without_result_makes_way_for_the_next() {
    let mut now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::RoundRobin, &[1, 1], now);
    fail(&mut balancer, ids[0], 5, now);
    now += SECOND;
    balancer.handle_timeout(now);
    assert!(picks(&mut balancer, 2, now).contains('a'));
    let timeout = Ejection::default().trial_timeout;
    assert_eq!(balancer.poll_timeout(), Some(now + timeout));
    balancer.handle_timeout(now + timeout - Duration::from_nanos(1));
    assert_eq!(picks(&mut balancer, 3, now), "bbb");
    now += timeout;
    balancer.handle_timeout(now);
    assert!(picks(&mut balancer, 2, now).contains('a'));
    assert_eq!(balancer.stats(ids[0]).unwrap().ejections, 1);
}

#[test]
fn back_offs_are_spread_over_the_upper_half() {
    let now = Instant::now();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let waits: Vec<Duration> = (0..1000)
        .map(|_| {
            let (mut balancer, ids) = balancer(Balance::RoundRobin, &[1, 1], now);
            (0..5).for_each(|_| {
                balancer.handle_outcome(ids[0], Outcome::Failure, now, random.next_u64());
            });
            balancer.poll_timeout().unwrap() - now
        })
        .collect();
    let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
    assert!(*least >= SECOND / 2 && *least < SECOND * 51 / 100, "{least:?}");
    assert!(*most <= SECOND && *most > SECOND * 99 / 100, "{most:?}");
    let mean = waits.iter().sum::<Duration>() / 1000;
    // Three standard deviations of the mean of 1,000 draws are 14 ms.
    assert!((SECOND * 3 / 4).abs_diff(mean) < Duration::from_millis(14), "{mean:?}");
}

#[test]
fn times_too_long_to_add_to_the_clock_are_cut() {
    let mut now = Instant::now();
    let ejection = Ejection {
        failures: 0,
        back_off: Duration::MAX,
        back_off_max: Duration::MAX,
        trial_timeout: Duration::MAX,
        ejected_percent_max: 255,
    };
    let check = HealthCheck { interval: Duration::MAX };
    let mut balancer = Balancer::new(Balance::RoundRobin, Some(ejection), Some(check));
    let id = balancer.add("a", weight(u32::MAX), now).unwrap();
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(id)));
    balancer.handle_probe(id, Outcome::Success, now, LONGEST);
    assert!(balancer.poll_timeout().unwrap() <= now + BALANCE_WAIT_MAX * 11 / 10);
    fail(&mut balancer, id, 1, now);
    assert_eq!(state(&balancer, id), EndpointState::Ejected);
    now = balancer.poll_timeout().unwrap();
    balancer.handle_timeout(now);
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(id)));
}

#[test]
fn at_the_bound_of_ejections_what_fails_stays_in_service() {
    let now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::RoundRobin, &[1; 5], now);
    ids[..4].iter().for_each(|id| fail(&mut balancer, *id, 5, now));
    let ejected = |balancer: &Balancer| {
        let is_ejected = |id: &&EndpointId| state(balancer, **id) == EndpointState::Ejected;
        ids.iter().filter(is_ejected).map(|id| balancer.name(*id).unwrap()).collect::<String>()
    };
    assert_eq!(ejected(&balancer), "ab", "two are half of five, rounded down");
    assert_eq!(picks(&mut balancer, 3, now), "cde");
    // With one more there is room for a third: the next that fails.
    balancer.add("f", weight(1), now).unwrap();
    fail(&mut balancer, ids[3], 1, now);
    assert_eq!(ejected(&balancer), "abd");
    // An ejected one that leaves makes room too.
    balancer.remove(ids[0], now);
    assert_eq!(ejected(&balancer), "bd");
    let (mut alone, only) = self::balancer(Balance::RoundRobin, &[1], now);
    fail(&mut alone, only[0], 100, now);
    assert_eq!(picks(&mut alone, 2, now), "aa", "the only one is better than none");
    assert_eq!(alone.stats(only[0]).unwrap().failures, 100);
}

#[test]
fn when_too_many_are_out_after_a_removal_the_first_to_return_does() {
    let now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::RoundRobin, &[1; 4], now);
    fail(&mut balancer, ids[0], 5, now);
    fail(&mut balancer, ids[1], 5, now - SECOND / 2);
    balancer.remove(ids[2], now);
    assert_eq!(state(&balancer, ids[0]), EndpointState::Ejected);
    assert_eq!(state(&balancer, ids[1]), EndpointState::Serving, "it had less to wait");
    balancer.drain(ids[3], now);
    balancer.drain(ids[1], now);
    assert_eq!(picks(&mut balancer, 2, now), "aa", "the last one is never lost");
}

#[test]
fn probes_come_at_their_interval_and_are_the_trials() {
    let mut now = Instant::now();
    let check = Some(HealthCheck::default());
    let mut balancer = Balancer::new(Balance::RoundRobin, Some(Ejection::default()), check);
    let a = balancer.add("a", weight(1), now).unwrap();
    let b = balancer.add("b", weight(1), now).unwrap();
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(a)), "at once");
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(b)));
    assert_eq!((balancer.poll_action(), balancer.poll_timeout()), (None, None));
    for failures in 1..=5 {
        balancer.handle_probe(a, Outcome::Failure, now, SHORTEST);
        balancer.handle_probe(a, Outcome::Failure, now, SHORTEST);
        assert_eq!(balancer.stats(a).unwrap().failures, failures, "one result for each probe");
        if failures < 5 {
            assert_eq!(balancer.poll_timeout(), Some(now + 9 * SECOND));
            balancer.handle_timeout(now + 9 * SECOND - Duration::from_nanos(1));
            assert_eq!(balancer.poll_action(), None);
            now += 9 * SECOND;
            balancer.handle_timeout(now);
            assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(a)));
        }
    }
    assert_eq!(state(&balancer, a), EndpointState::Ejected);
    assert_eq!(balancer.poll_timeout(), Some(now + SECOND / 2), "the back-off, not the interval");
    now += SECOND / 2;
    balancer.handle_timeout(now);
    assert_eq!(state(&balancer, a), EndpointState::OnTrial);
    assert_eq!(picks(&mut balancer, 2, now), "bb", "no request is put at risk");
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(a)));
    balancer.handle_probe(a, Outcome::Success, now, LONGEST);
    assert_eq!(state(&balancer, a), EndpointState::Serving);
    let short = (now + 11 * SECOND).duration_since(balancer.poll_timeout().unwrap());
    assert!(short <= Duration::from_nanos(1), "short by {short:?}");
    balancer.remove(a, now);
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Gone(a)));
    balancer.handle_timeout(now + 60 * SECOND);
    assert_eq!(balancer.poll_action(), None, "what is gone is not probed");
    // A probe that is under way when its endpoint leaves and returns is not sent twice.
    balancer.handle_acquired(b);
    balancer.remove(b, now);
    assert_eq!(balancer.add("b", weight(1), now), Ok(b));
    assert_eq!(balancer.poll_action(), None);
    balancer.handle_probe(b, Outcome::Success, now, SHORTEST);
    balancer.remove(b, now);
    assert_eq!(balancer.add("b", weight(1), now), Ok(b));
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(b)));
}

#[test]
fn probe_that_is_not_made_says_nothing_and_the_next_one_comes() {
    let mut now = Instant::now();
    let ejection = Ejection { ejected_percent_max: 100, ..Ejection::default() };
    let check = Some(HealthCheck::default());
    let mut balancer = Balancer::new(Balance::RoundRobin, Some(ejection), check);
    let id = balancer.add("a", weight(1), now).unwrap();
    assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(id)));
    let next = |balancer: &mut Balancer| {
        let now = balancer.poll_timeout().expect("there is another");
        balancer.handle_timeout(now);
        assert_eq!(balancer.poll_action(), Some(BalanceAction::Probe(id)));
        now
    };
    for _ in 0..10 {
        balancer.handle_probe_unmade(id, now, SHORTEST);
        balancer.handle_probe_unmade(id, now, LONGEST);
        assert_eq!(balancer.poll_timeout(), Some(now + 9 * SECOND));
        now = next(&mut balancer);
    }
    assert_eq!(balancer.stats(id).unwrap().failures, 0);
    fail(&mut balancer, id, 5, now);
    balancer.handle_probe_unmade(id, now, SHORTEST);
    for _ in 0..3 {
        now = next(&mut balancer);
        assert_eq!(state(&balancer, id), EndpointState::OnTrial);
        balancer.handle_probe_unmade(id, now, SHORTEST);
        assert_eq!(state(&balancer, id), EndpointState::Ejected);
    }
}

#[test]
fn two_choices_draw_every_pair_alike() {
    let now = Instant::now();
    let (mut balancer, ids) = balancer(Balance::PowerOfTwoChoices, &[1; 5], now);
    // So many are active that the order of loads is a, b, c, d, e: who is picked is the smaller.
    for (count, id) in ids.iter().enumerate() {
        (0..count).for_each(|_| balancer.handle_acquired(*id));
    }
    let mut random = ChaCha8Rng::seed_from_u64(7);
    const PICKS: usize = 100_000;
    for _ in 0..PICKS {
        balancer.pick(now, random.next_u64(), |_| true).unwrap();
    }
    // Of the ten pairs, `a` is the smaller in four, `b` in three, and `e` in none.
    for (id, pairs) in ids.iter().zip([4, 3, 2, 1, 0]) {
        let expected = PICKS * pairs / 10;
        let picks = balancer.stats(*id).unwrap().picks as usize;
        // Four standard deviations of a binomial at its widest.
        assert!(picks.abs_diff(expected) <= if pairs == 0 { 0 } else { 620 }, "{id:?}: {picks}");
    }
}

#[test]
fn two_choices_keep_loads_together_where_one_does_not() {
    let now = Instant::now();
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut balancer = Balancer::new(Balance::PowerOfTwoChoices, None, None);
    const ENDPOINTS: usize = 100;
    let add = |index: usize| balancer.add(&index.to_string(), weight(1), now).unwrap();
    let ids: Vec<_> = (0..ENDPOINTS).map(add).collect();
    let mut by_one_choice = [0_u64; ENDPOINTS];
    for _ in 0..100 * ENDPOINTS {
        let id = balancer.pick(now, random.next_u64(), |_| true).unwrap();
        balancer.handle_acquired(id);
        by_one_choice[(random.next_u64() % ENDPOINTS as u64) as usize] += 1;
    }
    // Theory (Azar, Broder, Karlin, Upfal 1999): the fullest is above the mean of 100 by
    // ln ln 100 / ln 2 + O(1), 2.2 and a little; with one choice by about 30.
    let most = ids.iter().map(|id| active(&balancer, *id)).max().unwrap();
    assert!((101..=105).contains(&most), "{most}");
    assert!(by_one_choice.into_iter().max() > Some(115));
}

#[test]
fn weights_count_for_what_is_active_too() {
    let now = Instant::now();
    for policy in [Balance::LeastConnections, Balance::PowerOfTwoChoices] {
        let (mut balancer, ids) = balancer(policy, &[3, 1], now);
        let mut random = ChaCha8Rng::seed_from_u64(9);
        for _ in 0..400 {
            let id = balancer.pick(now, random.next_u64(), |_| true).unwrap();
            balancer.handle_acquired(id);
        }
        // Of two endpoints both are always drawn, so that both policies come within a turn.
        assert!(active(&balancer, ids[0]).abs_diff(300) <= 1, "{policy:?}");
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Add(Index, u32),
    Remove(Index),
    Drain(Index),
    /// Among these candidates, a bit for each endpoint.
    Acquire(u8),
    Release(Index),
    Outcome(Index, Outcome),
    Pass(Duration),
    Poll,
}

fn operation() -> impl Strategy<Value = Operation> {
    let outcome = prop_oneof![1 => Just(Outcome::Success), 4 => Just(Outcome::Failure)];
    prop_oneof![
        3 => (any::<Index>(), 1..5_u32).prop_map(|(name, weight)| Operation::Add(name, weight)),
        1 => any::<Index>().prop_map(Operation::Remove),
        1 => any::<Index>().prop_map(Operation::Drain),
        6 => any::<u8>().prop_map(|candidates| Operation::Acquire(candidates | 0x11)),
        3 => any::<Index>().prop_map(Operation::Release),
        6 => (any::<Index>(), outcome).prop_map(|(name, how)| Operation::Outcome(name, how)),
        2 => (0..4000_u64).prop_map(|millis| Operation::Pass(Duration::from_millis(millis))),
        3 => Just(Operation::Poll),
    ]
}

/// What ought to be known about an endpoint, kept by its name and by plain rules.
#[derive(Clone, Debug)]
struct Expected {
    id: EndpointId,
    weight: u32,
    is_member: bool,
    failures_in_row: u32,
    out: Out,
    ejections_in_row: u32,
    serving_since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Out {
    No,
    Until(Instant),
    Tried(Option<Instant>),
}

/// The balancer beside its model: what is out is a list of leases, nothing is counted.
struct Bed {
    balancer: Balancer,
    ejection: Ejection,
    now: Instant,
    names: BTreeMap<&'static str, Expected>,
    leases: Vec<(&'static str, EndpointId)>,
    random: ChaCha8Rng,
}

impl Bed {
    fn new(policy: Balance, seed: u64) -> Self {
        let ejection = Ejection { failures: 3, ..Ejection::default() };
        Self {
            balancer: Balancer::new(policy, Some(ejection), None),
            ejection,
            now: Instant::now(),
            names: BTreeMap::new(),
            leases: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn active(&self, name: &str) -> u64 {
        self.leases.iter().filter(|(leased, _)| *leased == name).count() as u64
    }

    fn ejected(&self) -> usize {
        self.names.values().filter(|e| e.is_member && e.out != Out::No).count()
    }

    fn ejected_max(&self) -> usize {
        self.names.values().filter(|e| e.is_member).count() / 2
    }

    fn run(&mut self, operation: Operation) {
        let now = self.now;
        let nth = |index: Index| NAMES[index.index(NAMES.len())];
        match operation {
            Operation::Add(index, new_weight) => self.add(nth(index), new_weight),
            Operation::Remove(index) | Operation::Drain(index) => {
                let Some(expected) = self.names.get_mut(nth(index)) else { return };
                expected.is_member = false;
                match operation {
                    Operation::Remove(_) => self.balancer.remove(expected.id, now),
                    _ => self.balancer.drain(expected.id, now),
                }
                self.readmit_excess();
            }
            Operation::Acquire(candidates) => self.acquire(candidates),
            Operation::Release(index) => {
                if !self.leases.is_empty() {
                    let (_, id) = self.leases.swap_remove(index.index(self.leases.len()));
                    self.balancer.handle_released(id);
                }
            }
            Operation::Outcome(index, outcome) => self.outcome(nth(index), outcome),
            Operation::Pass(by) => {
                self.now += by;
                self.balancer.handle_timeout(self.now);
                for expected in self.names.values_mut().filter(|expected| expected.is_member) {
                    if let Out::Until(at) | Out::Tried(Some(at)) = expected.out
                        && at <= self.now
                    {
                        expected.out = Out::Tried(None);
                    }
                }
            }
            Operation::Poll => {
                while let Some(action) = self.balancer.poll_action() {
                    let BalanceAction::Gone(id) = action else { panic!("no checks are on") };
                    let (name, _) = self.names.iter().find(|(_, e)| e.id == id).unwrap();
                    let name = *name;
                    let gone = self.names.remove(name).unwrap();
                    assert!(!gone.is_member && self.active(name) == 0, "{name} was in use");
                }
                let is_due = |(name, e): (&&str, &Expected)| !e.is_member && self.active(name) == 0;
                assert!(!self.names.iter().any(is_due), "one is not told to be gone");
            }
        }
    }

    fn add(&mut self, name: &'static str, new_weight: u32) {
        let id = self.balancer.add(name, weight(new_weight), self.now).unwrap();
        let fresh = Expected {
            id,
            weight: new_weight,
            is_member: true,
            failures_in_row: 0,
            out: Out::No,
            ejections_in_row: 0,
            serving_since: self.now,
        };
        let expected = self.names.entry(name).or_insert_with(|| fresh.clone());
        assert_eq!(expected.id, id, "it is the same for as long as it is not gone");
        if expected.is_member {
            expected.weight = new_weight;
        } else {
            *expected = fresh;
        }
    }

    fn acquire(&mut self, candidates: u8) {
        let is_candidate = |id: EndpointId| candidates >> (id.index() % 8) & 1 == 1;
        let is_open = |e: &Expected| e.is_member && matches!(e.out, Out::No | Out::Tried(None));
        let picked = self.balancer.pick(self.now, self.random.next_u64(), is_candidate);
        let mut open = self.names.iter().filter(|(_, e)| is_open(e) && is_candidate(e.id));
        let Some(id) = picked else {
            assert!(open.next().is_none(), "there was an endpoint");
            return;
        };
        let (name, chosen) = open.clone().find(|(_, e)| e.id == id).expect("it may be picked");
        let load = |(name, e): (&&str, &Expected)| self.active(name) as f64 / f64::from(e.weight);
        let (least, most) = open
            .clone()
            .map(load)
            .fold((f64::MAX, 0.0_f64), |(least, most), load| (least.min(load), most.max(load)));
        let chosen_load = load((name, chosen));
        match self.balancer.balance {
            Balance::LeastConnections => assert_eq!(chosen_load, least),
            Balance::PowerOfTwoChoices if open.count() > 1 && least < most => {
                let fullest = self.names.iter().filter(|(_, e)| is_open(e) && is_candidate(e.id));
                let fullest = fullest.filter(|entry| load(*entry) == most).count();
                assert!(chosen_load < most || fullest > 1, "the worst of all is never better");
            }
            Balance::RoundRobin | Balance::WeightedRoundRobin | Balance::PowerOfTwoChoices => {}
        }
        let name = *name;
        self.leases.push((name, id));
        self.balancer.handle_acquired(id);
        let expected = self.names.get_mut(name).unwrap();
        if expected.out == Out::Tried(None) {
            expected.out = Out::Tried(Some(self.now + self.ejection.trial_timeout));
        }
    }

    fn outcome(&mut self, name: &'static str, outcome: Outcome) {
        let has_room = self.ejected() < self.ejected_max();
        let (now, ejection) = (self.now, self.ejection);
        let Some(expected) = self.names.get_mut(name) else { return };
        self.balancer.handle_outcome(expected.id, outcome, now, LONGEST);
        let is_on_trial = matches!(expected.out, Out::Tried(Some(_)));
        if !expected.is_member || (expected.out != Out::No && !is_on_trial) {
            return;
        }
        if outcome == Outcome::Success {
            if is_on_trial {
                expected.serving_since = now;
            }
            (expected.failures_in_row, expected.out) = (0, Out::No);
            return;
        }
        expected.failures_in_row += 1;
        if is_on_trial || (expected.failures_in_row >= 3 && has_room) {
            let was_stable = !is_on_trial && now - expected.serving_since >= ejection.back_off_max;
            expected.ejections_in_row = if was_stable { 1 } else { expected.ejections_in_row + 1 };
            let seconds = 2.0_f64.powi(expected.ejections_in_row as i32 - 1).min(60.0);
            // The longest draw is a nanosecond short of the whole.
            let wait = Duration::from_secs_f64(seconds) - Duration::from_nanos(1);
            expected.out = Out::Until(now + wait);
        }
    }

    fn readmit_excess(&mut self) {
        while self.ejected() > self.ejected_max() {
            // Which of several that are on trial comes back is left open; the balancer says.
            let out = self.names.values_mut().filter(|e| e.is_member && e.out != Out::No);
            let key = |e: &&mut Expected| match e.out {
                Out::Until(until) => Some(until),
                Out::No | Out::Tried(_) => None,
            };
            let serving = |balancer: &Balancer, e: &Expected| {
                balancer.stats(e.id).unwrap().state == EndpointState::Serving
            };
            let mut out: Vec<_> = out.collect();
            let first = out.iter().map(key).min().unwrap();
            let mut back = out.iter_mut().filter(|e| key(e) == first);
            let back = back.find(|e| serving(&self.balancer, e)).expect("one returned");
            (back.out, back.failures_in_row, back.serving_since) = (Out::No, 0, self.now);
        }
    }

    fn check(&self) {
        assert!(self.ejected() <= self.ejected_max(), "too many are out");
        assert_eq!(self.balancer.endpoints().count(), self.names.len());
        for (name, expected) in &self.names {
            let stats = self.balancer.stats(expected.id).unwrap();
            assert_eq!(self.balancer.id_of(name), Some(expected.id));
            assert_eq!(stats.active, self.active(name), "{name}");
            assert_eq!(stats.weight, weight(expected.weight), "{name}");
            let out = match stats.state {
                EndpointState::Serving => expected.out == Out::No,
                EndpointState::Ejected => matches!(expected.out, Out::Until(_)),
                EndpointState::OnTrial => matches!(expected.out, Out::Tried(_)),
                EndpointState::Draining | EndpointState::Removed => !expected.is_member,
            };
            assert!(out, "{name} is {:?}, expected {expected:?}", stats.state);
        }
        let ends = self.names.values().filter(|e| e.is_member).filter_map(|e| match e.out {
            Out::Until(at) | Out::Tried(Some(at)) => Some(at),
            Out::No | Out::Tried(None) => None,
        });
        assert_eq!(self.balancer.poll_timeout(), ends.min());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_policy_equals_its_model_while_endpoints_come_and_go(
        policy in prop_oneof![
            Just(Balance::RoundRobin),
            Just(Balance::WeightedRoundRobin),
            Just(Balance::LeastConnections),
            Just(Balance::PowerOfTwoChoices),
        ],
        seed in any::<u64>(),
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let mut bed = Bed::new(policy, seed);
        for operation in operations {
            bed.run(operation);
            bed.check();
        }
    }
}
