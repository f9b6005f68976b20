//! What names were found to mean, for a while.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{DnsSettings, literal};
use crate::limits::RESOLVE_WAITERS_MAX;

/// The addresses of a name, in the order in which to try them, or why there are none; to be shared.
pub type Resolved = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

/// What a cache says to somebody who wants to connect.
#[derive(Clone, Debug)]
#[must_use]
pub enum Cached<W> {
    /// This is known.
    Known(Resolved),
    /// The name is asked for already, and whoever wants it is on the list.
    Waiting,
    /// The same, but the name is not asked for yet: see to it, and say what came of it by exactly
    /// one [`DnsCache::handle_answer`].
    Ask,
    /// There is no room to wait for it; here is who wanted it.
    Full(W),
}

/// Remembers names, and who waits for them. Belongs to one loop; has no clock and asks nobody.
///
/// Whoever asks for a name that is asked for already waits for the same answer, until he
/// [leaves](DnsCache::leave).
#[derive(Debug)]
pub struct DnsCache<W> {
    names: BTreeMap<(Box<str>, u16), Entry<W>>,
    found_for: Duration,
    failed_for: Duration,
    names_max: usize,
    /// Those on all lists.
    waiting: usize,
}

#[derive(Debug)]
enum Entry<W> {
    /// Most leave in the order in which they came.
    UnderWay {
        waiters: VecDeque<W>,
    },
    Known {
        resolved: Resolved,
        since: Instant,
    },
}

/// What is left when somebody has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Others wait, or nobody has waited.
    Others,
    /// The name is asked for, and nobody waits for it.
    Nobody,
}

impl<W: PartialEq> DnsCache<W> {
    /// A cache that knows nothing.
    pub fn new(settings: &DnsSettings) -> Self {
        Self {
            names: BTreeMap::new(),
            found_for: settings.found_for,
            failed_for: settings.failed_for,
            names_max: settings.names_max.max(1),
            waiting: 0,
        }
    }

    /// The addresses of `host`, which is in lower case, with `port`. One that is an address itself
    /// is known and takes no room.
    pub fn lookup(&mut self, host: &str, port: u16, waiter: W, now: Instant) -> Cached<W> {
        if let Some(address) = literal(host, port) {
            return Cached::Known(Ok([address].into()));
        }
        let key = (Box::from(host), port);
        let is_full = self.waiting >= RESOLVE_WAITERS_MAX;
        match self.names.get_mut(&key) {
            Some(Entry::Known { resolved, since })
                if age(*since, now) < lifetime(self.found_for, self.failed_for, resolved) =>
            {
                return Cached::Known(resolved.clone());
            }
            Some(Entry::UnderWay { .. }) | None if is_full => return Cached::Full(waiter),
            Some(Entry::UnderWay { waiters }) => {
                waiters.push_back(waiter);
                self.waiting += 1;
                return Cached::Waiting;
            }
            Some(Entry::Known { .. }) if is_full => return Cached::Full(waiter),
            Some(Entry::Known { .. }) => {}
            None => {
                if self.names.len() >= self.names_max && !self.forget_one(now) {
                    return Cached::Full(waiter);
                }
            }
        }
        self.names.insert(key, Entry::UnderWay { waiters: VecDeque::from([waiter]) });
        self.waiting += 1;
        Cached::Ask
    }

    /// What came of asking for a name, at this time. Gives those who waited for it, in their order,
    /// and what to tell them. A name that was not asked for changes nothing and has none.
    pub fn handle_answer(
        &mut self,
        host: &str,
        port: u16,
        answer: io::Result<Vec<SocketAddr>>,
        now: Instant,
    ) -> (Vec<W>, Resolved) {
        let resolved = answer.map(Arc::from).map_err(Arc::new);
        let Some(entry) = self.names.get_mut(&(Box::from(host), port)) else {
            return (Vec::new(), resolved);
        };
        let Entry::UnderWay { waiters } = entry else { return (Vec::new(), resolved) };
        let waiters = std::mem::take(waiters);
        self.waiting -= waiters.len();
        let waiters = Vec::from(waiters);
        *entry = Entry::Known { resolved: resolved.clone(), since: now };
        (waiters, resolved)
    }

    /// Somebody does not wait for a name any more.
    pub fn leave(&mut self, host: &str, port: u16, waiter: &W) -> Left {
        let entry = self.names.get_mut(&(Box::from(host), port));
        let Some(Entry::UnderWay { waiters }) = entry else { return Left::Others };
        if let Some(place) = waiters.iter().position(|other| other == waiter) {
            waiters.remove(place);
            self.waiting -= 1;
        }
        if waiters.is_empty() { Left::Nobody } else { Left::Others }
    }

    /// Forgets what is known; who waits goes on waiting.
    pub fn shrink(&mut self) {
        self.names.retain(|_, entry| matches!(entry, Entry::UnderWay { .. }));
    }

    /// A name is not asked for any more, and there will be no answer. For one that nobody waits for.
    pub fn handle_withdrawn(&mut self, host: &str, port: u16) {
        let key = (Box::from(host), port);
        if let Some(Entry::UnderWay { waiters }) = self.names.get(&key) {
            debug_assert!(waiters.is_empty(), "somebody would wait for ever");
            self.names.remove(&key);
        }
    }

