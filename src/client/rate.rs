//! How much a client sends in a second, on one connection and on all of a pool together.
//!
//! A connection has a [`RateLimiter`], a pool has a [`PoolRate`] besides; a message goes when both
//! have tokens for it, and takes them from both at once. What waits keeps its order: a connection's
//! messages wait behind each other, and the first of each waits in the pool's line.
//!
//! ```text
//!            offer              tokens of our own       tokens of the pool
//!   message ───────> [backlog] ───────────────────> [line] ──────────────> poll_message
//!              \ nothing waits, and both have tokens                   /
//!               `── Go ───────────────────────────────────────────────'
//! ```
//!
//! The line is what keeps a large message from starving: without it, small messages of others would
//! take the pool's tokens as they come in, and there would never be enough at once for a large one.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Instant;

use super::backlog::{Backlog, Messages};
use crate::limit::{Allowance, TokenBucket};
use crate::wire::Opcode;

/// How much may be sent in a second, and what becomes of more. Default: as much as one likes.
///
/// In any time `T` at most `per_second · T` and one burst leave, of messages and of payload bytes.
/// Messages count as the application sends them, before they are put into batches. A message with
/// more bytes than the burst leaves when nothing else has for long enough, and the next ones wait
/// until it is paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rate {
    /// Messages in a second; 0 counts as 1. Default `None`: no bound.
    pub messages_per_second: Option<u64>,
    /// Messages that may leave at once after a rest. Default `None`: as many as in a second.
    pub messages_burst: Option<u64>,
    /// Payload bytes in a second; 0 counts as 1. Default `None`: no bound.
    pub bytes_per_second: Option<u64>,
    /// Payload bytes that may leave at once after a rest. Default `None`: as many as in a second.
    pub bytes_burst: Option<u64>,
    /// What becomes of messages that come too fast. Default [`RatePolicy::Wait`].
    pub policy: RatePolicy,
    /// Payloads that may wait on one connection, with
    /// [`WAITING_MESSAGE_BYTES`](crate::limits::WAITING_MESSAGE_BYTES) for each. A message is
    /// refused only when so much waits already, so the overshoot is at most one message. Default
    /// 1 MiB, as for what the kernel does not take. At the bound: refused.
    pub waiting_bytes_max: usize,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            messages_per_second: None,
            messages_burst: None,
            bytes_per_second: None,
            bytes_burst: None,
            policy: RatePolicy::Wait,
            waiting_bytes_max: 1 << 20,
        }
    }
}

impl Rate {
    fn bucket(&self, now: Instant) -> TokenBucket {
        let allowance = |per_second: Option<u64>, burst: Option<u64>| {
            let per_second = per_second?;
            let burst = burst.unwrap_or(per_second);
            Some(Allowance { per_second: NonZeroU64::new(per_second).unwrap_or(ONE), burst })
        };
        TokenBucket::new(
            now,
            allowance(self.messages_per_second, self.messages_burst),
            allowance(self.bytes_per_second, self.bytes_burst),
        )
    }
}

const ONE: NonZeroU64 = NonZeroU64::MIN;

/// What becomes of a message that comes too fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RatePolicy {
    /// It waits for its turn, up to [`Rate::waiting_bytes_max`]. The default: nothing is lost.
    #[default]
    Wait,
    /// It is thrown away and counted, and the sender goes on as if it had been sent. For what is
    /// stale when it is late, as positions and prices are.
    Drop,
    /// The sender is told, and has it still.
    Refuse,
}

/// What becomes of a message that was offered.
#[must_use = "only a message that may go is sent"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateVerdict {
    /// It goes now; nothing waits in front of it.
    Go,
    /// It was copied and waits.
    Waits,
    /// [`RatePolicy::Drop`]: forget it.
    Dropped,
    /// [`RatePolicy::Refuse`], or too much waits already.
    Refused,
}

