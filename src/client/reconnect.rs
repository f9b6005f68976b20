//! One connection that comes back: when to dial, when to wait and when to give up.
//!
//! Nothing here reads a clock, draws a number or touches a socket. Events come in by `handle_*`,
//! and after each of them the driver executes what `poll_action` says, in its order, until it says
//! nothing.

use std::collections::VecDeque;
use std::time::Instant;

use super::backoff::Reconnect;
use super::cause::Recovery;

/// Where a client's connection stands, to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientState {
    /// There is none and none is wanted: before the start, and after giving up.
    Disconnected,
    /// It is being dialled.
    Connecting,
    /// It is open.
    Connected,
    /// There is none; it is dialled again after a delay.
    RetryPending,
}

/// A change of a client's state: what the application hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientChange {
    /// The state that begins.
    pub state: ClientState,
    /// Tries in a row so far, one that is pending included; the first dial is none. 0 again after a
    /// connection that was stable.
    pub tries: u32,
    /// When the pending try begins; `None` in every state but [`ClientState::RetryPending`].
    pub retry_at: Option<Instant>,
}

/// Why a client is not dialled any more. Starting it again is always possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// [`Reconnect::tries_max`] in a row were not enough.
    TriesExhausted,
    /// The last cause was one that another try does not change: an answer such as 401, a protocol
    /// mismatch, a close that was meant.
    Final,
    /// The application stopped it.
    Stopped,
}

/// What the driver has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Dial. What comes of it is told by [`Link::handle_open`] or [`Link::handle_dial_failed`].
    Dial,
    /// Give the dial that is under way up. Nothing needs to be told of it.
    CancelDial,
    /// Begin the closing handshake of the open connection. Nothing needs to be told of its end.
    Close,
    /// Tell the application.
    Changed(ClientChange),
    /// Tell the application that this was the end, and what was never sent. Exactly one follows
    /// each change to [`ClientState::Disconnected`].
    GaveUp(StopReason),
}

/// The life of one client's connections, of which there is one at a time.
///
/// ```text
///                start                       open
///  Disconnected ────────► Connecting ──────────────────► Connected
///    ▲    ▲                │   │   ▲                       │   │
///    │    └─── give up ────┘   │   │ delay over            │   │
///    │                   retry ▼   │                       │   │
///    ├──── stop ───────────── RetryPending ◄──── retry ────┘   │
///    └───────────────────── give up ───────────────────────────┘
///
///  retry:   a dial that failed, or a connection that was lost, with Recovery::Retry
///  give up: the same with Recovery::Stop, or one try too many; or the application's stop
/// ```
///
/// An event that does not belong to the state changes nothing. What is told of a connection that is
/// not this client's any more, because it was cancelled or closed here, is the driver's to drop: to
/// the machine it would look like news of the present one.
#[derive(Debug)]
pub(crate) struct Link {
    settings: Reconnect,
    state: State,
    /// What the driver has not done yet; at most three of one event.
    actions: VecDeque<Action>,
}

/// See [`Link`].
#[derive(Clone, Copy, Debug)]
enum State {
    Disconnected,
    Connecting {
        /// Tries in a row, this one included.
        tries: u32,
    },
    Connected {
        /// Tries in a row that led here. They are forgotten when it ends, if it was stable.
        tries: u32,
        since: Instant,
    },
    RetryPending {
        /// Tries in a row, the coming one included.
        tries: u32,
        due: Instant,
    },
}

impl Link {
    /// A link that was not started.
    pub(crate) const fn new(settings: Reconnect) -> Self {
        Self { settings, state: State::Disconnected, actions: VecDeque::new() }
    }

    /// Where it stands.
    pub(crate) const fn state(&self) -> ClientState {
        self.state.view()
    }

    /// The application wants a connection. Nothing happens if there is one, or one is on its way.
    pub(crate) fn handle_start(&mut self) {
        match self.state {
            State::Disconnected => self.dial(0),
            State::Connecting { .. } | State::Connected { .. } | State::RetryPending { .. } => {}
        }
    }

    /// The application wants it no more.
    pub(crate) fn handle_stop(&mut self) {
        match self.state {
            State::Disconnected => return,
            State::Connecting { .. } => self.actions.push_back(Action::CancelDial),
            State::Connected { .. } => self.actions.push_back(Action::Close),
            State::RetryPending { .. } => {}
        }
        self.give_up(StopReason::Stopped);
    }

