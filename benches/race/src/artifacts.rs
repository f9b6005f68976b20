//! Building what is raced, with the same flags for everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::peers::Peer;
use crate::rows::Row;

/// For every crate and all that it stands on; what is in C++ is built for this machine as well.
pub const RUSTFLAGS: &str = "-C target-cpu=native";

/// Where the programs are.
pub struct Artifacts {
    /// The load generator.
    pub load: PathBuf,
    /// Servers and clients by the name of their binary.
    pub programs: BTreeMap<String, PathBuf>,
}

/// Builds the generator and what of `peers` races in `rows`, and nothing else.
///
/// # Errors
/// Cargo's failure, which has said why; a program that it does not name.
pub fn build(
    load_crate: &Path,
    peers_crate: &Path,
    rows: &[&Row],
    peers: &[Peer],
) -> io::Result<Artifacts> {
    let mut generator = cargo_build(load_crate, &["--bin".to_owned(), "load".to_owned()])?;
    let features: BTreeSet<&str> =
        peers.iter().flat_map(|peer| peer.features.iter().map(String::as_str)).collect();
    let features: Vec<&str> = features.into_iter().collect();
    let mut arguments = vec!["--features".to_owned(), features.join(",")];
    let mut needed = BTreeSet::new();
    for row in rows {
        let takers = peers.iter().filter(|peer| row.takes(peer));
        needed.extend(takers.filter_map(|peer| peer.program(row.shape.end())));
    }
    for program in &needed {
        arguments.extend(["--bin".to_owned(), (*program).to_owned()]);
    }
    let programs = cargo_build(peers_crate, &arguments)?;
    let missing = |name: &str| io::Error::other(format!("cargo built no program {name}"));
    if let Some(program) = needed.iter().find(|program| !programs.contains_key(**program)) {
        return Err(missing(program));
    }
    let load = generator.remove("load").ok_or_else(|| missing("load"))?;
    Ok(Artifacts { load, programs })
}

fn cargo_build(directory: &Path, arguments: &[String]) -> io::Result<BTreeMap<String, PathBuf>> {
    println!("building {}: cargo build --release {}", directory.display(), arguments.join(" "));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--message-format=json-render-diagnostics"])
        .args(arguments)
        // From there, for a crate's own configuration is looked up from the current directory.
        .current_dir(directory)
        .env("RUSTFLAGS", RUSTFLAGS)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{} did not build", directory.display())));
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Cargo writes one JSON object a line; those of programs name a file.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    let program = |line| {
        let message: Message = serde_json::from_str(line).ok()?;
        Some((message.target?.name, message.executable?))
    };
    messages.lines().filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_off_what_cargo_says() {
        let messages = "\
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"libc\"},\"executable\":null}
{\"reason\":\"build-script-executed\",\"package_id\":\"libc\"}
{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"load\"},\"executable\":\"target/load\"}
not JSON
{\"reason\":\"build-finished\",\"success\":true}
";
        let expected = BTreeMap::from([("load".to_owned(), PathBuf::from("target/load"))]);
        assert_eq!(executables(messages), expected);
    }
}
