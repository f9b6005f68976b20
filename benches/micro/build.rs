//! Opens corewire's private floors to the benches, holds this crate's dependencies to the
//! library's, and notes what the counts depend on: the compiler and its flags.

use std::env;
use std::fs;
use std::process::Command;

fn main() {
    // Set here and not in RUSTFLAGS, it reaches this package alone and no dependency.
    println!("cargo::rustc-cfg=fuzzing");
    for manifest in [OURS, LIBRARYS] {
        println!("cargo::rerun-if-changed={manifest}");
    }
    let ours = fs::read_to_string(OURS).expect("the manifest is here");
    let librarys = fs::read_to_string(LIBRARYS).expect("the library is two floors up");
    for line in dependencies(&librarys) {
        let line = line.replace(", optional = true", "");
        assert!(
            dependencies(&ours).any(|ours| ours == line),
            "the library depends on `{line}`, benches/micro/Cargo.toml does not say the same"
        );
    }
    let rustc = env::var("RUSTC").expect("cargo names the compiler");
    let version = Command::new(rustc).arg("-V").output().expect("the compiler tells its version");
    println!("cargo::rustc-env=MICRO_RUSTC={}", String::from_utf8_lossy(&version.stdout).trim());
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().replace('\x1f', " ");
    println!("cargo::rustc-env=MICRO_RUSTFLAGS={flags}");
}

/// The lines of a manifest's `[dependencies]` but for comments.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

const OURS: &str = "Cargo.toml";
const LIBRARYS: &str = "../../Cargo.toml";
