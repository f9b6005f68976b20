//! Starts a back end, kills it, stops it and starts it again, as a seed says.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use corewire::Handle;
use rustix::process::{Pid, Signal, kill_process};

use crate::recovery::News;
use crate::rng::Rng;

/// A back end, whether it runs or not.
pub struct BackEnd {
    pub name: String,
    pub command: Vec<String>,
    pub port: u16,
    pub log: PathBuf,
}

/// News of a back end, for the loop.
pub struct Notice {
    pub back_end: usize,
    pub at: Instant,
    pub news: News,
}

/// What was done to a back end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub kills: u64,
    pub stops: u64,
    pub restarts: u64,
}

/// One back end, and who disturbs it.
pub struct Disturber<'a> {
    index: usize,
    back_end: &'a BackEnd,
    rng: Rng,
    handle: Handle,
    /// Nothing comes; it is closed when the run is over.
    over: Receiver<()>,
    running: Option<Running>,
    tally: Tally,
}

/// A process that does not outlive its owner.
struct Running(Child);

/// The run is over.
struct Over;

impl<'a> Disturber<'a> {
    pub fn new(
        index: usize,
        back_end: &'a BackEnd,
        seed: u64,
        handle: Handle,
        over: Receiver<()>,
    ) -> Self {
        // Any constant, so that the three do not do the same.
        let rng = Rng::new(seed ^ (index as u64 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self { index, back_end, rng, handle, over, running: None, tally: Tally::default() }
    }

    /// Disturbs until then, and keeps the back end up until the run is over.
    pub fn run(mut self, until: Instant) -> Tally {
        let disturbed = self.disturb(until);
        if disturbed.is_ok() {
            self.tell(News::Calm);
            let _ = self.over.recv();
        }
        self.tally
    }

    fn disturb(&mut self, until: Instant) -> Result<(), Over> {
        self.start()?;
        loop {
            // Some of them are too short for anybody to come back.
            self.sleep(100, 2500)?;
            if Instant::now() >= until {
                return Ok(());
            }
            match self.rng.below(7) {
                0 => {
                    self.kill();
                    self.restart()?;
                }
                1 | 2 => {
                    self.kill();
                    self.sleep(0, 1500)?;
                    self.restart()?;
                }
                3 | 4 => self.stop_and_kill_soon_after()?,
                _ => self.stop_for_a_while()?,
            }
        }
    }

    fn stop_for_a_while(&mut self) -> Result<(), Over> {
        self.stop();
        // Often shorter than a connection takes to be found dead, and often longer.
        self.sleep(50, 2500)?;
        if self.rng.one_in(3) {
            self.kill();
            self.sleep(0, 500)?;
            return self.restart();
        }
        self.signal(Signal::CONT);
        self.tell(News::Usable);
        Ok(())
    }

    /// Kills it while it is behind: it answers a ping, and has not read what came after that.
    fn stop_and_kill_soon_after(&mut self) -> Result<(), Over> {
        self.stop();
        self.sleep(300, 950)?;
        self.signal(Signal::CONT);
        self.sleep(0, 15)?;
        self.kill();
        self.restart()
    }

    fn stop(&mut self) {
        self.tally.stops += 1;
        self.signal(Signal::STOP);
        self.tell(News::Stopped);
    }

    fn kill(&mut self) {
        self.tally.kills += 1;
        self.running = None;
        self.tell(News::Killed);
    }

    fn restart(&mut self) -> Result<(), Over> {
        self.tally.restarts += 1;
        self.start()
    }

    /// Starts it, and waits until it says that it listens.
    fn start(&mut self) -> Result<(), Over> {
        let BackEnd { name, command, port, log } = self.back_end;
        let child = Command::new(&command[0])
            .args(&command[1..])
            .arg(port.to_string())
            .arg(log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut line = String::new();
        let said = child.and_then(|mut child| {
            let output = child.stdout.take();
            self.running = Some(Running(child));
            output.map_or(Ok(0), |output| BufReader::new(output).read_line(&mut line))
        });
        if let (Ok(_), "listening\n") = (&said, line.as_str()) {
            self.tell(News::Usable);
            return Ok(());
        }
        self.tell(News::Failed(format!("{name} does not start: {said:?}, {line:?}")));
        Err(Over)
    }

    fn signal(&self, signal: Signal) {
        if let Some(Running(child)) = &self.running {
            // It has not been waited for, so the number is still its own.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    fn tell(&self, news: News) {
        let notice = Notice { back_end: self.index, at: Instant::now(), news };
        // A loop that has ended is not interested.
        let _ = self.handle.notify(notice);
    }

    fn sleep(&mut self, from_millis: u64, to_millis: u64) -> Result<(), Over> {
        let span = self.rng.below((to_millis - from_millis) as usize + 1) as u64;
        match self.over.recv_timeout(Duration::from_millis(from_millis + span)) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Over),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SIGKILL, which ends what is stopped, too.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
