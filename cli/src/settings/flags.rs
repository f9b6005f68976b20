//! The settings of `serve`, once: their names, types, defaults and words. Flags and the keys of the
//! file are both read off these structures.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use corewire::{
    CloseCode, Compression, ConnectionLimits, Drain, ForwardedField, Forwarding, IpStack,
    PressureReactions, SlowPolicy, Spread, TopicSettings, TrustedProxies,
};
use tracing::Level;

use super::layer::Layer;
use super::values::{self, Listen, MemoryBudget, MemoryReaction, Mode};
use crate::units;

/// What stands behind `corewire serve`.
#[derive(Args, Debug)]
pub struct ServeCommand {
    /// A TOML file of settings; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print all settings in force as such a file, and who set them, instead of serving
    #[arg(long)]
    pub print_config: bool,
    #[command(flatten)]
    pub flags: Flags,
}

/// The settings that were given as flags, as they were written.
#[derive(Debug)]
pub struct Flags(pub Layer);

/// Settings of the whole server.
#[derive(Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    pub listener: ListenerArgs,

    /// Threads, each with an event loop of its own [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    #[arg(help_heading = "Loops")]
    pub threads: Option<u16>,
    /// Pin each thread to a core of its own (Linux)
    #[arg(long, help_heading = "Loops")]
    pub pin: bool,
    /// Who decides which thread a connection is for: the `kernel`, by a hash of its addresses, or one
    /// thread more, which accepts for all and chooses the `least-loaded`
    #[arg(long, value_name = "kernel|least-loaded", default_value = "kernel")]
    #[arg(value_parser = values::spread, help_heading = "Loops")]
    pub spread: Spread,
    /// Connections of each thread; more are answered 503
    #[arg(long, value_name = "N", default_value_t = 1_000_000, help_heading = "Loops")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Connections of each thread from one address; more are answered 503 [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Loops")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_address: Option<u32>,

    /// Memory that the process may take: from 60 % of it on the server gives back what it can, from
    /// 72 % it does not read from those who hold the most, from 80 % it lets nobody in and closes
    /// connections with 1013. `off`: it does not look [default: the least limit of its cgroups, or
    /// the physical memory]
    #[arg(long, value_name = "SIZE|off", value_parser = values::memory_budget)]
    #[arg(help_heading = "Memory")]
    pub memory_budget: Option<MemoryBudget>,
    /// What is done when memory is scarce: `all`, `none`, which leaves the word in the log, or
    /// (repeatable) `shrink`, `flush`, `hold`, `plain`, `refuse`, `close`, as the guide has them
    #[arg(long, value_name = "all|none|REACTION", default_value = "all")]
    #[arg(value_parser = values::memory_reaction, help_heading = "Memory")]
    pub memory_reaction: Vec<MemoryReaction>,

    /// Over how long the connections are closed, evenly, when SIGTERM comes; who comes meanwhile is
    /// answered 503
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    #[arg(help_heading = "Ending")]
    pub drain_window: Duration,
    /// How long the server waits for each that was told to go
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    #[arg(help_heading = "Ending")]
    pub drain_grace: Duration,
    /// What they are told: the service restarts (1012), or goes away (1001)
    #[arg(long, value_name = "1012|1001", default_value = "1012", value_parser = values::farewell)]
    #[arg(help_heading = "Ending")]
    pub drain_code: CloseCode,

    /// Topics that a connection may subscribe to
    #[arg(long, value_name = "N", default_value_t = 1024, help_heading = "Publishing")]
    pub max_subscriptions: u32,

    /// error, warn, info, debug or trace: how much is said on standard error
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Logging")]
    pub log: Option<Level>,
    /// Say nothing but errors
    #[arg(long, short, conflicts_with = "log", help_heading = "Logging")]
    pub quiet: bool,
}

