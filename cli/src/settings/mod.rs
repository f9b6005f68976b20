//! The settings of `serve`: defaults, a file, flags, and what they come to.
//!
//! There is one description of them, the structures in [`flags`]. Every key of the file is the name
//! of a flag, and its value is read as the flag's would be, so neither can know what the other does
//! not. Who says what stays apart in layers until all is known: then a refusal can name its line,
//! and `--print-config` can tell where each value comes from.

mod certificates;
mod check;
mod file;
mod flags;
mod layer;
mod mistake;
mod print;
mod values;

use std::path::Path;
use std::sync::Arc;

use certificates::Security;
use check::{Contradiction, Uses};
use corewire::limits::ROUTES_MAX;
use corewire::{Forwarding, Routes, Tls};
use file::File;
use layer::{Entry, InForce, Layer, Source};
use mistake::Mistake;

pub use certificates::Secured;
pub use flags::{ListenerArgs, RouteArgs, ServeArgs, ServeCommand};
pub use values::{Listen, MemoryBudget, compression};

/// What is in force.
#[derive(Debug)]
pub struct Settings {
    pub general: ServeArgs,
    pub listeners: Vec<Arc<Listener>>,
    /// All certificates of the listeners.
    pub secured: Vec<Secured>,
    /// The same as a file.
    pub document: String,
}

/// Addresses that share their settings.
#[derive(Debug)]
pub struct Listener {
    pub args: ListenerArgs,
    pub tls: Option<Tls>,
    pub forwarding: Option<Forwarding>,
    pub routes: Routes<Place>,
}

/// What a path leads to.
#[derive(Debug)]
pub struct Place {
    pub service: Service,
    pub args: Arc<RouteArgs>,
}

/// What the server does for a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Messages go back.
    Echo,
    /// What is published to the topic comes.
    Subscribe,
    /// What is sent is published to the topic.
    Publish,
    /// Requests say which of both.
    Topics,
}

/// Where topics are.
const TOPIC_PATHS: [(&str, Service); 3] = [
    ("/sub/{*topic}", Service::Subscribe),
    ("/pub/{*topic}", Service::Publish),
    ("/topics", Service::Topics),
];

/// What the defaults, the file and the flags come to.
///
/// # Errors
/// A line for each mistake that can be told at once.
pub fn load(command: &ServeCommand) -> Result<Settings, Vec<String>> {
    let path = command.config.as_deref().unwrap_or(Path::new(""));
    let tell = |mistakes: Vec<Mistake>| mistakes.iter().map(|it| it.tell(path)).collect();
    let file = match &command.config {
        None => File::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| vec![format!("{}: {error}", path.display())])?;
            file::read(&text).map_err(tell)?
        }
    };
    let layers = Layers::new(&command.flags.0, file);
    let (settings, mistakes) = layers.settle(path);
    if mistakes.is_empty() { Ok(settings) } else { Err(tell(mistakes)) }
}

/// Everything that was said, by whom.
struct Layers<'a> {
    defaults: Layer,
    file: File,
    flags: &'a Layer,
}

impl<'a> Layers<'a> {
    fn new(flags: &'a Layer, mut file: File) -> Self {
        let mut defaults = Layer::of_defaults();
        for (key, tables) in [("listen", &mut file.listeners), ("path", &mut file.routes)] {
            // Who says by a flag where to listen does not want to listen elsewhere too.
            if flags.0.contains_key(key) {
                tables.clear();
            }
            // Who lists listeners wants those alone.
            if !tables.is_empty() {
                defaults.0.entry(key.to_owned()).and_modify(|entry| entry.values.clear());
            }
        }
        Self { defaults, file, flags }
    }