/// What a rate did to the messages of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateStats {
    /// Messages that went, at once or after waiting.
    pub passed: u64,
    /// Messages that had to wait, gone or not.
    pub waited: u64,
    /// Messages thrown away under [`RatePolicy::Drop`].
    pub dropped: u64,
    /// Messages given back, under [`RatePolicy::Refuse`] or because too much waited.
    pub refused: u64,
    /// Messages that wait now.
    pub waiting: usize,
    /// Their payloads.
    pub waiting_bytes: usize,
}

/// The rate of one connection, and the messages that wait for it.
///
/// Order of calls: [`RateLimiter::offer`] for each message. When [`RateLimiter::poll_timeout`] comes,
/// or [`PoolRate::poll_ready`] gives this limiter's key, [`RateLimiter::poll_message`] until it gives
/// nothing. At the end [`RateLimiter::close`], or the pool's line stands still. A limiter whose
/// connection belongs to a pool is given that pool in every call.
#[derive(Debug)]
pub struct RateLimiter {
    /// Its name in the pool's line.
    key: u64,
    bucket: TokenBucket,
    policy: RatePolicy,
    waiting_bytes_max: usize,
    backlog: Backlog,
    /// Whether the first message waits in the pool's line. Our own bucket has tokens for it then,
    /// and goes on having them, since nothing passes it.
    is_in_line: bool,
    stats: RateStats,
}

impl RateLimiter {
    /// Full buckets. No two limiters of a pool have the same key.
    pub fn new(rate: &Rate, now: Instant, key: u64) -> Self {
        Self {
            key,
            bucket: rate.bucket(now),
            policy: rate.policy,
            waiting_bytes_max: rate.waiting_bytes_max,
            backlog: Backlog::new(RETAINED_BYTES),
            is_in_line: false,
            stats: RateStats::default(),
        }
    }

    /// What becomes of this message; whoever is told [`RateVerdict::Go`] sends it.
    pub fn offer(
        &mut self,
        now: Instant,
        opcode: Opcode,
        payload: &[u8],
        mut pool: Option<&mut PoolRate>,
    ) -> RateVerdict {
        if self.backlog.is_empty() && self.passes(now, payload.len(), pool.as_deref_mut()) {
            self.stats.passed += 1;
            return RateVerdict::Go;
        }
        match self.policy {
            RatePolicy::Drop => {
                self.stats.dropped += 1;
                RateVerdict::Dropped
            }
            RatePolicy::Wait if self.backlog.bytes() < self.waiting_bytes_max => {
                self.stats.waited += 1;
                self.backlog.push(opcode, payload);
                self.line_up(now, pool);
                RateVerdict::Waits
            }
            RatePolicy::Wait | RatePolicy::Refuse => {
                self.stats.refused += 1;
                RateVerdict::Refused
            }
        }
    }

    /// The next message that waited and may go now, to be sent before anything else.
    pub fn poll_message(
        &mut self,
        now: Instant,
        mut pool: Option<&mut PoolRate>,
    ) -> Option<(Opcode, &[u8])> {
        let (_, payload) = self.backlog.iter().next()?;
        if !self.passes(now, payload.len(), pool.as_deref_mut()) {
            self.line_up(now, pool);
            return None;
        }
        self.stats.passed += 1;
        self.backlog.take(1).next()
    }

    /// The message that [`RateLimiter::poll_message`] has just given was not taken, and is the first
    /// again.
    pub fn handle_refused(&mut self) {
        self.stats.passed -= 1;
        self.backlog.untake(1);
    }

    /// Whether a message of so many bytes that has waited elsewhere goes now.
    #[must_use = "only a message that may go is sent"]
    pub fn pass(&mut self, now: Instant, bytes: usize) -> bool {
        let passes = self.backlog.is_empty() && self.passes(now, bytes, None);
        self.stats.passed += u64::from(passes);
        passes
    }

    /// When [`RateLimiter::pass`] succeeds, if nothing waits here.
    pub fn turn_at(&self, now: Instant, bytes: usize) -> Instant {
        self.bucket.when(now, 1, bytes as u64)
    }

    /// Whether so much waits that no more is taken, though what comes too fast may wait.
    pub fn is_full(&self) -> bool {
        self.policy == RatePolicy::Wait && self.backlog.bytes() >= self.waiting_bytes_max
    }