/// Settings in which listeners may differ.
#[derive(Args, Debug)]
pub struct ListenerArgs {
    /// Where to listen (repeatable): an address, where the system chooses a port in place of 0; a
    /// Unix socket; or `systemd` for the sockets that it has opened
    #[arg(long, value_name = "HOST:PORT|unix:PATH|unix:@NAME|systemd")]
    #[arg(default_value = "127.0.0.1:9001", value_parser = Listen::parse)]
    #[arg(help_heading = "Listening")]
    pub listen: Vec<Listen>,
    /// Whether an address of IPv6 such as [::] takes connections of IPv4 too
    #[arg(long, value_name = "system|dual|v6-only", default_value = "system")]
    #[arg(value_parser = values::ip_stack, help_heading = "Listening")]
    pub ip_stack: IpStack,
    /// The permissions of a Unix socket's file, such as 660 [default: what the umask leaves]
    #[arg(long, value_name = "MODE", value_parser = values::mode, help_heading = "Listening")]
    pub unix_mode: Option<Mode>,
    /// Connections that may wait to be accepted; the kernel has a bound of its own
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = "Listening")]
    pub backlog: u32,
    /// Proxies whose connections begin with a header of the PROXY protocol, which tells the
    /// client's address (repeatable): networks such as 10.0.0.0/8, addresses, `unix`
    #[arg(long, value_name = "NETWORKS", value_parser = values::networks)]
    #[arg(help_heading = "Listening")]
    pub proxy_protocol: Vec<TrustedProxies>,
    /// The field of a request in which proxies tell the client's address, for the log alone: limits
    /// by address do not look at it
    #[arg(long, value_name = "x-forwarded-for|forwarded", value_parser = values::forwarded)]
    #[arg(help_heading = "Listening")]
    pub forwarded: Option<ForwardedField>,
    /// Proxies that are believed in the field of --forwarded (repeatable): networks, addresses,
    /// `unix`, as for --proxy-protocol
    #[arg(long, value_name = "NETWORKS", value_parser = values::networks)]
    #[arg(help_heading = "Listening")]
    pub trusted_proxies: Vec<TrustedProxies>,
    /// How long a client may take for its request
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::period)]
    #[arg(help_heading = "Listening")]
    pub handshake_timeout: Duration,

    /// A certificate for wss://: a PEM file with its chain. Several for several names, each with
    /// its key
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_cert: Vec<String>,
    /// The PEM file with the key of a certificate, in the order of --tls-cert
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub tls_key: Vec<String>,
    /// A certificate of our own for localhost, 127.0.0.1 and ::1, new with each start: for trying
    /// out, browsers warn of it
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"], help_heading = "TLS")]
    pub tls_self_signed: bool,
    /// Refuse clients that cannot speak TLS 1.3, which are those older than 2018
    #[arg(long, help_heading = "TLS")]
    pub tls13_only: bool,

    #[command(flatten)]
    pub route: RouteArgs,

    /// Serve topics, too: /sub/TOPIC gets what is published, /pub/TOPIC publishes what it sends,
    /// /topics does both by requests in JSON
    #[arg(long, help_heading = "Publishing")]
    pub topics: bool,
    /// What is done about messages of topics for a client that is too slow: `close` it with 1013,
    /// `skip-new` ones, `drop-oldest`, or `conflate`, which keeps the newest of each key
    #[arg(long, value_name = "close|skip-new|drop-oldest|conflate", default_value = "close")]
    #[arg(value_parser = values::topic_policy, help_heading = "Publishing")]
    pub topic_policy: SlowPolicy,
    /// Unsent bytes of a client from which on it is too slow [default: half of --max-backpressure]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, help_heading = "Publishing")]
    pub topic_backlog: Option<u64>,

    /// SO_RCVBUF of each connection [default: the kernel tunes it]
    #[arg(long, value_name = "SIZE", value_parser = units::buffer_bytes, help_heading = "Sockets")]
    pub rcvbuf: Option<u64>,
    /// SO_SNDBUF of each connection [default: the kernel tunes it]
    #[arg(long, value_name = "SIZE", value_parser = units::buffer_bytes, help_heading = "Sockets")]
    pub sndbuf: Option<u64>,
    /// TCP keep-alive probes after so long a silence [default: none, the heartbeat sees more]
    #[arg(long, value_name = "TIME", value_parser = units::tcp_period, help_heading = "Sockets")]
    pub keepalive: Option<Duration>,
}

/// Settings in which routes may differ: what a WebSocket is held to.
#[derive(Args, Debug)]
pub struct RouteArgs {
    /// Where the WebSocket is, and the page to try it with (repeatable): a path, in which {name}
    /// stands for a segment and a last {*rest} for all that is left
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = values::path)]
    #[arg(help_heading = "Listening")]
    pub path: Vec<String>,
    /// Who may connect from a web page: `same` origin, `any`, or the URL of an origin (repeatable)
    #[arg(long, value_name = "same|any|URL", default_value = "same", value_parser = values::origin)]
    #[arg(help_heading = "Listening")]
    pub origin: Vec<String>,

    /// Echo a message piece by piece as it arrives, instead of whole
    #[arg(long, help_heading = "Messages")]
    pub echo_streaming: bool,
    /// The largest message; a larger one fails the connection with 1009
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = units::bytes)]
    #[arg(help_heading = "Messages")]
    pub max_message: u64,
    /// Unsent bytes of a connection at which it fails with 1013
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = units::bytes)]
    #[arg(help_heading = "Messages")]
    pub max_backpressure: u64,
    /// Unsent bytes above which nothing more is read from the client [default: a quarter of
    /// --max-backpressure, at most 256KiB]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, help_heading = "Messages")]
    pub high_water: Option<u64>,
    /// Unsent bytes at which reading goes on [default: a quarter of --high-water, at most 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, help_heading = "Messages")]
    pub low_water: Option<u64>,

    /// Compress messages for clients that can: not at all; with one compressor per thread; or with
    /// one per connection, of a window of 2^BITS bytes (9 to 15) and memory level MEM (1 to 9)
    #[arg(long, value_name = "disabled|shared|dedicated[:BITS:MEM]", default_value = "disabled")]
    #[arg(value_parser = values::compression, hide_possible_values = true, help_heading = "Messages")]
    pub compression: Compression,
    /// How hard to look for repetitions, 1 to 9
    #[arg(long, value_name = "LEVEL", default_value_t = 1, help_heading = "Messages")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=9))]
    pub compression_level: u8,
    /// Shorter messages are sent as they are
    #[arg(long, value_name = "SIZE", default_value = "128B", value_parser = units::bytes)]
    #[arg(help_heading = "Messages")]
    pub compression_threshold: u64,

    /// How often each connection is sent a ping
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::period)]
    #[arg(help_heading = "Time")]
    pub ping_every: Option<Duration>,
    /// After how long without a sign of life a connection is dropped
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = units::period)]
    #[arg(help_heading = "Time")]
    pub dead_after: Option<Duration>,
    /// Send no pings and drop no silent connection
    #[arg(long, conflicts_with_all = ["ping_every", "dead_after"], help_heading = "Time")]
    pub no_heartbeat: bool,
    /// After how long a connection is closed, or up to a tenth sooner, so that its client comes back
    /// to where there is room [default: never]
    #[arg(long, value_name = "TIME", value_parser = units::period, help_heading = "Time")]
    pub max_lifetime: Option<Duration>,
    /// How long a closing handshake may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    #[arg(help_heading = "Time")]
    pub close_timeout: Duration,
}

