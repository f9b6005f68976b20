//! The settings in force as a file that says them all.

use std::path::Path;

use clap::{Arg, ArgAction, Command};
use toml::Value;

use super::Layers;
use super::file::{group, groups, is_number};
use super::flags::{ServeArgs, command, key};
use super::layer::{Entry, InForce, Layer, Source, is_switch};

const HEAD: &str = "\
# The settings of `corewire serve`, as --print-config prints them and --config reads them.
# Every key is the flag of that name, and may also stand at the top, without its table. Behind each
# value stands who set it; a key behind a `#` is not set.
";

/// The whole document.
pub fn document(layers: &Layers<'_>, general: &InForce<'_>, file: &Path) -> String {
    let command = command::<ServeArgs>();
    let mut text = HEAD.to_owned();
    for group in groups(&command) {
        text += &format!("\n[{group}]\n");
        for arg in command.get_arguments().filter(|arg| self::group(arg) == group) {
            text += &commented(&help(arg));
            text += &match general.get(key(arg)) {
                Some(entry) => setting(arg, entry, file),
                None => format!("#{} = {}\n", key(arg), value_name(arg)),
            };
        }
    }
    for (name, elements) in [("listener", &layers.file.listeners), ("route", &layers.file.routes)] {
        for element in elements {
            text += &self::element(&command, name, element, file);
        }
    }
    text
}

/// A table of an array: what it does not say is as in the general part.
fn element(command: &Command, name: &str, layer: &Layer, file: &Path) -> String {
    let mut text = format!("\n[[{name}]]\n");
    for arg in command.get_arguments() {
        let entry = layer.0.get(key(arg));
        text += &entry.map(|entry| setting(arg, entry, file)).unwrap_or_default();
    }
    text
}

fn setting(arg: &Arg, entry: &Entry, file: &Path) -> String {
    let source = match entry.source {
        Source::Default => "default".to_owned(),
        Source::Flag => format!("--{}", key(arg)),
        Source::Line(line) => format!("{}:{line}", file.display()),
    };
    format!("{} = {}  # {source}\n", key(arg), value(arg, &entry.values))
}

fn value(arg: &Arg, values: &[String]) -> Value {
    let scalar = |text: &String| match text.parse() {
        Ok(number) if is_number(arg) => Value::Integer(number),
        _ => Value::String(text.clone()),
    };
    match (arg.get_action(), values) {
        _ if is_switch(arg) => Value::Boolean(!values.is_empty()),
        (ArgAction::Append, values) => Value::Array(values.iter().map(scalar).collect()),
        (_, [one]) => scalar(one),
        (_, values) => unreachable!("one value was checked to be one: {values:?}"),
    }
}

fn help(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}

fn value_name(arg: &Arg) -> &str {
    arg.get_value_names().and_then(|names| names.first()).map_or("true", |name| name.as_str())
}

/// Lines of at most 100 columns.
fn commented(text: &str) -> String {
    const COLUMNS_MAX: usize = 100;
    let mut lines = vec!["#".to_owned()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one from the beginning");
        if line.len() + 1 + word.len() > COLUMNS_MAX {
            lines.push(format!("# {word}"));
        } else {
            *line += " ";
            *line += word;
        }
    }
    lines.join("\n") + "\n"
}
