//! Processes of ours, which end with us whatever happens.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Where servers run, and clients that are measured, alone.
pub const SERVER_CORE: usize = 0;
/// Where the generator runs, and this program.
pub const GENERATOR_CORE: usize = 1;

/// How often a process that we wait for is looked at: coarse, for it takes from the generator.
const GLANCE: Duration = Duration::from_millis(20);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(10);

/// Whether somebody asked us to stop. The signals are only noted: who waits looks here, and its way
/// out drops what runs.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP do not kill this process.
    ///
    /// # Errors
    /// What `sigaction(2)` says.
    pub fn listen() -> io::Result<Interrupt> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
        }
        Ok(Interrupt(asked))
    }

    /// Somebody asked.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn check(&self) -> io::Result<()> {
        if self.is_asked() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// A child that is stopped and reaped when it is dropped.
pub struct Guarded(Child);

impl Guarded {
    /// Starts `command` on one core, which its threads and children inherit.
    ///
    /// # Errors
    /// No such program, no such core.
    pub fn start(command: &mut Command, core: usize) -> io::Result<Guarded> {
        // The child begins with the affinity of the thread that starts it.
        let own = sched_getaffinity(None)?;
        pin_to_core(core)?;
        let child = command.stdin(Stdio::null()).spawn();
        sched_setaffinity(None, &own)?;
        let program = command.get_program().to_string_lossy().into_owned();
        child.map(Guarded).map_err(|error| io::Error::other(format!("{program}: {error}")))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end until `deadline`.
    ///
    /// # Errors
    /// The deadline has passed, or somebody asked us to stop.
    pub fn wait(&mut self, deadline: Instant, interrupt: &Interrupt) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            interrupt.check()?;
            if Instant::now() > deadline {
                return Err(io::Error::other("it did not end in time"));
            }
            sleep(GLANCE);
        }
    }

    /// Sends `signal`, waits, and insists after a while.
    pub fn stop(&mut self, signal: Signal) {
        let deadline = Instant::now() + GRACE;
        // As long as we have not waited for it, its id is its own.
        let _ = kill_process(Pid::from_child(&self.0), signal);
        while let Ok(None) = self.0.try_wait() {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop(Signal::TERM);
    }
}

/// Runs a program to its end on the generator's core, and returns what it printed.
///
/// # Errors
/// It failed, in its own last words, or as [`Guarded::wait`].
pub fn run(command: &mut Command, deadline: Instant, interrupt: &Interrupt) -> io::Result<String> {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Guarded::start(command, GENERATOR_CORE)?;
    // The few lines that it prints fit into the pipes.
    let status = child.wait(deadline, interrupt)?;
    let mut text = String::new();
    if status.success() {
        child.0.stdout.take().map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut text))?;
        Ok(text)
    } else {
        child.0.stderr.take().map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut text))?;
        Err(io::Error::other(last_line(&text).unwrap_or(&status.to_string()).to_owned()))
    }
}

/// A fresh server that accepts connections.
pub struct Server {
    process: Guarded,
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts `binary` on a free port of loopback, with `arguments` besides; what it says goes to the
    /// file `log`.
    ///
    /// # Errors
    /// It ended, or did not listen in time.
    pub fn start(
        binary: &Path,
        arguments: &[&str],
        log: &Path,
        interrupt: &Interrupt,
    ) -> io::Result<Server> {
        // Free now, and nobody but us is likely to take it in the next millisecond.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let output = File::create(log)?;
        let mut command = Command::new(binary);
        command.args(["--listen", &address.to_string()]).args(arguments);
        command.stdout(output.try_clone()?).stderr(output);
        let process = Guarded::start(&mut command, SERVER_CORE)?;
        let mut server = Server { process, address, log: log.to_owned() };
        let deadline = Instant::now() + START;
        while !is_listening(address)? {
            interrupt.check()?;
            if let Some(status) = server.process.0.try_wait()? {
                return Err(server.with_last_words(&format!("the server ended, {status}")));
            }
            if Instant::now() > deadline {
                return Err(server.with_last_words("the server does not listen"));
            }
            sleep(Duration::from_millis(2));
        }
        Ok(server)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// An error that ends with what the server said last.
    pub fn with_last_words(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let words = last_line(&log).map(|line| format!("; the server: {line}"));
        io::Error::other(format!("{what}{}", words.unwrap_or_default()))
    }
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().find(|line| !line.trim().is_empty())
}

/// Seen from outside: a connection to try it would be work for the server.
fn is_listening(address: SocketAddr) -> io::Result<bool> {
    Ok(fs::read_to_string("/proc/net/tcp")?.lines().any(|line| listens_on(line, address.port())))
}

/// Reads one line of `/proc/net/tcp`: number, local address, remote address, state.
fn listens_on(line: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let mut words = line.split_whitespace().skip(1);
    let local = words.next().unwrap_or_default();
    local.ends_with(&format!(":{port:04X}")) && words.nth(1) == Some(LISTEN)
}

/// Binds the calling thread to one core.
///
/// # Errors
/// What `sched_setaffinity(2)` says.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> Interrupt {
        Interrupt(Arc::new(AtomicBool::new(false)))
    }

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn what_is_dropped_is_stopped_and_reaped() {
        let child = Guarded::start(Command::new("sleep").arg("600"), 0).expect("sleep");
        let pid = child.id();
        assert!(is_alive(pid));
        drop(child);
        assert!(!is_alive(pid));
    }

    #[test]
    fn a_panic_stops_what_runs() {
        let pid = std::thread::spawn(|| {
            let child = Guarded::start(Command::new("sleep").arg("600"), 0).expect("sleep");
            std::panic::resume_unwind(Box::new(child.id()));
        })
        .join()
        .expect_err("a panic");
        assert!(!is_alive(*pid.downcast::<u32>().expect("its process id")));
    }

    #[test]
    fn who_does_not_listen_to_sigterm_is_killed() {
        let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
        let command = &mut Command::new("bash");
        let command = command.args(["-c", script]).stdout(Stdio::piped());
        let mut child = Guarded::start(command, 0).expect("bash");
        let mut ready = [0; 5];
        child.0.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("ready");
        let pid = child.id();
        drop(child);
        assert!(!is_alive(pid));
    }

    #[test]
    fn a_wait_ends_when_somebody_asks_us_to_stop() {
        let asked = Interrupt(Arc::new(AtomicBool::new(true)));
        let error = run(Command::new("sleep").arg("600"), soon(), &asked).expect_err("asked");
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let mut shell = Command::new("sh");
        let error = run(shell.args(["-c", "echo so it goes >&2; exit 3"]), soon(), &never());
        assert_eq!(error.expect_err("status 3").to_string(), "so it goes");
        let mut shell = Command::new("sh");
        assert_eq!(run(shell.args(["-c", "echo fine"]), soon(), &never()).expect("0"), "fine\n");
    }

    #[test]
    fn only_a_listening_socket_of_that_port_is_a_listener() {
        let line = |local, state| format!("  0: {local} 00000000:0000 {state} 00000000:00000000");
        assert!(listens_on(&line("0100007F:2329", "0A"), 9001));
        assert!(!listens_on(&line("0100007F:2329", "01"), 9001));
        assert!(!listens_on(&line("0100007F:232A", "0A"), 9001));
        assert!(!listens_on("  sl  local_address rem_address   st", 9001));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        assert!(is_listening(listener.local_addr().expect("bound")).expect("/proc"));
    }
}