impl ListenerArgs {
    /// How clients behind proxies are found.
    pub fn forwarding(&self) -> Option<Forwarding> {
        let trusted = self.trusted_proxies.iter().flat_map(TrustedProxies::networks).collect();
        Some(Forwarding::new(self.forwarded?, trusted))
    }

    /// A subscriber that is too slow by --topic-backlog has room for other things still, such as
    /// answers: these fail it only at --max-backpressure.
    pub fn topic_backlog_bytes(&self) -> u64 {
        self.topic_backlog.unwrap_or(self.route.max_backpressure / 2)
    }

    /// How messages of topics go to those who are too slow.
    pub fn published(&self) -> TopicSettings {
        TopicSettings::new(self.topic_backlog_bytes() as usize, self.topic_policy)
    }
}

impl ServeArgs {
    /// What is done when memory is scarce. There are no clients here that could give something back.
    pub fn reactions(&self) -> PressureReactions {
        let mut reactions = PressureReactions::none();
        for reaction in &self.memory_reaction {
            match reaction {
                MemoryReaction::All => return PressureReactions::default(),
                MemoryReaction::None => {}
                MemoryReaction::Shrink => reactions.shrink_pools = true,
                MemoryReaction::Flush => reactions.flush_all = true,
                MemoryReaction::Hold => reactions.hold_senders = true,
                MemoryReaction::Plain => reactions.refuse_contexts = true,
                MemoryReaction::Refuse => reactions.refuse_upgrades = true,
                MemoryReaction::Close => reactions.close_connections = true,
            }
        }
        reactions
    }

    /// How the server ends when there is time.
    pub fn drain(&self) -> Drain {
        let (window, grace, code) = (self.drain_window, self.drain_grace, self.drain_code);
        Drain { window, grace, code, ..Drain::default() }
    }
}

impl RouteArgs {
    /// Reading has to pause long before the bound is met, or an echo to a slow reader would fail
    /// where it could wait.
    pub fn high_water_bytes(&self) -> u64 {
        let usual = ConnectionLimits::default().high_water_bytes as u64;
        self.high_water.unwrap_or(usual.min(self.max_backpressure / 4))
    }

    /// The mode with its level and threshold.
    pub fn compression(&self) -> Compression {
        let compression = self.compression.clone().level(self.compression_level);
        let compression = compression.expect("the level was read as one");
        compression.threshold_bytes(self.compression_threshold as usize)
    }

    pub fn low_water_bytes(&self) -> u64 {
        let usual = ConnectionLimits::default().low_water_bytes as u64;
        self.low_water.unwrap_or(usual.min(self.high_water_bytes() / 4))
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        ServeArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        ServeArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Layer::of_flags(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0 = Layer::of_flags(matches);
        Ok(())
    }
}

/// The settings of `T` without their defaults: those are a [`Layer`] of their own.
pub fn command<T: Args>() -> Command {
    let without_default = |arg: Arg| arg.default_values(None::<&'static str>);
    T::augment_args(Command::new("corewire")).mut_args(without_default)
}

/// The name of a setting, of the flag as of the key.
pub fn key(arg: &Arg) -> &str {
    arg.get_long().expect("every setting has a long flag")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_has_a_group_and_no_name_means_two_things() {
        let command = command::<ServeArgs>();
        let groups: BTreeSet<_> =
            command.get_arguments().map(|arg| arg.get_help_heading().expect("a group")).collect();
        let groups: BTreeSet<_> = groups.into_iter().map(str::to_lowercase).collect();
        for arg in command.get_arguments() {
            assert!(!groups.contains(key(arg)) && !["listener", "route"].contains(&key(arg)));
            assert!(arg.get_help().is_some(), "{} needs a word", key(arg));
        }
    }
}
