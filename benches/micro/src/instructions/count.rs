//! One case at a time under callgrind, in a process of its own.

use std::env;
use std::process::Command;

use crate::cases::Case;

/// The argument that makes this program run one case.
pub const CASE: &str = "--case";

/// How often a case's work is done while it is counted: so often that what happens now and then
/// has its share, and the one call of [`counted_section`] has none.
const ROUNDS: u32 = 64;

/// Instructions for each operation of the case, to a tenth.
pub fn under_callgrind(case: &Case) -> Result<f64, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .args(["--toggle-collect=*counted_section*", "--"])
        .arg(program)
        .args([CASE, case.name])
        // What the environment holds would move the stack.
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .output()
        .map_err(|error| format!("valgrind could not be started: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected :"));
    match collected.map(|(_, count)| count.trim().parse::<u32>()) {
        Some(Ok(total)) if output.status.success() && total > 0 => {
            let count = f64::from(total) / f64::from(ROUNDS * case.operations);
            Ok((count * 10.0).round() / 10.0)
        }
        _ => Err(format!("`{}` was not counted; valgrind said:\n{report}", case.name)),
    }
}

/// Whatever is done in here is counted, and nothing else.
#[inline(never)]
pub fn counted_section(work: &mut dyn FnMut()) {
    for _ in 0..ROUNDS {
        work();
    }
}