    /// The dial has led to an open connection.
    pub(crate) fn handle_open(&mut self, now: Instant) {
        match self.state {
            State::Connecting { tries } => self.change(State::Connected { tries, since: now }),
            State::Disconnected | State::Connected { .. } | State::RetryPending { .. } => {}
        }
    }

    /// The dial has failed. `random` is any number, each as likely as any other.
    pub(crate) fn handle_dial_failed(&mut self, now: Instant, recovery: Recovery, random: u64) {
        match self.state {
            State::Connecting { tries } => self.recover(now, tries, recovery, random),
            State::Disconnected | State::Connected { .. } | State::RetryPending { .. } => {}
        }
    }

    /// The connection is lost. `random` as for a dial that failed.
    pub(crate) fn handle_closed(&mut self, now: Instant, recovery: Recovery, random: u64) {
        match self.state {
            State::Connected { tries, since } => {
                let stood = now.saturating_duration_since(since);
                let tries = if stood >= self.settings.stable_after { 0 } else { tries };
                self.recover(now, tries, recovery, random);
            }
            State::Disconnected | State::Connecting { .. } | State::RetryPending { .. } => {}
        }
    }

    /// When [`Link::handle_timeout`] wants to be called.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::RetryPending { due, .. } => Some(due),
            State::Disconnected | State::Connecting { .. } | State::Connected { .. } => None,
        }
    }

    /// Time has come to `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::RetryPending { tries, due } if now >= due => self.dial(tries),
            State::Disconnected
            | State::Connecting { .. }
            | State::Connected { .. }
            | State::RetryPending { .. } => {}
        }
    }

    /// What is to be done next; `None` when all is done.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn dial(&mut self, tries: u32) {
        self.change(State::Connecting { tries });
        self.actions.push_back(Action::Dial);
    }

    /// Goes on after `tries` in a row, or not.
    fn recover(&mut self, now: Instant, tries: u32, recovery: Recovery, random: u64) {
        match recovery {
            Recovery::Stop => self.give_up(StopReason::Final),
            Recovery::Retry { .. } if self.settings.tries_max.is_some_and(|max| tries >= max) => {
                self.give_up(StopReason::TriesExhausted);
            }
            Recovery::Retry { not_before } => {
                // At most two days away, which every clock can show.
                let due = now + self.settings.delay(tries, not_before, random);
                self.change(State::RetryPending { tries: tries.saturating_add(1), due });
            }
        }
    }

    fn give_up(&mut self, reason: StopReason) {
        self.change(State::Disconnected);
        self.actions.push_back(Action::GaveUp(reason));
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.actions.push_back(Action::Changed(state.change()));
    }
}

impl State {
    const fn view(&self) -> ClientState {
        match self {
            Self::Disconnected => ClientState::Disconnected,
            Self::Connecting { .. } => ClientState::Connecting,
            Self::Connected { .. } => ClientState::Connected,
            Self::RetryPending { .. } => ClientState::RetryPending,
        }
    }

