//! Settings as they were written, one layer upon the other.

use std::collections::{BTreeMap, BTreeSet};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};

use super::flags::{ServeArgs, command, key};

/// Who said it, the last word last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    /// A line of the file.
    Line(usize),
    Flag,
}

impl Source {
    /// The line of the file; 0 for what stands in none.
    pub fn line(self) -> usize {
        match self {
            Self::Line(line) => line,
            Self::Default | Self::Flag => 0,
        }
    }
}

/// A setting as it was written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// None for a switch that is off and for an empty list.
    pub values: Vec<String>,
    pub source: Source,
}

/// What one place says: the defaults, the flags, the file, one of its tables. By key.
#[derive(Clone, Debug, Default)]
pub struct Layer(pub BTreeMap<String, Entry>);

impl Layer {
    /// What holds where nobody says anything.
    pub fn of_defaults() -> Self {
        let settings = ServeArgs::augment_args(Command::new("corewire"));
        let entries = settings.get_arguments().filter_map(|arg| {
            let values = arg.get_default_values().iter();
            let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
            let values = (is_switch(arg) || !values.is_empty()).then_some(values)?;
            Some((key(arg).to_owned(), Entry { values, source: Source::Default }))
        });
        Self(entries.collect())
    }

    /// What the command line says itself.
    pub fn of_flags(matches: &ArgMatches) -> Self {
        let settings = command::<ServeArgs>();
        let given = |arg: &&Arg| {
            matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        let entries = settings.get_arguments().filter(given).map(|arg| {
            let raw = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
            // No value gets here that is not UTF-8: its parser takes none.
            let values = raw.map(|value| value.to_string_lossy().into_owned()).collect();
            (key(arg).to_owned(), Entry { values, source: Source::Flag })
        });
        Self(entries.collect())
    }
}

/// The settings of one scope that hold, by key.
#[derive(Debug)]
pub struct InForce<'a> {
    command: Command,
    entries: BTreeMap<&'a str, &'a Entry>,
}

impl<'a> InForce<'a> {
    /// What `layers` come to for the settings of `T`, the nearest layer first. A nearer one
    /// displaces not only its own keys of farther ones, but also those that cannot stand beside
    /// them: with `--no-heartbeat`, the file's `ping-every` means nothing.
    pub fn new<T: Args>(layers: &[&'a Layer]) -> Self {
        let command = command::<T>();
        let mut entries: BTreeMap<&str, &Entry> = BTreeMap::new();
        for layer in layers {
            let displaced: BTreeSet<String> = entries
                .iter()
                .filter(|(_, entry)| !entry.values.is_empty())
                .flat_map(|(key, _)| rivals(&command, key))
                .collect();
            for (key, entry) in &layer.0 {
                let is_known = command.get_arguments().any(|arg| arg.get_long() == Some(key));
                if is_known && !displaced.contains(key) {
                    entries.entry(key).or_insert(entry);
                }
            }
        }
        Self { command, entries }
    }

    pub fn get(&self, key: &str) -> Option<&'a Entry> {
        self.entries.get(key).copied()
    }

    /// The settings with their types.
    pub fn typed<T: Args>(&self) -> T {
        let matches = self.command.clone().try_get_matches_from(self.command_line());
        let typed = matches.and_then(|matches| T::from_arg_matches(&matches));
        typed.expect("each value was read once, and rivals are displaced")
    }

    fn command_line(&self) -> Vec<String> {
        let mut line = vec!["corewire".to_owned()];
        for arg in self.command.get_arguments() {
            let values = self.get(key(arg)).map_or(&[][..], |entry| &entry.values);
            line.extend(values.iter().map(|value| written(arg, value)));
        }
        line
    }
}

/// A setting as a flag.
pub fn written(arg: &Arg, value: &str) -> String {
    let key = key(arg);
    if is_switch(arg) { format!("--{key}") } else { format!("--{key}={value}") }
}

/// Whether a setting is on or off.
pub fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// The settings that cannot stand beside this one.
pub fn rivals(command: &Command, key: &str) -> Vec<String> {
    let names = |arg: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(arg).iter().any(|rival| rival.get_id() == other.get_id())
    };
    let Some(own) = command.get_arguments().find(|arg| arg.get_long() == Some(key)) else {
        return Vec::new();
    };
    let others = command.get_arguments().filter(|other| names(own, other) || names(other, own));
    others.map(|other| self::key(other).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that a setting takes. What has no default is a time, a number, a network or a field.
    fn some_value(command: &Command, arg: &Arg) -> String {
        let default = arg.get_default_values().iter().filter_map(|value| value.to_str());
        let takes = |value: &&str| {
            let line = ["corewire".to_owned(), written(arg, value)];
            command.clone().try_get_matches_from(line).is_ok()
        };
        let mut values = default.chain(["1s", "1", "unix", "forwarded"]);
        values.find(takes).expect("a value that it takes").to_owned()
    }

    #[test]
    fn every_setting_can_be_set_and_puts_out_what_cannot_stand_beside_it() {
        let defaults = Layer::of_defaults();
        let with_defaults = ServeArgs::augment_args(Command::new("corewire"));
        for arg in with_defaults.get_arguments() {
            let values = vec![some_value(&with_defaults, arg)];
            let entry = Entry { values, source: Source::Flag };
            let near = Layer([(key(arg).to_owned(), entry)].into());
            let in_force = InForce::new::<ServeArgs>(&[&near, &defaults]);
            let _: ServeArgs = in_force.typed();
            assert_eq!(in_force.get(key(arg)).map(|entry| entry.source), Some(Source::Flag));
            for rival in rivals(&in_force.command, key(arg)) {
                assert!(in_force.get(&rival).is_none(), "{rival} stands beside {}", key(arg));
            }
        }
    }

    #[test]
    fn nearer_layer_wins_back_what_a_farther_one_has_put_out() {
        let layer = |key: &str, values: &[&str]| {
            let values = values.iter().map(ToString::to_string).collect();
            Layer([(key.to_owned(), Entry { values, source: Source::Line(1) })].into())
        };
        let defaults = Layer::of_defaults();
        let (off, on) = (layer("no-heartbeat", &["true"]), layer("no-heartbeat", &[]));
        let often = layer("ping-every", &["1s"]);
        let value = |layers: &[&Layer], key: &str| {
            Some(InForce::new::<ServeArgs>(layers).get(key)?.values.concat())
        };
        for (layers, ping_every, dead_after) in [
            (&[&off, &defaults][..], None, None),
            (&[&on, &defaults], Some("30s"), Some("90s")),
            (&[&on, &off, &defaults], Some("30s"), Some("90s")),
            (&[&often, &off, &defaults], Some("1s"), Some("90s")),
            (&[&off, &often, &defaults], None, None),
            (&[&on, &often, &off, &defaults], Some("1s"), Some("90s")),
        ] {
            assert_eq!(value(layers, "ping-every").as_deref(), ping_every);
            assert_eq!(value(layers, "dead-after").as_deref(), dead_after);
        }
    }
}
