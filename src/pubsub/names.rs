//! Names of topics and the patterns that they are subscribed by (MQTT 5.0 §4.7).

use std::fmt;

use crate::limits::TopicLimits;

/// Why a name or a pattern was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// It has no character (MQTT 5.0 §4.7.3).
    Empty,
    /// It has more than [`TopicLimits::name_bytes_max`] bytes.
    TooLong,
    /// It has more than [`TopicLimits::levels_max`] levels.
    TooManyLevels,
    /// It has the character NUL (MQTT 5.0 §4.7.3).
    Nul,
    /// A name to publish to has a wildcard (MQTT 5.0 §3.3.2.1).
    Wildcard,
    /// A wildcard is not the whole of its level (MQTT 5.0 §4.7.1).
    PartOfLevel,
    /// Something follows the wildcard for the rest (MQTT 5.0 §4.7.1.2).
    BehindRest,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the name of the topic is empty",
            Self::TooLong => "the name of the topic is too long",
            Self::TooManyLevels => "the name of the topic has too many levels",
            Self::Nul => "the name of the topic has a NUL",
            Self::Wildcard => "the name to publish to has a wildcard",
            Self::PartOfLevel => "a wildcard is not the whole of its level",
            Self::BehindRest => "something follows the wildcard for the rest",
        })
    }
}

impl std::error::Error for NameError {}

/// What a pattern is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The name of one topic.
    Exact,
    /// With wildcards.
    Filter,
}

impl Pattern {
    /// Of a pattern that was checked.
    pub fn of(text: &str) -> Self {
        if text.contains(WILDCARDS) { Self::Filter } else { Self::Exact }
    }
}

impl TopicLimits {
    /// Checks a name as publishing does, before there is a loop to publish from.
    ///
    /// # Errors
    /// [`NameError`] names the rule that it breaks.
    pub fn check_name(&self, name: &str) -> Result<(), NameError> {
        self.check(name)?;
        if name.contains(WILDCARDS) { Err(NameError::Wildcard) } else { Ok(()) }
    }

    /// Checks what is to be subscribed to, a name or a filter.
    ///
    /// # Errors
    /// [`NameError`] names the rule that it breaks.
    pub fn check_pattern(&self, pattern: &str) -> Result<(), NameError> {
        self.check(pattern)?;
        let mut is_behind_rest = false;
        for level in pattern.split('/') {
            if is_behind_rest {
                return Err(NameError::BehindRest);
            }
            if level.len() > 1 && level.contains(WILDCARDS) {
                return Err(NameError::PartOfLevel);
            }
            is_behind_rest = level == REST;
        }
        Ok(())
    }

    /// What goes for both.
    fn check(&self, text: &str) -> Result<(), NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > self.name_bytes_max.into() {
            return Err(NameError::TooLong);
        }
        if text.contains('\0') {
            return Err(NameError::Nul);
        }
        let levels = 1 + text.bytes().filter(|byte| *byte == b'/').count();
        if levels > self.levels_max.into() { Err(NameError::TooManyLevels) } else { Ok(()) }
    }
}

/// The level that stands for any one.
pub const ONE: &str = "+";

/// The level that stands for all that follow and for the level before them.
pub const REST: &str = "#";

const WILDCARDS: [char; 2] = ['+', '#'];