    /// What the application hears when this state begins.
    const fn change(&self) -> ClientChange {
        let (tries, retry_at) = match *self {
            Self::Disconnected => (0, None),
            Self::Connecting { tries } | Self::Connected { tries, .. } => (tries, None),
            Self::RetryPending { tries, due } => (tries, Some(due)),
        };
        ClientChange { state: self.view(), tries, retry_at }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::client::backoff::Jitter;
    use crate::limits::{RECONNECT_DELAY_MAX, RECONNECT_DELAY_MIN};

    const S: Duration = Duration::from_secs(1);
    const RETRY: Recovery = Recovery::Retry { not_before: None };

    /// A link without jitter, and what it says.
    struct Bed {
        link: Link,
        now: Instant,
    }

    impl Bed {
        fn new(settings: Reconnect) -> Self {
            let settings = Reconnect { jitter: Jitter::None, ..settings };
            Self { link: Link::new(settings), now: Instant::now() }
        }

        fn start(&mut self) -> Vec<Action> {
            self.link.handle_start();
            self.actions()
        }

        fn stop(&mut self) -> Vec<Action> {
            self.link.handle_stop();
            self.actions()
        }

        fn open(&mut self) -> Vec<Action> {
            self.link.handle_open(self.now);
            self.actions()
        }

        fn fail(&mut self, recovery: Recovery) -> Vec<Action> {
            self.link.handle_dial_failed(self.now, recovery, 0);
            self.actions()
        }

        fn lose_after(&mut self, stood: Duration, recovery: Recovery) -> Vec<Action> {
            self.now += stood;
            self.link.handle_closed(self.now, recovery, 0);
            self.actions()
        }

        fn wait(&mut self, delay: Duration) -> Vec<Action> {
            self.now += delay;
            self.link.handle_timeout(self.now);
            self.actions()
        }

        fn actions(&mut self) -> Vec<Action> {
            std::iter::from_fn(|| self.link.poll_action()).collect()
        }

        fn pending(&self, tries: u32, delay: Duration) -> Action {
            let retry_at = Some(self.now + delay);
            let state = ClientState::RetryPending;
            Action::Changed(ClientChange { state, tries, retry_at })
        }
    }

    fn changed(state: ClientState, tries: u32) -> Action {
        Action::Changed(ClientChange { state, tries, retry_at: None })
    }

    fn dialled(tries: u32) -> [Action; 2] {
        [changed(ClientState::Connecting, tries), Action::Dial]
    }

    fn gave_up(reason: StopReason) -> [Action; 2] {
        [changed(ClientState::Disconnected, 0), Action::GaveUp(reason)]
    }

    #[test]
    fn failed_dials_are_repeated_with_growing_delays() {
        let mut bed = Bed::new(Reconnect::default());
        assert_eq!(bed.start(), dialled(0));
        for (tries, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60)] {
            assert_eq!(bed.fail(RETRY), [bed.pending(tries, seconds * S)]);
            assert_eq!(bed.link.poll_timeout(), Some(bed.now + seconds * S));
            assert_eq!(bed.wait(seconds * S - Duration::from_nanos(1)), []);
            assert_eq!(bed.wait(Duration::from_nanos(1)), dialled(tries));
            assert_eq!(bed.link.poll_timeout(), None);
        }
        assert_eq!(bed.open(), [changed(ClientState::Connected, 7)]);
        assert_eq!(bed.link.state(), ClientState::Connected);
    }

    #[test]
    fn stable_connection_resets_the_tries_and_a_short_one_does_not() {
        let mut bed = Bed::new(Reconnect::default());
        bed.start();
        bed.fail(RETRY);
        bed.wait(S);
        bed.open();
        let short = 60 * S - Duration::from_nanos(1);
        assert_eq!(bed.lose_after(short, RETRY), [bed.pending(2, 2 * S)]);
        bed.wait(2 * S);
        bed.open();
        assert_eq!(bed.lose_after(60 * S, RETRY), [bed.pending(1, S)]);
    }

    #[test]
    fn tries_end_at_their_maximum() {
        let mut bed = Bed::new(Reconnect { tries_max: Some(2), ..Reconnect::default() });
        bed.start();
        bed.fail(RETRY);
        assert_eq!(bed.wait(S), dialled(1));
        bed.fail(RETRY);
        assert_eq!(bed.wait(2 * S), dialled(2));
        assert_eq!(bed.fail(RETRY), gave_up(StopReason::TriesExhausted));
        assert_eq!(bed.wait(100 * S), []);
        assert_eq!(bed.start(), dialled(0));
        assert_eq!(bed.fail(RETRY), [bed.pending(1, S)]);
    }

    #[test]
    fn with_no_tries_nothing_is_tried_again() {
        for stood in [S, 60 * S] {
            let mut bed = Bed::new(Reconnect { tries_max: Some(0), ..Reconnect::default() });
            bed.start();
            bed.open();
            assert_eq!(bed.lose_after(stood, RETRY), gave_up(StopReason::TriesExhausted));
        }
    }

    #[test]
    fn final_cause_is_reported_and_ends_it() {
        let mut bed = Bed::new(Reconnect::default());
        bed.start();
        assert_eq!(bed.fail(Recovery::Stop), gave_up(StopReason::Final));
        bed.start();
        bed.open();
        assert_eq!(bed.lose_after(S, Recovery::Stop), gave_up(StopReason::Final));
        assert_eq!(bed.stop(), []);
    }

