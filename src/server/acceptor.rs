//! One thread that accepts for all loops and hands each connection to the one that has the fewest.
//!
//! ```text
//!   kernel's queue ──► Acceptor ── Handle::adopt ──► mailbox of the least-loaded loop
//!                        │ rests while no loop has room, or descriptors have run out:
//!                        └ who waits then waits in the kernel's queue, one at most in hand
//! ```
//!
//! While the loops drain it goes on: they tell who comes to go elsewhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::handle::ServerHandle;
use crate::limits::LoopLimits;
use crate::reactor::{
    AcceptError, Adoption, Command, Endpoint, ListenOptions, Net, NetKey, PostError, Wait, Wake,
};

/// How new connections are spread over the loops of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spread {
    /// Each loop accepts for itself, and the kernel chooses: by a hash of the addresses for TCP, and
    /// whoever comes first where loops share a socket. Nothing stands between a connection and its
    /// loop. It is even over many connections; over a few, or where those that stay are one loop's by
    /// chance, it is not.
    #[default]
    ByKernel,
    /// One more thread accepts for all, and hands each connection to the loop that has the fewest
    /// then; those that have equally many take turns. For connections that are few, heavy and long.
    LeastLoaded,
}

/// It listens everywhere, and runs on a thread of its own.
pub(super) struct Acceptor<N> {
    net: N,
    gates: Vec<Gate>,
    /// A connection that was accepted and that no mailbox has had room for since.
    in_hand: Option<Adoption>,
    switch: Arc<Switch>,
    accepts_per_turn: u32,
    pause: Duration,
    pause_max: Duration,
}

/// One listening socket.
struct Gate {
    /// Its index among the server's listeners.
    listener: usize,
    key: NetKey,
    state: State,
    /// The next rest, should the shortage last.
    next_pause: Duration,
}

/// Whether connections may wait at a gate.
#[derive(Clone, Copy)]
enum State {
    /// None waits; readiness will be told.
    Idle,
    /// Some may wait.
    Ready,
    /// Something has run out.
    Resting { until: Instant },
}

/// The acceptor as other threads see it.
pub(super) struct Switch {
    is_off: AtomicBool,
    pauses: AtomicU64,
    waker: Arc<dyn Wake>,
}

impl Switch {
    /// Ends the acceptor; its sockets close.
    pub(super) fn turn_off(&self) {
        self.is_off.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// How often accepting has rested.
    pub(super) fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::Relaxed)
    }
}

impl<N: Net> Acceptor<N> {
    pub(super) fn new(net: N, limits: &LoopLimits) -> Self {
        let switch = Switch {
            is_off: AtomicBool::new(false),
            pauses: AtomicU64::new(0),
            waker: net.waker(),
        };
        Self {
            net,
            gates: Vec::new(),
            in_hand: None,
            switch: Arc::new(switch),
            accepts_per_turn: limits.accepts_per_turn.max(1),
            pause: limits.accept_pause,
            pause_max: limits.accept_pause_max,
        }
    }

    pub(super) fn switch(&self) -> Arc<Switch> {
        self.switch.clone()
    }

    /// Listens for the listener with this index; says where it really is.
    pub(super) fn listen(
        &mut self,
        listener: usize,
        endpoint: &Endpoint,
        options: &ListenOptions,
    ) -> io::Result<Endpoint> {
        if matches!(endpoint, Endpoint::Detached) {
            return Ok(Endpoint::Detached);
        }
        let listening = self.net.listen(endpoint, options, self.gates.len() as u64)?;
        self.gates.push(Gate {
            listener,
            key: listening.key,
            state: State::Idle,
            next_pause: self.pause,
        });
        Ok(listening.endpoint)
    }

    /// Accepts until it is switched off, or no loop takes connections any more.
    ///
    /// # Errors
    /// What polling says, and `Unsupported` of a network that gives no connection away.
    pub(super) fn run(mut self, loops: &ServerHandle) -> io::Result<()> {
        let mut events = Vec::new();
        while !self.switch.is_off.load(Ordering::Acquire) && !loops.is_closed() {
            self.net.poll(&mut events, self.wait())?;
            for event in events.drain(..) {
                if let Some(gate) = self.gates.get_mut(event.token as usize)
                    && matches!(gate.state, State::Idle)
                {
                    gate.state = State::Ready;
                }
            }
            let now = self.net.now();
            for at in 0..self.gates.len() {
                match self.gates[at].state {
                    State::Resting { until } if until > now => {}
                    State::Resting { .. } | State::Ready => {
                        self.gates[at].state = self.accept_from(at, now, loops)?;
                    }
                    State::Idle => {}
                }
            }
        }
        self.hand_over_last(loops);
        if !self.switch.is_off.load(Ordering::Acquire) {
            self.accept_all(loops);
        }
        Ok(())
    }

