//! Counts the instructions of the hot paths under callgrind and holds them to a baseline.
//!
//! Counts repeat exactly where times drift, so a change that makes a path longer is seen on any
//! machine. They depend on the compiler, its flags and on valgrind, which the baseline therefore
//! names. `check.sh` builds with the right flags and calls this program.

use std::process::ExitCode;

use crate::baseline::{Baseline, Finding, MadeWith};

mod baseline;
mod cases;
mod count;
#[path = "../endpoint.rs"]
mod endpoint;
#[path = "../material.rs"]
mod material;
#[path = "../memory_net.rs"]
mod memory_net;
#[path = "../parts.rs"]
mod parts;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => check(),
        ["--accept"] => accept(),
        // How this program calls itself under valgrind.
        [count::CASE, name] => return run_case(name),
        _ => Err("usage: benches/micro/check.sh [--accept]".into()),
    };
    match outcome {
        Ok(code) => code,
        Err(message) => {
            eprintln!("instructions: {message}");
            ExitCode::from(2)
        }
    }
}

/// Compares with the baseline: 0 if nothing grew, 1 if something did.
fn check() -> Result<ExitCode, String> {
    let baseline = Baseline::read()?;
    let made_with = MadeWith::here()?;
    made_with.check_flags()?;
    if baseline.made_with != made_with {
        return Err(format!(
            "the baseline was made with\n{}\nand this is\n{}\nThe counts cannot be compared. \
             Write them anew with `benches/micro/check.sh --accept`, in a commit of its own that \
             changes nothing else.",
            baseline.made_with, made_with
        ));
    }
    let counted = count_all(made_with)?;
    let mut findings = baseline.compare(&counted);
    findings.extend(counted.compare_pair(cases::ALONE, cases::BESIDE_ANOTHER));
    for finding in &findings {
        println!("{finding}");
    }
    if findings.iter().any(Finding::is_failure) {
        println!("If that is as it should be: benches/micro/check.sh --accept");
        return Ok(ExitCode::FAILURE);
    }
    println!("no count grew by more than {} %", baseline::TOLERANCE_PERCENT);
    Ok(ExitCode::SUCCESS)
}

/// Makes what is counted now the baseline.
fn accept() -> Result<ExitCode, String> {
    let made_with = MadeWith::here()?;
    made_with.check_flags()?;
    let counted = count_all(made_with)?;
    if let Ok(before) = Baseline::read() {
        for finding in before.compare(&counted) {
            println!("{finding}");
        }
    }
    counted.write()?;
    Ok(ExitCode::SUCCESS)
}

fn count_all(made_with: MadeWith) -> Result<Baseline, String> {
    let mut baseline = Baseline { made_with, instructions: Default::default() };
    for case in cases::CASES {
        let count = count::under_callgrind(case)?;
        println!("{count:>10.1}  {}", case.name);
        baseline.instructions.insert(case.name.to_owned(), count);
    }
    Ok(baseline)
}

fn run_case(name: &str) -> ExitCode {
    match cases::CASES.iter().find(|case| case.name == name) {
        Some(case) => {
            (case.run)();
            ExitCode::SUCCESS
        }
        None => ExitCode::from(2),
    }
}
