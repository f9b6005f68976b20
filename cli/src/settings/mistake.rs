//! A setting that cannot be.

use std::path::Path;

use super::layer::Source;

/// Where it is written, and why it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub source: Source,
    /// Empty where the writing itself is wrong.
    pub key: String,
    pub reason: String,
}

impl Mistake {
    /// One line for a person: `corewire.toml:3: max-message: it takes text, in quotes`.
    pub fn tell(&self, file: &Path) -> String {
        let Self { source, key, reason } = self;
        match source {
            Source::Line(line) if key.is_empty() => format!("{}:{line}: {reason}", file.display()),
            Source::Line(line) => format!("{}:{line}: {key}: {reason}", file.display()),
            Source::Flag | Source::Default => {
                format!("corewire: --{key}: {reason} (see corewire serve --help)")
            }
        }
    }
}
