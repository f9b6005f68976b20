//! Settings that are fine one by one and cannot be together.

use std::collections::BTreeMap;

use super::flags::{ListenerArgs, RouteArgs, ServeArgs};
use super::layer::Source;
use super::mistake::Mistake;
use super::values::{MemoryBudget, MemoryReaction};

/// Which settings contradict each other, and why. Where one line says both the first one is named.
#[derive(Debug, PartialEq, Eq)]
pub struct Contradiction {
    pub keys: &'static [&'static str],
    pub reason: String,
}

/// Everything that is wrong between the settings of the whole server.
pub fn general(args: &ServeArgs) -> Vec<Contradiction> {
    let mut found = Vec::new();
    let reactions = &args.memory_reaction[..];
    let stands_alone = |reaction| matches!(reaction, &MemoryReaction::All | &MemoryReaction::None);
    if reactions.is_empty() || reactions.len() > 1 && reactions.iter().any(stands_alone) {
        let reason = "all and none stand alone: it takes one of them, or names of reactions";
        found.push(contradiction(&["memory-reaction"], reason));
    }
    if args.memory_budget == Some(MemoryBudget::Off) && reactions != [MemoryReaction::All] {
        let reason = "nobody would see that memory is scarce: memory-budget is off";
        found.push(contradiction(&["memory-reaction", "memory-budget"], reason));
    }
    found
}

/// Everything that is wrong between the settings of a listener, but for those of its routes.
pub fn listener(args: &ListenerArgs) -> Vec<Contradiction> {
    let mut found = Vec::new();
    if args.listen.is_empty() {
        found.push(contradiction(&["listen"], "there is nowhere to listen"));
    }
    let (certificates, keys) = (args.tls_cert.len(), args.tls_key.len());
    if certificates != keys {
        let blamed: &[&str] = if keys == 0 { &["tls-cert"] } else { &["tls-key", "tls-cert"] };
        let reason = format!(
            "each certificate has a key: there are {certificates} of tls-cert and {keys} of tls-key"
        );
        found.push(contradiction(blamed, &reason));
    }
    if args.tls13_only && certificates == 0 && !args.tls_self_signed {
        let reason = "there are no certificates: neither tls-cert nor tls-self-signed";
        found.push(contradiction(&["tls13-only"], reason));
    }
    if args.forwarded.is_some() == args.trusted_proxies.is_empty() {
        let reason =
            "forwarded and trusted-proxies go together: a field, and who is believed in it";
        found.push(contradiction(&["forwarded", "trusted-proxies"], reason));
    }
    let (backlog, max_backpressure) = (args.topic_backlog_bytes(), args.route.max_backpressure);
    if backlog > max_backpressure {
        let reason = format!(
            "a client would be too slow at {backlog} unsent bytes, and it fails at \
             {max_backpressure} (max-backpressure)"
        );
        found.push(contradiction(&["topic-backlog", "max-backpressure"], &reason));
    }
    found
}

/// Topics are where a path leads elsewhere already, or there is no room for them.
pub fn bad_topics(reason: &str) -> Contradiction {
    contradiction(&["path", "topics"], reason)
}

/// Certificates that cannot be used.
pub fn bad_certificates(reason: &str) -> Contradiction {
    contradiction(&["tls-cert", "tls-key", "tls-self-signed"], reason)
}

/// A path that is there already, or one too many.
pub fn bad_path(reason: &str) -> Contradiction {
    contradiction(&["path"], reason)
}

/// What was said, where and by which key, and whether anything has a use for it.
pub type Uses = BTreeMap<(Source, &'static str), bool>;

/// Settings that need something else to mean anything, where nothing is of that kind: permissions of
/// files, and what is about topics.
pub fn idle(uses: &Uses) -> impl Iterator<Item = Mistake> {
    uses.iter().filter(|(_, is_of_use)| !**is_of_use).map(|((source, key), _)| {
        let reason = match *key {
            "unix-mode" => {
                "no listener with it is a Unix socket of ours with a file: listen = \"unix:PATH\""
            }
            _ => "no listener with it serves topics: topics = true",
        };
        Mistake { source: *source, key: (*key).into(), reason: reason.into() }
    })
}

/// Two listeners would want the same sockets.
pub fn repeated_systemd() -> Contradiction {
    contradiction(&["listen"], "there is one set of systemd's sockets, and it is listed already")
}

/// Everything that is wrong between the settings of a route.
pub fn route(args: &RouteArgs) -> Vec<Contradiction> {
    let mut found = Vec::new();
    let (high, low) = (args.high_water_bytes(), args.low_water_bytes());
    if high > args.max_backpressure {
        let keys = &["high-water", "max-backpressure"];
        let reason = format!(
            "reading would pause at {high} unsent bytes, and the connection fails at {} \
             (max-backpressure)",
            args.max_backpressure
        );
        found.push(contradiction(keys, &reason));
    }
    if low > high {
        let keys = &["low-water", "high-water", "max-backpressure"];
        let reason = format!("low-water is {low} bytes, more than the {high} of high-water");
        found.push(contradiction(keys, &reason));
    }
    if let Some((ping_every, dead_after)) = args.ping_every.zip(args.dead_after)
        && dead_after <= ping_every
    {
        let keys = &["dead-after", "ping-every"];
        let reason = format!(
            "whoever is silent would be dropped after {dead_after:?}, and is sent a ping only \
             after {ping_every:?} (ping-every)"
        );
        found.push(contradiction(keys, &reason));
    }
    if args.origin.len() > 1 && args.origin.iter().any(|one| matches!(&**one, "same" | "any")) {
        let reason = "same and any stand alone: it takes one of them, or URLs";
        found.push(contradiction(&["origin"], reason));
    }
    found
}

fn contradiction(keys: &'static [&'static str], reason: &str) -> Contradiction {
    Contradiction { keys, reason: reason.to_owned() }
}
