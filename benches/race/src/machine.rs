//! Where and how was measured.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::sched_getaffinity;
use serde::Serialize;

use crate::artifacts::RUSTFLAGS;
use crate::process::{GENERATOR_CORE, SERVER_CORE};

/// What figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As uname says it.
    pub kernel: String,
    /// Model of the processor.
    pub processor: String,
    /// Cores that the kernel runs.
    pub cores: usize,
    /// The compiler.
    pub rustc: String,
    /// For all servers and the generator.
    pub rustflags: String,
    /// The release profile of the crate with the servers.
    pub profile: String,
    /// The commit of this tree, and whether it was changed.
    pub commit: String,
}

impl Machine {
    /// Asks the kernel, the compiler and git; what does not answer is "unknown".
    pub fn look(peers_crate: &Path) -> Machine {
        let uname = rustix::system::uname();
        let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        let manifest = fs::read_to_string(peers_crate.join("Cargo.toml")).unwrap_or_default();
        Machine {
            kernel: format!("{} {}", word(uname.sysname()), word(uname.release())),
            processor: processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            rustc: first_line(Command::new(rustc).arg("--version")),
            rustflags: RUSTFLAGS.to_owned(),
            profile: profile(&manifest),
            commit: first_line(
                Command::new("git").current_dir(here).args(["describe", "--always", "--dirty"]),
            ),
        }
    }
}

const UNKNOWN: &str = "unknown";

fn first_line(command: &mut Command) -> String {
    let output = command.output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.as_deref().and_then(|text| text.lines().next()).unwrap_or(UNKNOWN).to_owned()
}

fn processor(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    model.and_then(|line| line.split_once(": ")).map_or(UNKNOWN, |(_, model)| model).to_owned()
}

fn profile(manifest: &str) -> String {
    let table: Option<toml::Table> = toml::from_str(manifest).ok();
    let release = table.as_ref().and_then(|table| table.get("profile")?.get("release")?.as_table());
    let pairs = release.map(|release| {
        release.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>()
    });
    pairs.map_or(UNKNOWN.to_owned(), |pairs| pairs.join(", "))
}

/// Raises the limit of open descriptors, which children inherit, and sees that `connections` at
/// once and a server beside a generator are possible.
///
/// # Errors
/// They are not.
pub fn prepare(connections: u32) -> io::Result<()> {
    let cores = sched_getaffinity(None)?;
    if !cores.is_set(SERVER_CORE) || !cores.is_set(GENERATOR_CORE) {
        let text = format!(
            "core {SERVER_CORE} for the server and core {GENERATOR_CORE} for the generator are needed"
        );
        return Err(io::Error::other(text));
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    // Standard streams, epoll and the like come on top.
    let needed = u64::from(connections) + 64;
    match maximum.filter(|maximum| *maximum < needed) {
        None => Ok(()),
        Some(maximum) => Err(io::Error::other(format!(
            "{connections} connections need {needed} descriptors; the hard limit is {maximum}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_off_a_manifest() {
        let manifest = "[package]\nname = \"x\"\n[profile.release]\nlto = \"fat\"\nopt-level = 3\n";
        assert_eq!(profile(manifest), "lto = \"fat\", opt-level = 3");
        assert_eq!(profile("[package]\n"), UNKNOWN);
    }

    #[test]
    fn a_processor_is_read_off_cpuinfo() {
        assert_eq!(processor("vendor\t: x\nmodel name\t: AMD EPYC\n"), "AMD EPYC");
        assert_eq!(processor(""), UNKNOWN);
    }

    #[test]
    fn what_does_not_answer_is_unknown() {
        assert_eq!(first_line(&mut Command::new("no-such-program-at-all")), UNKNOWN);
        assert_eq!(first_line(Command::new("echo").arg("a\nb")), "a");
    }

    #[test]
    fn too_many_connections_are_refused_in_front() {
        assert!(prepare(u32::MAX).is_err() || getrlimit(Resource::Nofile).maximum.is_none());
    }
}