    /// Makes room by forgetting what has the least time left. A name that somebody waits for is not
    /// forgotten; if there are no others nothing is.
    fn forget_one(&mut self, now: Instant) -> bool {
        let left = |entry: &Entry<W>| match entry {
            Entry::Known { resolved, since } => {
                let lifetime = lifetime(self.found_for, self.failed_for, resolved);
                Some(lifetime.saturating_sub(age(*since, now)))
            }
            Entry::UnderWay { .. } => None,
        };
        let known = self.names.iter().filter_map(|(key, entry)| Some((left(entry)?, key)));
        let Some(key) = known.min().map(|(_, key)| key.clone()) else { return false };
        self.names.remove(&key).is_some()
    }
}

fn age(since: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(since)
}

fn lifetime(found_for: Duration, failed_for: Duration, resolved: &Resolved) -> Duration {
    if resolved.is_ok() { found_for } else { failed_for }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn cache(names_max: usize) -> DnsCache<u32> {
        DnsCache::new(&DnsSettings { names_max, ..DnsSettings::default() })
    }

    fn found() -> io::Result<Vec<SocketAddr>> {
        Ok(vec!["192.0.2.1:80".parse().unwrap()])
    }

    fn failed() -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_known(cached: &Cached<u32>) -> bool {
        matches!(cached, Cached::Known(_))
    }

    #[test]
    fn those_who_want_a_name_that_is_asked_for_share_the_answer() {
        let now = Instant::now();
        let mut cache = cache(8);
        assert!(matches!(cache.lookup("a", 80, 1, now), Cached::Ask));
        assert!(matches!(cache.lookup("a", 80, 2, now + SECOND), Cached::Waiting));
        assert!(matches!(cache.lookup("a", 81, 3, now), Cached::Ask), "a port has its own");
        let (waiters, resolved) = cache.handle_answer("a", 80, found(), now + 2 * SECOND);
        assert_eq!((waiters, resolved.unwrap().len()), (vec![1, 2], 1));
        assert!(cache.handle_answer("a", 80, failed(), now).0.is_empty(), "not asked for");
        assert!(cache.handle_answer("b", 80, found(), now).0.is_empty());
        let Cached::Known(Ok(addresses)) = cache.lookup("a", 80, 4, now + 2 * SECOND) else {
            panic!("the answer is lost");
        };
        assert_eq!(*addresses, found().unwrap()[..]);
        assert_eq!(cache.handle_answer("a", 81, failed(), now).0, [3]);
        assert!(matches!(cache.lookup("a", 81, 5, now), Cached::Known(Err(_))));
    }

    #[test]
    fn what_was_found_holds_for_30_s_and_a_failure_for_5_s() {
        let now = Instant::now();
        for (answer, seconds) in [(found as fn() -> _, 30), (failed, 5)] {
            let mut cache = cache(8);
            assert!(matches!(cache.lookup("a", 80, 1, now), Cached::Ask));
            let _ = cache.handle_answer("a", 80, answer(), now + SECOND);
            let end = now + SECOND + seconds * SECOND;
            assert!(is_known(&cache.lookup("a", 80, 2, end - Duration::from_nanos(1))));
            assert!(matches!(cache.lookup("a", 80, 3, end), Cached::Ask));
            assert!(matches!(cache.lookup("a", 80, 4, end), Cached::Waiting), "no stale answer");
            assert_eq!(cache.handle_answer("a", 80, answer(), end).0, [3, 4]);
        }
    }

    #[test]
    fn what_is_known_is_forgotten_and_who_waits_goes_on_waiting() {
        let now = Instant::now();
        let mut cache = cache(8);
        assert!(matches!(cache.lookup("a", 80, 1, now), Cached::Ask));
        let _ = cache.handle_answer("a", 80, found(), now);
        assert!(matches!(cache.lookup("b", 80, 2, now), Cached::Ask));
        cache.shrink();
        assert!(matches!(cache.lookup("a", 80, 3, now), Cached::Ask), "forgotten");
        assert!(matches!(cache.lookup("b", 80, 4, now), Cached::Waiting));
        assert_eq!(cache.handle_answer("b", 80, found(), now).0, [2, 4]);
    }

    #[test]
    fn addresses_take_no_room() {
        let now = Instant::now();
        let mut cache = cache(1);
        for host in ["192.0.2.1", "2001:db8::1"] {
            let Cached::Known(Ok(addresses)) = cache.lookup(host, 80, 1, now) else {
                panic!("{host} is known");
            };
            assert_eq!(addresses[0].ip().to_string(), host);
        }
        assert!(cache.names.is_empty());
    }

    #[test]
    fn at_the_bound_the_name_that_ends_first_is_forgotten_and_none_that_is_awaited() {
        let now = Instant::now();
        let mut cache = cache(3);
        for (name, answer) in [("a", found as fn() -> _), ("b", failed), ("c", found)] {
            assert!(matches!(cache.lookup(name, 80, 1, now), Cached::Ask));
            let _ = cache.handle_answer(name, 80, answer(), now);
        }
        assert!(matches!(cache.lookup("d", 80, 1, now), Cached::Ask));
        assert!(
            is_known(&cache.lookup("a", 80, 1, now)) && is_known(&cache.lookup("c", 80, 1, now))
        );
        assert!(matches!(cache.lookup("b", 80, 1, now), Cached::Ask), "a failure ended first");
        assert!(matches!(cache.lookup("e", 80, 1, now), Cached::Ask));
        // Now all are awaited.
        assert!(matches!(cache.lookup("f", 80, 7, now), Cached::Full(7)));
        assert!(matches!(cache.lookup("d", 80, 2, now), Cached::Waiting));
        assert_eq!(cache.names.len(), 3);
    }

    #[test]
    fn at_the_bound_of_those_who_wait_one_more_is_refused() {
        let now = Instant::now();
        let mut cache = cache(8);
        assert!(matches!(cache.lookup("old", 80, 0, now), Cached::Ask));
        let _ = cache.handle_answer("old", 80, found(), now);
        let later = now + 30 * SECOND;
        for waiter in 0..RESOLVE_WAITERS_MAX as u32 {
            assert!(!matches!(cache.lookup("a", 80, waiter, later), Cached::Full(_)));
        }
        for host in ["a", "b", "old"] {
            assert!(matches!(cache.lookup(host, 80, 9, later), Cached::Full(9)), "{host}");
        }
        assert!(is_known(&cache.lookup("old", 80, 9, now)), "what is known needs no wait");
        assert_eq!(cache.handle_answer("a", 80, found(), later).0.len(), RESOLVE_WAITERS_MAX);
        assert!(matches!(cache.lookup("b", 80, 1, later), Cached::Ask));
    }

    #[test]
    fn who_leaves_takes_no_place_and_the_answer_is_for_the_others() {
        let now = Instant::now();
        let mut cache = cache(8);
        assert!(matches!(cache.lookup("a", 80, 0, now), Cached::Ask));
        for waiter in 1..RESOLVE_WAITERS_MAX as u32 {
            assert!(matches!(cache.lookup("a", 80, waiter, now), Cached::Waiting));
        }
        assert!(matches!(cache.lookup("b", 80, 9, now), Cached::Full(9)));
        for waiter in 0..RESOLVE_WAITERS_MAX as u32 - 2 {
            assert_eq!(cache.leave("a", 80, &waiter), Left::Others);
        }
        assert_eq!(cache.leave("a", 80, &0), Left::Others, "he has left already");
        assert_eq!(cache.waiting, 2);
        assert!(matches!(cache.lookup("b", 80, 1, now), Cached::Ask));
        assert_eq!(cache.leave("b", 80, &1), Left::Nobody);
        assert!(matches!(cache.lookup("b", 80, 2, now), Cached::Waiting), "it is asked for");
        assert_eq!(cache.leave("b", 80, &2), Left::Nobody);
        cache.handle_withdrawn("b", 80);
        assert!(matches!(cache.lookup("b", 80, 3, now), Cached::Ask));
        let last = RESOLVE_WAITERS_MAX as u32 - 2;
        assert_eq!(cache.handle_answer("a", 80, found(), now).0, [last, last + 1]);
        assert_eq!(cache.leave("a", 80, &last), Left::Others);
    }

    proptest! {
        #[test]
        fn everybody_is_told_once_and_names_are_asked_for_once_at_a_time(
            operations in prop::collection::vec((0..6_u8, 0..4_u8, 0..20_u32), 0..200),
        ) {
            let mut now = Instant::now();
            let mut cache = cache(4);
            let mut wanted: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
            for (number, (name, what, seconds)) in operations.into_iter().enumerate() {
                now += seconds * SECOND;
                let (host, number) = (format!("host-{name}"), number as u32);
                if what == 3 {
                    // The one who came first leaves.
                    let Some(waiters) = wanted.get_mut(&name) else { continue };
                    let left = if waiters.len() > 1 { Left::Others } else { Left::Nobody };
                    if !waiters.is_empty() {
                        let first = waiters.remove(0);
                        prop_assert_eq!(cache.leave(&host, 80, &first), left);
                    }
                } else if what == 0 {
                    let answer = if seconds % 2 == 0 { found() } else { failed() };
                    let (told, _) = cache.handle_answer(&host, 80, answer, now);
                    prop_assert_eq!(told, wanted.remove(&name).unwrap_or_default());
                } else {
                    match cache.lookup(&host, 80, number, now) {
                        Cached::Known(_) => prop_assert!(!wanted.contains_key(&name)),
                        Cached::Waiting => wanted.get_mut(&name).unwrap().push(number),
                        Cached::Ask => prop_assert_eq!(wanted.insert(name, vec![number]), None),
                        Cached::Full(back) => {
                            prop_assert_eq!((back, wanted.len()), (number, 4));
                        }
                    }
                }
                prop_assert!(cache.names.len() <= 4);
                prop_assert_eq!(cache.waiting, wanted.values().map(Vec::len).sum::<usize>());
            }
        }
    }
}
