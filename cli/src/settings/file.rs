//! The file of settings: from TOML to layers, or everything that is wrong with it.

use std::any::TypeId;
use std::error::Error;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args, Command};
use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::flags::{ListenerArgs, RouteArgs, ServeArgs, command, key};
use super::layer::{Entry, Layer, Source, rivals, written};
use super::mistake::Mistake;

/// What a file says.
#[derive(Debug, Default)]
pub struct File {
    pub general: Layer,
    /// The tables `[[listener]]`: addresses with settings of their own.
    pub listeners: Vec<Layer>,
    /// The tables `[[route]]`: paths with settings of their own.
    pub routes: Vec<Layer>,
}

/// Reads a file.
///
/// # Errors
/// All mistakes that can be seen key by key, in the order of their lines.
pub fn read(text: &str) -> Result<File, Vec<Mistake>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, mistakes: Vec::new() };
    for error in errors {
        let at = error.span().map_or(0, |span| span.start);
        reader.complain(at, None, error.message());
    }
    // Behind a mistake in the writing, keys may be in tables that were not meant.
    let file = match reader.mistakes[..] {
        [] => reader.file(document.get_ref()),
        _ => File::default(),
    };
    reader.mistakes.sort_by_key(|mistake| mistake.source);
    if reader.mistakes.is_empty() { Ok(file) } else { Err(reader.mistakes) }
}

/// Where a key stands, and so which there may be.
struct Scope<'a> {
    command: &'a Command,
    /// `limits` in the table `[limits]`.
    group: Option<&'a str>,
    /// `listener` in a table `[[listener]]`.
    element: Option<&'a str>,
}

struct Reader<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
}

type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn file(&mut self, document: &DeTable<'_>) -> File {
        let general = command::<ServeArgs>();
        let groups = groups(&general);
        let top = Scope { command: &general, group: None, element: None };
        let mut file = File::default();
        for (name, value) in document {
            match (&**name.get_ref(), value.get_ref()) {
                ("listener", _) => {
                    file.listeners = self.elements::<ListenerArgs>(name, value, "listen");
                }
                ("route", _) => file.routes = self.elements::<RouteArgs>(name, value, "path"),
                (group, DeValue::Table(table)) if groups.iter().any(|it| it == group) => {
                    let scope = Scope { group: Some(group), ..top };
                    self.settings(&scope, table, &mut file.general);
                }
                (group, DeValue::Table(_)) if find(&top, group).is_err() => {
                    let reason = format!("there is no such table; there are {}", groups.join(", "));
                    self.complain(name.span().start, Some(group), &reason);
                }
                _ => self.setting(&top, name, value, &mut file.general),
            }
        }
        self.refuse_rivals(&general, &file.general);
        file
    }

    /// An array of tables, each of which has to say `required`.
    fn elements<'a, T: Args>(
        &mut self,
        name: &Key<'_>,
        value: &'a Value<'a>,
        required: &str,
    ) -> Vec<Layer> {
        let command = command::<T>();
        let scope = Scope { command: &command, group: None, element: Some(name.get_ref()) };
        let table =
            |element: &'a Value<'a>| Some((element.span().start, element.get_ref().as_table()?));
        let elements = value.get_ref().as_array().map_or(&[][..], |array| array);
        let tables: Option<Vec<_>> = elements.iter().map(table).collect();
        let Some(tables) = tables.filter(|tables| !tables.is_empty()) else {
            let reason = format!("it is written as tables: [[{}]]", name.get_ref());
            self.complain(name.span().start, Some(name.get_ref()), &reason);
            return Vec::new();
        };
        let read = |(at, table): (usize, &DeTable<'_>)| {
            let mut layer = Layer::default();
            self.settings(&scope, table, &mut layer);
            self.refuse_rivals(&command, &layer);
            if !table.keys().any(|key| key.get_ref() == required) {
                let reason = format!("[[{}]] has to say {required:?}", name.get_ref());
                self.complain(at, None, &reason);
            }
            layer
        };
        tables.into_iter().map(read).collect()
    }

    fn settings(&mut self, scope: &Scope<'_>, table: &DeTable<'_>, layer: &mut Layer) {
        for (name, value) in table {
            self.setting(scope, name, value, layer);
        }
    }

    fn setting(&mut self, scope: &Scope<'_>, name: &Key<'_>, value: &Value<'_>, layer: &mut Layer) {
        let (at, name) = (name.span().start, &**name.get_ref());
        let read = find(scope, name).and_then(|arg| {
            let values = values(arg, value.get_ref())?;
            let refusal = values.iter().find_map(|value| refusal(scope.command, arg, value));
            refusal.map_or(Ok(values), Err)
        });
        match read {
            Err(reason) => self.complain(at, Some(name), &reason),
            Ok(values) => {
                let entry = Entry { values, source: Source::Line(self.line(at)) };
                if let Some(Entry { source, .. }) = layer.0.insert(name.to_owned(), entry) {
                    // Top level and table: two tables of one name are a mistake in the writing.
                    let reason = format!("it is set in line {} too", source.line());
                    self.complain(at, Some(name), &reason);
                }
            }
        }
    }

    /// Settings of one layer that cannot stand side by side.
    fn refuse_rivals(&mut self, command: &Command, layer: &Layer) {
        let is_on = |entry: &&Entry| !entry.values.is_empty();
        for (name, entry) in layer.0.iter().filter(|(_, entry)| is_on(entry)) {
            for rival in rivals(command, name) {
                let Some(other) = layer.0.get(&rival).filter(is_on) else { continue };
                // Each pair is met twice; the later line is the one to name.
                if (other.source, &rival) < (entry.source, name) {
                    let line = other.source.line();
                    let reason = format!("it cannot stand beside {rival} in line {line}");
                    self.mistakes.push(Mistake { source: entry.source, key: name.clone(), reason });
                }
            }
        }
    }

    fn complain(&mut self, at: usize, key: Option<&str>, reason: &str) {
        let source = Source::Line(self.line(at));
        let key = key.unwrap_or_default().to_owned();
        self.mistakes.push(Mistake { source, key, reason: reason.to_owned() });
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }
}