    // RFC 9110 §10.2.3
    #[test]
    fn retry_after_is_waited_for() {
        let mut bed = Bed::new(Reconnect::default());
        bed.start();
        let asked = Recovery::Retry { not_before: Some(30 * S) };
        assert_eq!(bed.fail(asked), [bed.pending(1, 31 * S)]);
        assert_eq!(bed.wait(31 * S), dialled(1));
    }

    #[test]
    fn stopping_ends_what_is_under_way() {
        let stopped = gave_up(StopReason::Stopped);
        let mut bed = Bed::new(Reconnect::default());
        assert_eq!(bed.stop(), []);
        bed.start();
        assert_eq!(bed.stop(), [&[Action::CancelDial], &stopped[..]].concat());
        bed.start();
        bed.open();
        assert_eq!(bed.stop(), [&[Action::Close], &stopped[..]].concat());
        bed.start();
        bed.fail(RETRY);
        assert_eq!(bed.stop(), stopped);
        assert_eq!(bed.wait(100 * S), []);
    }

    #[test]
    fn starting_twice_dials_once() {
        let mut bed = Bed::new(Reconnect::default());
        bed.start();
        assert_eq!(bed.start(), []);
        bed.fail(RETRY);
        assert_eq!(bed.start(), []);
        bed.wait(S);
        bed.open();
        assert_eq!(bed.start(), []);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Start,
        Stop,
        Open,
        Fail(Recovery, u64),
        Lose(Recovery, u64),
        /// So many milliseconds pass, and it is looked at the clock.
        Pass(u32),
        /// It is waited for the next deadline.
        Wait,
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let not_before = prop::option::of((0..100_000u64).prop_map(Duration::from_millis));
        let recovery = prop_oneof![
            7 => not_before.prop_map(|not_before| Recovery::Retry { not_before }),
            1 => Just(Recovery::Stop),
        ];
        prop_oneof![
            4 => Just(Operation::Start),
            1 => Just(Operation::Stop),
            4 => Just(Operation::Open),
            4 => (recovery.clone(), any::<u64>()).prop_map(|(r, random)| Operation::Fail(r, random)),
            4 => (recovery, any::<u64>()).prop_map(|(r, random)| Operation::Lose(r, random)),
            4 => (0..100_000u32).prop_map(Operation::Pass),
            4 => Just(Operation::Wait),
        ]
    }

    fn settings() -> impl Strategy<Value = Reconnect> {
        let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
        let tries_max = prop::option::of(0..6u32);
        (millis(0..5000), millis(0..90_000), millis(0..60_000), tries_max, millis(0..100_000))
            .prop_map(|(base, cap, stable_after, tries_max, retry_after_max)| {
                let jitter = Jitter::Full;
                Reconnect { base, cap, jitter, stable_after, tries_max, retry_after_max }
            })
    }

    /// What a driver sees of the world: at most one dial and one connection, which it makes and
    /// ends only as it is told to.
    #[derive(Debug)]
    struct World {
        settings: Reconnect,
        now: Instant,
        dials: u32,
        connections: u32,
        opened_at: Instant,
        state: ClientState,
        tries: u32,
        retry_at: Option<Instant>,
        /// Changes to Disconnected that were not followed by GaveUp yet.
        ends: u32,
    }

    impl World {
        fn new(settings: Reconnect) -> Self {
            let now = Instant::now();
            Self {
                settings,
                now,
                dials: 0,
                connections: 0,
                opened_at: now,
                state: ClientState::Disconnected,
                tries: 0,
                retry_at: None,
                ends: 0,
            }
        }

        fn execute(&mut self, action: Action) {
            match action {
                Action::Dial => {
                    assert_eq!((self.dials, self.connections), (0, 0), "it is there already");
                    assert_eq!(self.state, ClientState::Connecting);
                    self.dials = 1;
                }
                Action::CancelDial => self.dials = self.dials.checked_sub(1).expect("a dial"),
                Action::Close => {
                    self.connections = self.connections.checked_sub(1).expect("a connection");
                }
                Action::Changed(change) => {
                    assert_eq!(self.ends, 0, "an end that was not reported");
                    assert_ne!(change.state, self.state, "a change that is none");
                    let is_pending = change.state == ClientState::RetryPending;
                    assert_eq!(change.retry_at.is_some(), is_pending);
                    self.state = change.state;
                    self.tries = change.tries;
                    self.retry_at = change.retry_at;
                    self.ends = u32::from(change.state == ClientState::Disconnected);
                }
                Action::GaveUp(_) => {
                    self.ends = self.ends.checked_sub(1).expect("one report for each end");
                }
            }
        }

