//! The committed counts, and what is found when they are compared with new ones.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// How much a count may grow. Counts repeat exactly, so this is no tolerance for noise but for
/// inlining that falls out differently at a distance.
pub const TOLERANCE_PERCENT: f64 = 3.0;

/// By how much a message may cost more or less because another loop runs.
pub const PAIR_TOLERANCE_PERCENT: f64 = 1.0;

/// Counts and what they were made with.
#[derive(Deserialize, Serialize)]
pub struct Baseline {
    pub made_with: MadeWith,
    /// Instructions for each operation, by the case's name.
    pub instructions: BTreeMap<String, f64>,
}

/// All that changes counts without a change of the code.
#[derive(Deserialize, Serialize, PartialEq, Eq)]
pub struct MadeWith {
    /// `rustc -V` of the compiler that built this program.
    rustc: String,
    rustflags: String,
    valgrind: String,
    /// Brings `memcpy` and `malloc`.
    libc: String,
}

/// What became of a count.
#[derive(Debug, PartialEq)]
pub enum Finding {
    Grew {
        name: String,
        old: f64,
        new: f64,
    },
    Shrank {
        name: String,
        old: f64,
        new: f64,
    },
    /// The baseline does not know it.
    Unknown {
        name: String,
        new: f64,
    },
    /// It is in the baseline only.
    Gone {
        name: String,
        old: f64,
    },
    /// A loop pays for another one.
    Unequal {
        alone: f64,
        beside_another: f64,
    },
}

impl Baseline {
    pub fn read() -> Result<Self, String> {
        let text = fs::read_to_string(PATH).map_err(|error| format!("{PATH}: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("{PATH}: {error}"))
    }

    pub fn write(&self) -> Result<(), String> {
        let text = toml::to_string_pretty(self).map_err(|error| error.to_string())?;
        fs::write(PATH, format!("{HEADING}{text}")).map_err(|error| format!("{PATH}: {error}"))
    }

    /// What differs by more than the tolerance, by name.
    pub fn compare(&self, counted: &Self) -> Vec<Finding> {
        let factor = 1.0 + TOLERANCE_PERCENT / 100.0;
        let gone = self.instructions.iter().filter_map(|(name, &old)| {
            let is_gone = !counted.instructions.contains_key(name);
            is_gone.then(|| Finding::Gone { name: name.clone(), old })
        });
        let others = counted.instructions.iter().filter_map(|(name, &new)| {
            let name = name.clone();
            match self.instructions.get(&name) {
                None => Some(Finding::Unknown { name, new }),
                Some(&old) if new > old * factor => Some(Finding::Grew { name, old, new }),
                Some(&old) if new * factor < old => Some(Finding::Shrank { name, old, new }),
                Some(_) => None,
            }
        });
        gone.chain(others).collect()
    }

    /// Whether loops cost each other anything.
    pub fn compare_pair(&self, alone: &str, beside_another: &str) -> Option<Finding> {
        let [alone, beside_another] =
            [self.instructions.get(alone)?, self.instructions.get(beside_another)?];
        let apart = (beside_another / alone - 1.0).abs();
        (apart * 100.0 > PAIR_TOLERANCE_PERCENT)
            .then_some(Finding::Unequal { alone: *alone, beside_another: *beside_another })
    }
}

impl MadeWith {
    /// What this program was built with and what it finds.
    pub fn here() -> Result<Self, String> {
        let first_line = |command: &str| {
            let output = Command::new(command).arg("--version").output();
            let output = output.map_err(|error| format!("{command} could not be run: {error}"))?;
            let text = String::from_utf8_lossy(&output.stdout);
            Ok::<_, String>(text.lines().next().unwrap_or_default().to_owned())
        };
        Ok(Self {
            rustc: env!("MICRO_RUSTC").into(),
            rustflags: env!("MICRO_RUSTFLAGS").into(),
            valgrind: first_line("valgrind")?,
            libc: first_line("ldd")?,
        })
    }

    /// Counts of a build for another processor would be no counts to compare.
    pub fn check_flags(&self) -> Result<(), String> {
        if self.rustflags == RUSTFLAGS {
            return Ok(());
        }
        Err(format!("built with `{}` instead of `{RUSTFLAGS}`: use check.sh", self.rustflags))
    }
}

impl fmt::Display for MadeWith {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rustc, rustflags, valgrind, libc } = self;
        write!(out, "  {rustc}, {rustflags}\n  {valgrind}, {libc}")
    }
}