/// The names of the tables, in the order of the help.
pub fn groups(command: &Command) -> Vec<String> {
    let mut groups = Vec::new();
    for group in command.get_arguments().map(group) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// The name of the table in which a setting may stand.
pub fn group(arg: &Arg) -> String {
    arg.get_help_heading().unwrap_or_default().to_lowercase()
}

/// The setting of this name, if it may stand here.
fn find<'a>(scope: &Scope<'a>, name: &str) -> Result<&'a Arg, String> {
    let Some(arg) = scope.command.get_arguments().find(|arg| key(arg) == name) else {
        let is_general = command::<ServeArgs>().get_arguments().any(|arg| key(arg) == name);
        return Err(match scope.element.filter(|_| is_general) {
            Some(element) => format!("it is the same for every {element}"),
            None => format!("there is no such setting{}", suggestion(scope.command, name)),
        });
    };
    match scope.group.filter(|own| *own != group(arg)) {
        Some(_) => Err(format!("it belongs in [{}]", group(arg))),
        None => Ok(arg),
    }
}

fn suggestion(command: &Command, name: &str) -> String {
    let error = command.clone().try_get_matches_from(["corewire", &format!("--{name}=")]).err();
    match error.as_ref().and_then(|error| error.get(ContextKind::SuggestedArg)) {
        Some(ContextValue::String(flag)) => {
            format!("; perhaps {}", flag.trim_start_matches('-'))
        }
        _ => String::new(),
    }
}

/// A value of the file as it would be written behind the flag.
fn values(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match (value, arg.get_action()) {
        (DeValue::Boolean(is_on), ArgAction::SetTrue) => {
            Ok(is_on.then(|| "true".to_owned()).into_iter().collect())
        }
        (_, ArgAction::SetTrue) => Err("it is true or false".into()),
        (DeValue::Array(list), ArgAction::Append) => {
            list.iter().map(|value| scalar(arg, value.get_ref())).collect()
        }
        (DeValue::Array(_), _) => Err("it takes one value, not a list".into()),
        (value, _) => Ok(vec![scalar(arg, value)?]),
    }
}

fn scalar(arg: &Arg, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::Integer(number) if is_number(arg) => {
            decimal(number).ok_or_else(|| "it is too large".into())
        }
        _ if is_number(arg) => Err("it takes a number, without quotes".into()),
        DeValue::String(text) => Ok(text.to_string()),
        // Digits are the same in quotes and without them, unless they are of another radix.
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        _ => Err("it takes text, in quotes".into()),
    }
}

fn decimal(number: &DeInteger<'_>) -> Option<String> {
    i128::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
}

/// Whether a value is a bare number, with which no unit is written.
pub fn is_number(arg: &Arg) -> bool {
    let numbers = [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>()];
    numbers.iter().any(|number| arg.get_value_parser().type_id() == *number)
}

/// Why a value cannot be: what the command line would say of it.
fn refusal(command: &Command, arg: &Arg, value: &str) -> Option<String> {
    let line = ["corewire".to_owned(), written(arg, value)];
    let error = command.clone().try_get_matches_from(line).err()?;
    Some(error.source().map_or_else(|| error.kind().to_string(), ToString::to_string))
}
