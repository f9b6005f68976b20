//! One thread that accepts for all loops and hands each connection to the one that has the fewest.
//!
//! ```text
//!   kernel's queue ──► Acceptor ── Handle::adopt ──► mailbox of the least-loaded loop
//!                        │ rests while no loop has room, or descriptors have run out:
//!                        └ who waits then waits in the kernel's queue, one at most in hand
//! ```

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
    /// What polling says.
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
                    State::Resting { .. } | State::Ready => self.accept_from(at, now, loops),
                    State::Idle => {}
                }
            }
        }
        Ok(())
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

    /// Takes waiting connections from one listener, within the budget.
    fn accept_from(&mut self, at: usize, now: Instant, loops: &ServerHandle) {
        let mut failures = 0;
        for _ in 0..self.accepts_per_turn {
            // Nobody is taken out of the kernel's queue before there is room for him.
            if !self.hand_over(loops) || !loops.has_room() {
                return self.rest(at, now);
            }
            let gate = &mut self.gates[at];
            match self.net.accept_detached(gate.key) {
                Ok(stream) => {
                    failures = 0;
                    gate.next_pause = self.pause;
                    self.in_hand = Some(Adoption::new(stream, gate.listener));
                }
                Err(error) => match AcceptError::of(&error) {
                    AcceptError::Drained => {
                        gate.state = State::Idle;
                        return;
                    }
                    AcceptError::Shortage => return self.rest(at, now),
                    AcceptError::Passing => failures += 1,
                },
            }
        }
        // A listener that says nothing but errors, budget after budget, must not spin either.
        if !self.hand_over(loops) || failures >= self.accepts_per_turn {
            return self.rest(at, now);
        }
        self.gates[at].state = State::Ready;
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

    fn rest(&mut self, at: usize, now: Instant) {
        self.switch.pauses.fetch_add(1, Ordering::Relaxed);
        let gate = &mut self.gates[at];
        gate.state = State::Resting { until: now + gate.next_pause.min(self.pause_max) };
        gate.next_pause = gate.next_pause.saturating_mul(2).min(self.pause_max);
    }
}