    /// How many messages wait.
    pub const fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// When [`RateLimiter::poll_message`] is to be called. `None` while nothing waits, or while the
    /// pool's line does it: then [`PoolRate::poll_timeout`] knows.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let (_, payload) = self.backlog.iter().next()?;
        (!self.is_in_line).then(|| self.bucket.when(now, 1, payload.len() as u64))
    }

    /// What the rate did so far.
    pub fn stats(&self) -> RateStats {
        let (waiting, waiting_bytes) = (self.backlog.len(), self.backlog.payload_bytes());
        RateStats { waiting, waiting_bytes, ..self.stats }
    }

    /// Leaves the pool's line and hands back what waits, in order, to be reported as not sent.
    pub fn close(&mut self, pool: Option<&mut PoolRate>) -> Messages<'_> {
        self.step_back(pool);
        self.backlog.take(usize::MAX)
    }

    /// Makes way in the pool's line, since the connection has no room now.
    pub fn step_back(&mut self, pool: Option<&mut PoolRate>) {
        if let (Some(pool), true) = (pool, self.is_in_line) {
            pool.line.retain(|place| place.key != self.key);
            self.is_in_line = false;
        }
    }

    /// Takes the tokens for the next message from both, if both have them and it is our turn.
    fn passes(&mut self, now: Instant, bytes: usize, pool: Option<&mut PoolRate>) -> bool {
        let bytes = bytes as u64;
        match pool {
            None => self.bucket.try_take(now, 1, bytes),
            Some(pool) => {
                let passes = pool.is_turn_of(self.key)
                    && self.bucket.has(now, 1, bytes)
                    && pool.bucket.try_take(now, 1, bytes)
                    && self.bucket.try_take(now, 1, bytes);
                if passes && self.is_in_line {
                    pool.line.pop_front();
                    self.is_in_line = false;
                }
                passes
            }
        }
    }

    /// Has the first message wait in the pool's line, once our own bucket has tokens for it.
    fn line_up(&mut self, now: Instant, pool: Option<&mut PoolRate>) {
        let first = self.backlog.iter().next();
        if let (Some(pool), Some((_, payload)), false) = (pool, first, self.is_in_line) {
            let bytes = payload.len() as u64;
            if self.bucket.has(now, 1, bytes) {
                pool.line.push_back(Place { key: self.key, bytes });
                self.is_in_line = true;
            }
        }
    }
}

/// The rate that the connections of a pool share, and the line of those that wait for it. One
/// message of each stands in it at most, so they take turns.
///
/// Its [`Rate::policy`] and [`Rate::waiting_bytes_max`] mean nothing: those of the connection count.
#[derive(Debug)]
pub struct PoolRate {
    bucket: TokenBucket,
    line: VecDeque<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    key: u64,
    bytes: u64,
}

impl PoolRate {
    /// Full buckets and nobody in line.
    pub fn new(rate: &Rate, now: Instant) -> Self {
        Self { bucket: rate.bucket(now), line: VecDeque::new() }
    }

    /// Whose [`RateLimiter::poll_message`] gives a message now. Call it until nobody is left: for
    /// each key that comes out, a message must be taken or the limiter closed.
    pub fn poll_ready(&self, now: Instant) -> Option<u64> {
        let first = self.line.front()?;
        self.bucket.has(now, 1, first.bytes).then_some(first.key)
    }

    /// When [`PoolRate::poll_ready`] gives somebody; `None` while nobody is in line.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.line.front().map(|first| self.bucket.when(now, 1, first.bytes))
    }

    fn is_turn_of(&self, key: u64) -> bool {
        self.line.front().is_none_or(|first| first.key == key)
    }
}