    /// Takes everybody who waits at sockets that are about to close, which would reset them: loops
    /// that end their drain tell them 503.
    fn accept_all(&mut self, loops: &ServerHandle) {
        for at in 0..self.gates.len() {
            let Gate { listener, key, .. } = self.gates[at];
            while !loops.is_gone()
                && let Ok(stream) = self.net.accept_detached(key)
            {
                self.in_hand = Some(Adoption::new(stream, listener));
                self.hand_over_last(loops);
            }
        }
    }

    /// Waits for room: loops that are about to end wait for whoever is on the way to them.
    fn hand_over_last(&mut self, loops: &ServerHandle) {
        while !self.hand_over(loops) {
            std::thread::sleep(HAND_OVER_AGAIN);
        }
    }

    fn wait(&self) -> Wait {
        let mut wait = Wait::Forever;
        for gate in &self.gates {
            match (gate.state, wait) {
                (State::Ready, _) => return Wait::No,
                (State::Resting { until }, Wait::Until(sooner)) => {
                    wait = Wait::Until(until.min(sooner));
                }
                (State::Resting { until }, Wait::Forever | Wait::No) => wait = Wait::Until(until),
                (State::Idle, _) => {}
            }
        }
        wait
    }

    /// Takes waiting connections from one listener, within the budget; says how it stands then.
    fn accept_from(&mut self, at: usize, now: Instant, loops: &ServerHandle) -> io::Result<State> {
        let mut failures = 0;
        for _ in 0..self.accepts_per_turn {
            // Nobody is taken out of the kernel's queue before there is room for him.
            if !self.hand_over(loops) || !loops.has_room() {
                return Ok(self.rest(at, now));
            }
            let gate = &mut self.gates[at];
            match self.net.accept_detached(gate.key) {
                Ok(stream) => {
                    failures = 0;
                    gate.next_pause = self.pause;
                    self.in_hand = Some(Adoption::new(stream, gate.listener));
                }
                Err(error) => match AcceptError::of(&error) {
                    AcceptError::Drained => return Ok(State::Idle),
                    AcceptError::Shortage => return Ok(self.rest(at, now)),
                    // The network itself says so, not the system.
                    AcceptError::Passing
                        if error.kind() == io::ErrorKind::Unsupported
                            && error.raw_os_error().is_none() =>
                    {
                        return Err(error);
                    }
                    AcceptError::Passing => failures += 1,
                },
            }
        }
        // A listener that says nothing but errors, budget after budget, must not spin either.
        if !self.hand_over(loops) || failures >= self.accepts_per_turn {
            return Ok(self.rest(at, now));
        }
        Ok(State::Ready)
    }

    /// Whether nobody is in hand any more.
    fn hand_over(&mut self, loops: &ServerHandle) -> bool {
        if let Some(adoption) = self.in_hand.take()
            && let Err(PostError::Full(Command::Adopt(adoption))) = loops.adopt(adoption)
        {
            self.in_hand = Some(adoption);
        }
        self.in_hand.is_none()
    }

    fn rest(&mut self, at: usize, now: Instant) -> State {
        self.switch.pauses.fetch_add(1, Ordering::Relaxed);
        let gate = &mut self.gates[at];
        let until = now + gate.next_pause.min(self.pause_max);
        gate.next_pause = gate.next_pause.saturating_mul(2).min(self.pause_max);
        State::Resting { until }
    }
}