impl Finding {
    /// A count that shrank is good news.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Grew { .. } | Self::Unknown { .. } | Self::Gone { .. } | Self::Unequal { .. } => {
                true
            }
            Self::Shrank { .. } => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |old: &f64, new: &f64| (new / old - 1.0) * 100.0;
        match self {
            Self::Grew { name, old, new } => {
                write!(out, "GREW: {name}: {old} -> {new} ({:+.1} %)", percent(old, new))
            }
            Self::Shrank { name, old, new } => write!(
                out,
                "shrank: {name}: {old} -> {new} ({:+.1} %); --accept tightens the baseline",
                percent(old, new)
            ),
            Self::Unknown { name, new } => write!(out, "NOT IN THE BASELINE: {name}: {new}"),
            Self::Unequal { alone, beside_another } => write!(
                out,
                "UNEQUAL: a message takes {alone} on a loop alone and {beside_another} beside another"
            ),
            Self::Gone { name, old } => write!(out, "NO LONGER COUNTED: {name}: {old}"),
        }
    }
}

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml");

/// AVX2 is what the masking code looks for, and what valgrind can follow; AVX-512 it does not know.
const RUSTFLAGS: &str = "-Ctarget-cpu=x86-64-v3";

const HEADING: &str = "# Instructions for each operation, as callgrind counts them.\n\
    # Written by benches/micro/check.sh --accept; never by hand.\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(counts: &[(&str, f64)]) -> Baseline {
        let made_with = MadeWith {
            rustc: "rustc 1".into(),
            rustflags: RUSTFLAGS.into(),
            valgrind: "valgrind-3".into(),
            libc: "ldd 2".into(),
        };
        let instructions = counts.iter().map(|&(name, count)| (name.into(), count)).collect();
        Baseline { made_with, instructions }
    }

    #[test]
    fn count_within_the_tolerance_is_no_finding() {
        let old = baseline(&[("a", 100.0), ("b", 100.0), ("c", 100.0)]);
        assert_eq!(old.compare(&baseline(&[("a", 103.0), ("b", 97.1), ("c", 100.0)])), []);
    }

    #[test]
    fn count_that_grew_fails_and_is_told_with_old_and_new() {
        let findings = baseline(&[("a", 100.0)]).compare(&baseline(&[("a", 103.1)]));
        let grew = Finding::Grew { name: "a".into(), old: 100.0, new: 103.1 };
        assert_eq!(findings, [grew]);
        assert!(findings[0].is_failure());
        assert_eq!(findings[0].to_string(), "GREW: a: 100 -> 103.1 (+3.1 %)");
    }

    #[test]
    fn count_that_shrank_is_told_and_passes() {
        let findings = baseline(&[("a", 100.0)]).compare(&baseline(&[("a", 96.0)]));
        assert_eq!(findings, [Finding::Shrank { name: "a".into(), old: 100.0, new: 96.0 }]);
        assert!(!findings[0].is_failure());
    }

    #[test]
    fn count_without_its_like_on_the_other_side_fails() {
        let findings = baseline(&[("a", 1.0)]).compare(&baseline(&[("b", 2.0)]));
        let gone = Finding::Gone { name: "a".into(), old: 1.0 };
        assert_eq!(findings, [gone, Finding::Unknown { name: "b".into(), new: 2.0 }]);
        assert!(findings.iter().all(Finding::is_failure));
    }

    #[test]
    fn loop_that_pays_for_another_is_found() {
        let counted = |beside| baseline(&[("a", 100.0), ("b", beside)]).compare_pair("a", "b");
        assert!([99.1, 100.0, 100.9].into_iter().all(|beside| counted(beside).is_none()));
        for beside_another in [98.9, 101.1] {
            let unequal = Finding::Unequal { alone: 100.0, beside_another };
            assert!(unequal.is_failure());
            assert_eq!(counted(beside_another), Some(unequal));
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let baseline = baseline(&[("echo, 16 per read", 214.3)]);
        let text = toml::to_string_pretty(&baseline).unwrap();
        let read: Baseline = toml::from_str(&text).unwrap();
        assert!(read.made_with == baseline.made_with);
        assert_eq!(read.instructions, baseline.instructions);
    }
}