/// What the place for waiting messages keeps while none wait. Guess.
const RETAINED_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn rate(messages: u64, bytes: u64, burst: u64) -> Rate {
        Rate {
            messages_per_second: Some(messages),
            messages_burst: Some(burst),
            bytes_per_second: Some(bytes),
            bytes_burst: Some(burst * 100),
            ..Rate::default()
        }
    }

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn text(message: Option<(Opcode, &[u8])>) -> Option<&[u8]> {
        message.map(|(_, payload)| payload)
    }

    #[test]
    fn default_holds_nothing_back() {
        let now = Instant::now();
        let mut limiter = RateLimiter::new(&Rate::default(), now, 0);
        for _ in 0..100_000 {
            assert_eq!(limiter.offer(now, Opcode::Text, &[0; 100], None), RateVerdict::Go);
        }
        assert_eq!(limiter.stats(), RateStats { passed: 100_000, ..RateStats::default() });
    }

    #[test]
    fn rate_without_a_burst_has_that_of_a_second_and_zero_counts_as_one() {
        let now = Instant::now();
        for (per_second, burst) in [(5, 5), (0, 0)] {
            let rate = Rate { messages_per_second: Some(per_second), ..Rate::default() };
            let mut limiter = RateLimiter::new(&rate, now, 0);
            let goes = (0..10)
                .filter(|_| limiter.offer(now, Opcode::Text, b"", None) == RateVerdict::Go)
                .count();
            assert_eq!(goes, burst.max(1));
            assert_eq!(limiter.poll_timeout(now), Some(now + millis(1000 / per_second.max(1))));
        }
    }

    #[test]
    fn messages_wait_in_order_and_go_when_their_time_has_come() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(&rate(10, 1000, 1), start, 0);
        assert_eq!(limiter.offer(start, Opcode::Text, b"a", None), RateVerdict::Go);
        assert_eq!(limiter.poll_timeout(start), None);
        assert_eq!(limiter.offer(start, Opcode::Text, b"b", None), RateVerdict::Waits);
        assert_eq!(limiter.offer(start, Opcode::Binary, b"", None), RateVerdict::Waits);
        assert_eq!(limiter.poll_timeout(start), Some(start + millis(100)));
        assert_eq!(limiter.poll_message(start + millis(99), None), None);
        // Whoever comes when there is a token again still stands behind those who wait.
        let later = start + millis(100);
        assert_eq!(limiter.offer(later, Opcode::Text, b"c", None), RateVerdict::Waits);
        assert_eq!(text(limiter.poll_message(later, None)), Some(&b"b"[..]));
        assert_eq!(limiter.poll_message(later, None), None);
        let expected = RateStats {
            passed: 2,
            waited: 3,
            waiting: 2,
            waiting_bytes: 1,
            ..RateStats::default()
        };
        assert_eq!(limiter.stats(), expected);
        let unsent: Vec<_> = limiter.close(None).collect();
        assert_eq!(unsent, [(Opcode::Binary, &b""[..]), (Opcode::Text, b"c")]);
        assert_eq!((limiter.stats().waiting, limiter.poll_timeout(later)), (0, None));
    }

    #[test]
    fn policies_drop_and_refuse_keep_nothing() {
        let now = Instant::now();
        for (policy, verdict) in
            [(RatePolicy::Drop, RateVerdict::Dropped), (RatePolicy::Refuse, RateVerdict::Refused)]
        {
            let mut limiter = RateLimiter::new(&Rate { policy, ..rate(1, 1000, 1) }, now, 0);
            assert_eq!(limiter.offer(now, Opcode::Text, b"a", None), RateVerdict::Go);
            assert_eq!(limiter.offer(now, Opcode::Text, b"b", None), verdict);
            let later = now + millis(1000);
            assert_eq!(limiter.poll_message(later, None), None);
            assert_eq!(limiter.offer(later, Opcode::Text, b"c", None), RateVerdict::Go);
            let stats = limiter.stats();
            assert_eq!((stats.passed, stats.dropped + stats.refused), (2, 1));
            assert_eq!(stats.dropped == 1, policy == RatePolicy::Drop);
        }
    }

    #[test]
    fn waiting_is_refused_once_so_much_waits() {
        let now = Instant::now();
        let rate = Rate { waiting_bytes_max: 7 * 16, ..rate(1, 1000, 1) };
        let mut limiter = RateLimiter::new(&rate, now, 0);
        assert_eq!(limiter.offer(now, Opcode::Text, b"", None), RateVerdict::Go);
        // A place counts 16 bytes, so even empty messages come to an end.
        for _ in 0..7 {
            assert_eq!(limiter.offer(now, Opcode::Text, b"", None), RateVerdict::Waits);
        }
        assert_eq!(limiter.offer(now, Opcode::Text, b"", None), RateVerdict::Refused);
        assert_eq!(limiter.stats().refused, 1);
    }

    #[test]
    fn both_must_have_tokens_and_neither_loses_any_in_vain() {
        let start = Instant::now();
        let mut pool = PoolRate::new(&rate(10, 10_000, 2), start);
        let mut first = RateLimiter::new(&rate(1, 10_000, 1), start, 1);
        let mut second = RateLimiter::new(&rate(100, 10_000, 10), start, 2);
        assert_eq!(first.offer(start, Opcode::Text, b"a", Some(&mut pool)), RateVerdict::Go);
        // The connection has none: the pool keeps its last one for the other.
        assert_eq!(first.offer(start, Opcode::Text, b"b", Some(&mut pool)), RateVerdict::Waits);
        assert_eq!(
            (first.poll_timeout(start), pool.poll_timeout(start)),
            (Some(start + millis(1000)), None)
        );
        assert_eq!(second.offer(start, Opcode::Text, b"c", Some(&mut pool)), RateVerdict::Go);
        assert_eq!(second.offer(start, Opcode::Text, b"d", Some(&mut pool)), RateVerdict::Waits);
        assert_eq!(
            (second.poll_timeout(start), pool.poll_timeout(start)),
            (None, Some(start + millis(100)))
        );
        assert_eq!(pool.poll_ready(start + millis(99)), None);
        let later = start + millis(100);
        assert_eq!(pool.poll_ready(later), Some(2));
        assert_eq!(text(second.poll_message(later, Some(&mut pool))), Some(&b"d"[..]));
        assert_eq!(pool.poll_ready(later), None);
        let later = start + millis(1000);
        assert_eq!(text(first.poll_message(later, Some(&mut pool))), Some(&b"b"[..]));
    }

    #[test]
    fn small_messages_of_others_do_not_starve_a_large_one() {
        let start = Instant::now();
        let pool_rate =
            Rate { bytes_per_second: Some(1000), bytes_burst: Some(500), ..Rate::default() };
        let mut pool = PoolRate::new(&pool_rate, start);
        let eager = Rate { policy: RatePolicy::Refuse, ..Rate::default() };
        let mut small = RateLimiter::new(&eager, start, 1);
        let mut large = RateLimiter::new(&Rate::default(), start, 2);
        let mut went_at = None;
        for at in 0..2000 {
            let now = start + millis(at);
            // As much as the pool lets through, all the time.
            let _ = small.offer(now, Opcode::Text, &[0; 10], Some(&mut pool));
            if at == 500 {
                let offered = large.offer(now, Opcode::Text, &[0; 500], Some(&mut pool));
                assert_eq!(offered, RateVerdict::Waits);
            }
            if pool.poll_ready(now) == Some(2) {
                assert!(large.poll_message(now, Some(&mut pool)).is_some());
                went_at = Some(at);
            }
        }
        assert_eq!(went_at, Some(1000), "the bucket was empty and had to fill");
        assert!(small.stats().passed > 100, "{:?}", small.stats());
    }

    #[test]
    fn closing_gives_the_turn_to_the_next_in_line() {
        let start = Instant::now();
        let mut pool = PoolRate::new(&rate(1, 1000, 1), start);
        let mut limiters: Vec<_> =
            (0..3).map(|key| RateLimiter::new(&Rate::default(), start, key)).collect();
        for limiter in &mut limiters {
            let _ = limiter.offer(start, Opcode::Text, b"x", Some(&mut pool));
        }
        let later = start + millis(1000);
        assert_eq!(pool.poll_ready(later), Some(1));
        assert_eq!(limiters[1].close(Some(&mut pool)).len(), 1);
        assert_eq!(pool.poll_ready(later), Some(2));
    }

    /// Drives limiters that share a pool, from one due time to the next, and notes what leaves.
    struct Bed {
        limiters: Vec<RateLimiter>,
        pool: PoolRate,
        left: Vec<(Instant, usize, Vec<u8>)>,
    }

    impl Bed {
        fn run(&mut self, mut now: Instant, until: Instant) {
            loop {
                while let Some(key) = self.pool.poll_ready(now) {
                    self.take(now, key as usize).expect("who is ready has a message");
                }
                for index in 0..self.limiters.len() {
                    while self.take(now, index).is_some() {}
                }
                let own = self.limiters.iter().filter_map(|limiter| limiter.poll_timeout(now));
                let Some(next) = own.chain(self.pool.poll_timeout(now)).min() else { return };
                if next > until {
                    return;
                }
                assert!(next > now, "nothing is due and nothing goes");
                now = next;
            }
        }

        fn take(&mut self, now: Instant, index: usize) -> Option<()> {
            let (_, payload) = self.limiters[index].poll_message(now, Some(&mut self.pool))?;
            self.left.push((now, index, payload.to_vec()));
            Some(())
        }
    }

    proptest! {
        #[test]
        fn everything_leaves_in_order_and_no_faster_than_both_rates(
            shared in (1..200_u64, 1..20_u64), own in (1..200_u64, 1..20_u64),
            sends in prop::collection::vec((0..4_usize, 0..30_u64, 0..3000_usize), 1..80),
        ) {
            let start = Instant::now();
            let rates = [shared, own].map(|(messages, burst)| rate(messages, messages * 100, burst));
            let mut bed = Bed {
                limiters: (0..4).map(|key| RateLimiter::new(&rates[1], start, key)).collect(),
                pool: PoolRate::new(&rates[0], start),
                left: Vec::new(),
            };
            let (mut now, mut sent) = (start, vec![Vec::new(); 4]);
            for (index, gap, bytes) in sends {
                bed.run(now, now + millis(gap));
                now += millis(gap);
                let payload = vec![sent[index].len() as u8; bytes];
                match bed.limiters[index].offer(now, Opcode::Binary, &payload, Some(&mut bed.pool)) {
                    RateVerdict::Go => bed.left.push((now, index, payload.clone())),
                    verdict => prop_assert_eq!(verdict, RateVerdict::Waits),
                }
                sent[index].push(payload);
            }
            bed.run(now, now + Duration::from_secs(1_000_000));
            for (index, sent) in sent.iter().enumerate() {
                let left = bed.left.iter().filter(|left| left.1 == index).map(|left| &left.2);
                prop_assert!(left.eq(sent), "connection {} in order, and all of it", index);
            }
            let all: Vec<_> = bed.left.iter().collect();
            holds(&all, &rates[0])?;
            for index in 0..4 {
                let left: Vec<_> = bed.left.iter().filter(|left| left.1 == index).collect();
                holds(&left, &rates[1])?;
            }
        }
    }

    /// The bound of the token bucket over every window, for messages and for bytes.
    fn holds(left: &[&(Instant, usize, Vec<u8>)], rate: &Rate) -> Result<(), TestCaseError> {
        let burst_bytes = rate.bytes_burst.unwrap();
        let largest =
            left.iter().map(|left| left.2.len() as u64).max().unwrap_or(0).max(burst_bytes);
        for first in 0..left.len() {
            let (mut messages, mut bytes) = (0, 0);
            for (at, _, payload) in &left[first..] {
                (messages, bytes) = (messages + 1, bytes + payload.len() as u128);
                let nanos = (*at - left[first].0).as_nanos();
                let most = |per_second: Option<u64>, burst: u64| {
                    u128::from(per_second.unwrap()) * nanos + u128::from(burst) * 1_000_000_000
                };
                let burst = rate.messages_burst.unwrap();
                prop_assert!(messages * 1_000_000_000 <= most(rate.messages_per_second, burst));
                prop_assert!(bytes * 1_000_000_000 <= most(rate.bytes_per_second, largest));
            }
        }
        Ok(())
    }
}
