//! Waiting for sockets, and an account of the time that was spent with it.

use std::io;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// A poll that knows how long there was nothing to do.
pub struct Watch {
    poll: Poll,
    events: Events,
    idle: Idle,
}

/// What waiting amounted to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle {
    /// Time in which there was nothing to do, waited away or spun away.
    pub time: Duration,
    pub polls: u64,
    /// Polls that found nothing ready.
    pub empty_polls: u64,
}

/// Sockets handled in one turn at most.
const EVENTS_MAX: usize = 1024;

/// A poll sleeps for whole milliseconds and may wake one late. What is due sooner is waited for
/// awake, or the delay would count as the server's.
const SLEEP_MIN: Duration = Duration::from_millis(2);

impl Idle {
    /// Looks for events until there are some, or until `deadline`; first without waiting, which
    /// tells whether there was anything to wait for. `look` says whether it has found one.
    pub fn wait(
        &mut self,
        deadline: Instant,
        mut look: impl FnMut(Duration) -> io::Result<bool>,
    ) -> io::Result<()> {
        let began = Instant::now();
        let mut now = began;
        let mut found = self.count(look(Duration::ZERO)?);
        while !found && now < deadline {
            let left = deadline - now;
            // Rounded down, as polling rounds up.
            let sleep_ms = (left - left.min(SLEEP_MIN)).as_millis() as u64;
            found = self.count(look(Duration::from_millis(sleep_ms))?);
            now = Instant::now();
        }
        self.time += now - began;
        Ok(())
    }

    fn count(&mut self, found: bool) -> bool {
        self.polls += 1;
        self.empty_polls += u64::from(!found);
        found
    }
}

impl Watch {
    pub fn new() -> io::Result<Self> {
        let events = Events::with_capacity(EVENTS_MAX);
        Ok(Self { poll: Poll::new()?, events, idle: Idle::default() })
    }

    /// From here on every change of this socket's readiness is an event, once.
    pub fn add(&self, stream: &mut TcpStream, token: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream, Token(token), interest)
    }

    /// Waits until there are events, or until `deadline`.
    pub fn wait(&mut self, deadline: Instant) -> io::Result<&Events> {
        let Self { poll, events, idle } = self;
        idle.wait(deadline, |timeout| {
            match poll.poll(events, Some(timeout)) {
                // A signal; the events are of the poll before.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                result => result?,
            }
            Ok(!events.is_empty())
        })?;
        Ok(&self.events)
    }

    /// The account since this was last asked.
    pub fn take_idle(&mut self) -> Idle {
        std::mem::take(&mut self.idle)
    }
}