/// When the last one in hand is offered again: what a loop needs to empty its mailbox. Guess.
const HAND_OVER_AGAIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::IoSlice;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Mutex;

    use super::*;
    use crate::protocol::Config;
    use crate::reactor::{
        Accepted, Buffer, Drain, ListenerSettings, Listening, MioNet, ReactorBuilder,
        ReactorConfig, Readiness, Received,
    };
    use crate::wire::Role;

    /// Accepting goes by this script, an error number for each call that fails, and time passes by
    /// waiting. At the script's end the acceptor is switched off.
    struct Scripted {
        accepts: VecDeque<Option<i32>>,
        now: Instant,
        waits: Arc<Mutex<Vec<Wait>>>,
        switch: Option<Arc<Switch>>,
        /// The other ends.
        peers: Vec<UnixStream>,
    }

    struct NoWake;

    impl Wake for NoWake {
        fn wake(&self) {}
    }

    /// EAGAIN, ECONNABORTED and EMFILE, as on Linux.
    const NONE_WAITS: Option<i32> = Some(11);
    const ABORTED: Option<i32> = Some(103);
    /// EOPNOTSUPP: Linux tells it of one connection (accept(2)).
    const NOT_SUPPORTED: Option<i32> = Some(95);
    /// What a network says that gives no connection away.
    const NONE_AT_ALL: Option<i32> = Some(-1);
    const TOO_MANY_FILES: Option<i32> = Some(24);

    impl Net for Scripted {
        fn listen(&mut self, _: &Endpoint, _: &ListenOptions, _: u64) -> io::Result<Listening> {
            Ok(Listening { key: NetKey(0), endpoint: Endpoint::from(([127, 0, 0, 1], 80)) })
        }

        fn accept(&mut self, _: NetKey, _: u64) -> io::Result<Accepted> {
            unreachable!("it keeps none")
        }

        fn accept_detached(&mut self, _: NetKey) -> io::Result<OwnedFd> {
            match self.accepts.pop_front().unwrap_or(NONE_WAITS) {
                NONE_AT_ALL => Err(io::ErrorKind::Unsupported.into()),
                None => {
                    let (stream, peer) = UnixStream::pair()?;
                    self.peers.push(peer);
                    Ok(stream.into())
                }
                Some(number) => Err(io::Error::from_raw_os_error(number)),
            }
        }

        fn receive(&mut self, _: NetKey, _: &mut [u8], _: usize) -> io::Result<Received> {
            unreachable!("it reads nothing")
        }

        fn give_back(&mut self, _: Buffer) {}

        fn send(&mut self, _: NetKey, _: &[IoSlice<'_>]) -> io::Result<usize> {
            unreachable!("it says nothing")
        }

        fn shutdown(&mut self, _: NetKey) {}

        fn close(&mut self, _: NetKey) {}

        fn poll(&mut self, events: &mut Vec<Readiness>, wait: Wait) -> io::Result<()> {
            self.waits.lock().unwrap().push(wait);
            match wait {
                Wait::Until(deadline) => self.now = self.now.max(deadline),
                Wait::Forever if self.accepts.is_empty() => {
                    self.switch.as_ref().unwrap().turn_off();
                }
                Wait::Forever => {
                    let (readable, writable, hung_up) = (true, false, false);
                    events.push(Readiness { token: 0, readable, writable, hung_up });
                }
                Wait::No => {}
            }
            Ok(())
        }

        fn waker(&self) -> Arc<dyn Wake> {
            Arc::new(NoWake)
        }

        fn now(&self) -> Instant {
            self.now
        }
    }

    /// How long it waits before each turn, in milliseconds (-1: without end), how many connections
    /// each of two loops has at the end, and how often accepting has rested.
    fn outcome(accepts: &[Option<i32>], change: fn(&mut LoopLimits)) -> (Vec<i64>, [u32; 2], u64) {
        let (now, waits) = (Instant::now(), Arc::default());
        let mut limits = LoopLimits { accepts_per_turn: 4, ..LoopLimits::default() };
        change(&mut limits);
        let accepts = accepts.iter().copied().collect();
        let net =
            Scripted { accepts, now, waits: Arc::clone(&waits), switch: None, peers: Vec::new() };
        let mut acceptor = Acceptor::new(net, &limits);
        acceptor.net.switch = Some(acceptor.switch());
        let options = ListenOptions::default();
        acceptor.listen(0, &Endpoint::from(([127, 0, 0, 1], 80)), &options).unwrap();
        let loops = [(); 2].map(|()| {
            let mut config = ReactorConfig::new([7; 32]);
            config.limits = limits.clone();
            ReactorBuilder::new(MioNet::new(1).unwrap(), config)
        });
        let switch = acceptor.switch();
        let handles = loops.each_ref().map(ReactorBuilder::handle);
        let handle = ServerHandle::new(handles.clone(), Some(switch.clone()));
        acceptor.run(&handle).unwrap();
        let mut before = now;
        let waits = waits.lock().unwrap();
        let waits = waits.iter().map(|wait| match wait {
            Wait::No => 0,
            Wait::Forever => -1,
            Wait::Until(deadline) => {
                let waited = deadline.duration_since(before).as_millis() as i64;
                before = *deadline;
                waited
            }
        });
        (waits.collect(), handles.map(|handle| handle.connections()), switch.pauses())
    }

    #[test]
    fn acceptor_takes_who_waits_within_its_budget_and_spreads_them() {
        let crowd = [None; 9];
        assert_eq!(outcome(&crowd, |_| {}), (vec![-1, 0, 0, -1], [5, 4], 0));
        let torn = [None, ABORTED, None, NONE_WAITS, ABORTED, None];
        assert_eq!(outcome(&torn, |_| {}), (vec![-1, -1, -1], [2, 1], 0));
    }

    #[test]
    fn acceptor_rests_longer_and_longer_while_descriptors_have_run_out() {
        let mut script = vec![TOO_MANY_FILES; 6];
        script.extend([None, NONE_WAITS, TOO_MANY_FILES]);
        let waits = vec![-1, 100, 200, 400, 800, 1000, 1000, -1, 100, -1];
        assert_eq!(outcome(&script, |_| {}), (waits, [1, 0], 7));
        // A listener that says nothing but errors rests after each budget.
        assert_eq!(outcome(&[ABORTED; 8], |_| {}), (vec![-1, 100, 200, -1], [0, 0], 2));
    }

    /// An acceptor with so many at its door, and a loop that nobody turns.
    fn with_one_loop(
        waiting: usize,
        limits: LoopLimits,
    ) -> (Acceptor<Scripted>, ReactorBuilder<MioNet>) {
        let (accepts, waits) = (vec![None; waiting].into(), Arc::default());
        let net = Scripted { accepts, now: Instant::now(), waits, switch: None, peers: Vec::new() };
        let mut acceptor = Acceptor::new(net, &limits);
        let endpoint = Endpoint::from(([127, 0, 0, 1], 80));
        acceptor.listen(0, &endpoint, &ListenOptions::default()).unwrap();
        let mut config = ReactorConfig::new([7; 32]);
        config.limits = limits;
        (acceptor, ReactorBuilder::new(MioNet::new(1).unwrap(), config))
    }

    #[test]
    fn network_that_gives_no_connection_away_ends_the_acceptor() {
        let (mut acceptor, one) = with_one_loop(0, LoopLimits::default());
        let handle = ServerHandle::new([one.handle()], None);
        acceptor.net.accepts.extend([NOT_SUPPORTED, None, NONE_AT_ALL]);
        let error = acceptor.run(&handle).unwrap_err();
        assert_eq!((error.kind(), one.handle().connections()), (io::ErrorKind::Unsupported, 1));
    }

    #[test]
    fn acceptor_leaves_in_the_kernel_whom_no_loop_has_a_place_for() {
        let limits =
            LoopLimits { connections_max: 0, accepts_per_turn: 1000, ..LoopLimits::default() };
        let (mut acceptor, one) = with_one_loop(300, limits);
        let handle = ServerHandle::new([one.handle()], None);
        acceptor.accept_from(0, acceptor.net.now, &handle).unwrap();
        assert_eq!((acceptor.net.accepts.len(), one.handle().connections()), (44, 256));
        assert!(acceptor.in_hand.is_none() && acceptor.switch.pauses() == 1);
        // Nobody will leave: it ends with the loop.
        drop(one);
        acceptor.run(&handle).unwrap();
    }

    struct Nobody;

    impl crate::reactor::Handler for Nobody {
        type Data = ();

        fn on_message(
            &mut self,
            _: &mut crate::reactor::Context<'_, ()>,
            _: crate::reactor::Message<'_>,
        ) {
        }
    }

    #[test]
    fn acceptor_gives_who_is_left_to_a_loop_that_ends_its_drain() {
        let limits = LoopLimits { mailbox_commands_max: 4, ..LoopLimits::default() };
        let (mut acceptor, mut one) = with_one_loop(3, limits);
        let settings = ListenerSettings::new(Config::new(Role::Server));
        one.listen(Endpoint::Detached, &ListenOptions::default(), settings).unwrap();
        let mut one = one.build(Nobody);
        let handle = ServerHandle::new([one.handle()], None);
        let (stream, _mute) = UnixStream::pair().unwrap();
        handle.adopt(Adoption::new(stream, 0)).unwrap();
        (0..3).for_each(|_| one.handle().notify(()).unwrap());
        acceptor.accept_from(0, acceptor.net.now, &handle).unwrap();
        assert!(acceptor.in_hand.is_some() && acceptor.net.accepts.len() == 2);
        one.turn(Some(Duration::ZERO)).unwrap();
        handle.drain(&Drain::default()).unwrap();
        one.turn(Some(Duration::ZERO)).unwrap();
        assert!(handle.is_closed() && !one.is_finished());
        acceptor.run(&handle).unwrap();
        one.turn(Some(Duration::ZERO)).unwrap();
        assert_eq!((one.counters().accepted, one.counters().adoptions_failed), (4, 0));
    }

    #[test]
    fn acceptor_holds_one_in_hand_whom_no_mailbox_takes() {
        let limits = LoopLimits { mailbox_commands_max: 1, ..LoopLimits::default() };
        let (mut acceptor, one) = with_one_loop(5, limits);
        let handle = ServerHandle::new([one.handle()], None);
        for pauses in 1..=3 {
            acceptor.accept_from(0, acceptor.net.now, &handle).unwrap();
            assert_eq!((acceptor.net.accepts.len(), one.handle().connections()), (3, 1));
            assert!(acceptor.in_hand.is_some() && acceptor.switch.pauses() == pauses);
        }
    }
}
