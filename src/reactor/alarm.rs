//! What ends a poll when a deadline comes.
//!
//! With a timeout for each poll the kernel sets a timer up and takes it down again whenever the
//! loop sleeps, which is 5 % of a message's cost at one connection (measured). The loop's deadlines
//! are seconds away and seldom come nearer, so where there are timer descriptors one of them is set
//! once in a while and polls have no timeout.

pub(super) use imp::Alarm;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod imp {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::{Duration, Instant};

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// A timer descriptor (timerfd_create(2)) in the poll's set.
    #[derive(Debug)]
    pub struct Alarm {
        timer: OwnedFd,
        rings_at: Option<Instant>,
    }

    impl Alarm {
        /// An alarm that is told of under `token`.
        pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Self { timer, rings_at: None })
        }

        /// Has the next poll end at `deadline` at the latest; says with which timeout it does.
        #[inline]
        pub fn set(&mut self, deadline: Instant) -> io::Result<Option<Duration>> {
            if self.rings_at.is_none_or(|earlier| earlier > deadline) {
                self.set_timer(deadline)?;
            }
            Ok(None)
        }

        #[cold]
        fn set_timer(&mut self, deadline: Instant) -> io::Result<()> {
            let left = deadline.saturating_duration_since(Instant::now());
            // Zero would switch the timer off.
            let left = left.max(Duration::from_nanos(1));
            let setting = Itimerspec {
                it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: Timespec {
                    tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                },
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
            self.rings_at = Some(deadline);
            Ok(())
        }

        /// The poll has told of the alarm. Its count need not be read: setting it clears that, and
        /// readiness is told once.
        pub fn handle_ring(&mut self) {
            self.rings_at = None;
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod imp {
    use std::io;
    use std::time::{Duration, Instant};

    use mio::{Registry, Token};

    /// The poll's own timeout.
    #[derive(Debug)]
    pub struct Alarm;

    impl Alarm {
        pub fn new(_: &Registry, _: Token) -> io::Result<Self> {
            Ok(Self)
        }

        /// Has the next poll end at `deadline` at the latest; says with which timeout it does.
        pub fn set(&mut self, deadline: Instant) -> io::Result<Option<Duration>> {
            Ok(Some(deadline.saturating_duration_since(Instant::now())))
        }

        pub fn handle_ring(&mut self) {}
    }
}