    /// The general settings, and upon them `near`, the nearest first.
    fn upon<'b>(&'b self, near: &[&'b Layer]) -> Vec<&'b Layer> {
        [near, &[self.flags, &self.file.general, &self.defaults]].concat()
    }

    fn settle(&self, path: &Path) -> (Settings, Vec<Mistake>) {
        let in_force = InForce::new::<ServeArgs>(&self.upon(&[]));
        let document = print::document(self, &in_force, path);
        let general: ServeArgs = in_force.typed();
        let mut settling = Settling::default();
        settling.blame(&in_force, check::general(&general));
        let own: Vec<_> = self.file.listeners.iter().map(|layer| self.upon(&[layer])).collect();
        let is_in_use = in_force.get("listen").is_some_and(|entry| !entry.values.is_empty());
        if is_in_use || own.is_empty() {
            settling.listener(&self.upon(&[]), &self.file.routes);
        }
        for layers in own {
            settling.listener(&layers, &self.file.routes);
        }
        let has_topics = settling.listeners.iter().any(|listener| listener.args.topics);
        if let Some(is_of_use) = settling.uses(&in_force, &self.defaults, "max-subscriptions") {
            *is_of_use |= has_topics;
        }
        let Settling { listeners, secured, mut mistakes, uses } = settling;
        mistakes.extend(check::idle(&uses));
        mistakes.sort_by_key(|mistake| mistake.source);
        (Settings { general, listeners, secured, document }, mistakes)
    }
}

/// Listeners on the way from what was said to what holds.
#[derive(Default)]
struct Settling {
    listeners: Vec<Arc<Listener>>,
    secured: Vec<Secured>,
    mistakes: Vec<Mistake>,
    /// What only some listeners have a use for.
    uses: Uses,
}

/// What is answered at paths without a WebSocket, in routes of the server's own.
pub const PLAIN_PATHS: [&str; 3] = ["/", "/healthz", "/{*rest}"];

/// Paths of one listener.
const PATHS_MAX: usize = ROUTES_MAX - PLAIN_PATHS.len();

impl Settling {
    /// A listener of which `layers` speak, the nearest first, and its routes.
    fn listener(&mut self, layers: &[&Layer], tables: &[Layer]) {
        let in_force = InForce::new::<ListenerArgs>(layers);
        let args: ListenerArgs = in_force.typed();
        let mut contradictions = check::listener(&args);
        if let Some(defaults) = layers.last() {
            if let Some(is_of_use) = self.uses(&in_force, defaults, "unix-mode") {
                *is_of_use |= args.listen.iter().any(Listen::is_file);
            }
            for key in ["topic-policy", "topic-backlog"] {
                if let Some(is_of_use) = self.uses(&in_force, defaults, key) {
                    *is_of_use |= args.topics;
                }
            }
        }
        let mut others = self.listeners.iter().flat_map(|other| &other.args.listen);
        let wants_systemd = args.listen.contains(&Listen::Systemd);
        if wants_systemd && others.any(|listen| *listen == Listen::Systemd) {
            contradictions.push(check::repeated_systemd());
        }
        let mut tls = None;
        if contradictions.is_empty()
            && let Some(security) = Security::of(&args)
        {
            match self.secured(security) {
                Ok(secured) => tls = Some(secured),
                Err(reason) => contradictions.push(check::bad_certificates(&reason)),
            }
        }
        self.blame(&in_force, contradictions);
        let mut routes = Routes::new();
        self.route(layers, &mut routes);
        for table in tables {
            self.route(&[&[table], layers].concat(), &mut routes);
        }
        if args.topics {
            self.topics(&in_force, layers, &mut routes);
        }
        if routes.is_empty() {
            self.blame(&in_force, vec![check::bad_path("there is no path to serve")]);
        }
        let forwarding = args.forwarding();
        self.listeners.push(Arc::new(Listener { args, tls, forwarding, routes }));
    }

    /// Whether what somebody has said of `key` is of use anywhere, as far as is known; `None` if
    /// nobody has. What a file says may be the default in so many words, as --print-config writes it.
    fn uses(
        &mut self,
        in_force: &InForce<'_>,
        defaults: &Layer,
        key: &'static str,
    ) -> Option<&mut bool> {
        let Entry { values, source } = in_force.get(key)?;
        let is_default = || defaults.0.get(key).is_some_and(|default| default.values == *values);
        if *source == Source::Default || *source < Source::Flag && is_default() {
            return None;
        }
        // Who listens elsewhere by a flag has put out what the file says of its listeners.
        let is_put_out = *source < Source::Flag
            && in_force.get("listen").is_some_and(|listen| listen.source == Source::Flag);
        let is_of_use = self.uses.entry((*source, key)).or_default();
        *is_of_use |= is_put_out;
        Some(is_of_use)
    }

    /// The paths with the settings of which `layers` speak.
    fn route(&mut self, layers: &[&Layer], routes: &mut Routes<Place>) {
        let in_force = InForce::new::<RouteArgs>(layers);
        let args: Arc<RouteArgs> = Arc::new(in_force.typed());
        let mut contradictions = check::route(&args);
        for path in &args.path {
            if let Err(error) =
                routes.add(path, Place { service: Service::Echo, args: args.clone() })
            {
                contradictions.push(check::bad_path(&format!("{path}: {error}")));
            } else if routes.iter().count() > PATHS_MAX {
                contradictions.push(check::bad_path(&format!("there are more than {PATHS_MAX}")));
                break;
            }
        }
        self.blame(&in_force, contradictions);
    }

    /// The paths of topics, which have the listener's own settings.
    fn topics(&mut self, in_force: &InForce<'_>, layers: &[&Layer], routes: &mut Routes<Place>) {
        let args: Arc<RouteArgs> = Arc::new(InForce::new::<RouteArgs>(layers).typed());
        for (path, service) in TOPIC_PATHS {
            if let Err(error) = routes.add(path, Place { service, args: args.clone() }) {
                let reason = check::bad_topics(&format!("topics are at {path}: {error}"));
                self.blame(in_force, vec![reason]);
            }
        }
        if routes.len() > PATHS_MAX {
            let reason = format!("with those of topics there are more than {PATHS_MAX} paths");
            self.blame(in_force, vec![check::bad_topics(&reason)]);
        }
    }

    /// Each contradiction is a mistake where the last of its keys was said; what several listeners
    /// or routes have from one line is told once.
    fn blame(&mut self, in_force: &InForce<'_>, contradictions: Vec<Contradiction>) {
        for Contradiction { keys, reason } in contradictions {
            let source = |key: &str| in_force.get(key).map_or(Source::Default, |it| it.source);
            let blamed = keys.iter().rev().max_by_key(|key| source(key));
            let key = blamed.expect("every contradiction has a key");
            let mistake = Mistake { source: source(key), key: (*key).to_owned(), reason };
            if !self.mistakes.contains(&mistake) {
                self.mistakes.push(mistake);
            }
        }
    }

    /// What another listener has as well is read once.
    fn secured(&mut self, security: Security) -> Result<Tls, String> {
        if let Some(there) = self.secured.iter().find(|it| it.security == security) {
            return Ok(there.tls.clone());
        }
        let secured = security.read()?;
        let tls = secured.tls.clone();
        self.secured.push(secured);
        Ok(tls)
    }
}