        /// Applies `operation` where it can happen; stale ones are let through to the link, but
        /// for those that the driver must filter.
        fn apply(&mut self, operation: &Operation, link: &mut Link) {
            let tries_before = self.tries;
            let lost = match *operation {
                Operation::Start => return link.handle_start(),
                Operation::Stop => return link.handle_stop(),
                Operation::Open => {
                    if std::mem::take(&mut self.dials) > 0 {
                        (self.connections, self.opened_at) = (1, self.now);
                    }
                    return link.handle_open(self.now);
                }
                Operation::Pass(millis) => {
                    self.now += Duration::from_millis(millis.into());
                    return link.handle_timeout(self.now);
                }
                Operation::Wait => {
                    self.now = link.poll_timeout().unwrap_or(self.now).max(self.now);
                    return link.handle_timeout(self.now);
                }
                Operation::Fail(recovery, random) => {
                    let was_dialled = std::mem::take(&mut self.dials) > 0;
                    link.handle_dial_failed(self.now, recovery, random);
                    was_dialled.then_some((recovery, tries_before))
                }
                Operation::Lose(recovery, random) => {
                    let was_open = std::mem::take(&mut self.connections) > 0;
                    let is_stable = self.now - self.opened_at >= self.settings.stable_after;
                    link.handle_closed(self.now, recovery, random);
                    was_open.then_some((recovery, if is_stable { 0 } else { tries_before }))
                }
            };
            self.drain(link);
            if let Some((recovery, tries)) = lost {
                self.check_recovery(recovery, tries);
            }
        }

        /// The rules of the settings, said once more and without the machine.
        fn check_recovery(&self, recovery: Recovery, tries: u32) {
            let Recovery::Retry { not_before } = recovery else {
                return assert_eq!(self.state, ClientState::Disconnected);
            };
            if self.settings.tries_max.is_some_and(|max| tries >= max) {
                return assert_eq!(self.state, ClientState::Disconnected);
            }
            assert_eq!((self.state, self.tries), (ClientState::RetryPending, tries + 1));
            let delay = self.retry_at.expect("a pending try has its time") - self.now;
            let asked = not_before.unwrap_or_default().min(self.settings.retry_after_max);
            let grown = self.settings.base.saturating_mul(1 << tries.min(20));
            let longest = grown.min(self.settings.cap).max(RECONNECT_DELAY_MIN);
            assert!(delay >= asked + RECONNECT_DELAY_MIN, "{delay:?} after {asked:?}");
            assert!(delay <= asked + longest, "{delay:?} of {longest:?} after {asked:?}");
            assert!(delay <= 2 * RECONNECT_DELAY_MAX);
        }

        fn drain(&mut self, link: &mut Link) {
            while let Some(action) = link.poll_action() {
                self.execute(action);
            }
        }

        /// Whoever is not Disconnected has something that drives it on.
        fn check(&self, link: &Link) {
            assert_eq!(self.ends, 0, "an end that was not reported");
            assert_eq!(self.state, link.state());
            let driven = match self.state {
                ClientState::Disconnected => (0, 0, false),
                ClientState::Connecting => (1, 0, false),
                ClientState::Connected => (0, 1, false),
                ClientState::RetryPending => (0, 0, true),
            };
            let timeout = link.poll_timeout();
            assert_eq!((self.dials, self.connections, timeout.is_some()), driven);
            assert_eq!(timeout, self.retry_at);
            assert!(timeout.is_none_or(|due| due > self.now), "a deadline that is over");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn random_lives_keep_the_rules(
            settings in settings(), operations in prop::collection::vec(operation(), 0..80)
        ) {
            let mut link = Link::new(settings.clone());
            let mut world = World::new(settings);
            for operation in &operations {
                world.apply(operation, &mut link);
                world.drain(&mut link);
                world.check(&link);
            }
        }
    }
}
