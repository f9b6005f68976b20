//! Values of settings as people write them.

use std::path::PathBuf;

use corewire::{
    CloseCode, Compression, CompressionMode, ForwardedField, IpStack, Origins, Routes, SlowPolicy,
    Spread, TrustedProxies, UnixEndpoint,
};

use crate::units;

/// Where to listen, before names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `HOST:PORT`: `localhost` may be one address or two.
    Host(String),
    Unix(UnixEndpoint),
    /// The sockets that the service manager has opened.
    Systemd,
}

impl Listen {
    pub fn parse(text: &str) -> Result<Self, String> {
        let port = |(host, port): (&str, &str)| {
            (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten()
        };
        match text.strip_prefix("unix:") {
            Some("" | "@") => Err("a Unix socket is unix:PATH or unix:@NAME".into()),
            Some(name) => Ok(Self::Unix(match name.strip_prefix('@') {
                Some(name) => UnixEndpoint::Abstract(name.into()),
                None => UnixEndpoint::Path(PathBuf::from(name)),
            })),
            None if text == "systemd" => Ok(Self::Systemd),
            None if text.rsplit_once(':').and_then(port).is_some() => {
                Ok(Self::Host(text.to_owned()))
            }
            None => Err("an address is HOST:PORT, such as 127.0.0.1:9001 or [::1]:9001; or it is \
                         unix:PATH, unix:@NAME or systemd"
                .into()),
        }
    }

    /// Whether it is a file that permissions can be given to.
    pub fn is_file(&self) -> bool {
        matches!(self, Self::Unix(UnixEndpoint::Path(_)))
    }
}

pub fn ip_stack(text: &str) -> Result<IpStack, String> {
    match text {
        "system" => Ok(IpStack::System),
        "dual" => Ok(IpStack::Dual),
        "v6-only" => Ok(IpStack::V6Only),
        _ => Err("it is system, dual or v6-only".into()),
    }
}

/// Permissions as `chmod` takes them: `660`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

pub fn mode(text: &str) -> Result<Mode, String> {
    let is_octal =
        (1..=4).contains(&text.len()) && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.map(Mode).ok_or_else(|| "permissions are three octal digits, such as 660".into())
}

pub fn networks(text: &str) -> Result<TrustedProxies, String> {
    text.parse().map_err(|error| format!("{text}: {error}"))
}

pub fn forwarded(text: &str) -> Result<ForwardedField, String> {
    match text {
        "x-forwarded-for" => Ok(ForwardedField::XForwardedFor),
        "forwarded" => Ok(ForwardedField::Forwarded),
        _ => Err("it is x-forwarded-for or forwarded".into()),
    }
}

pub fn topic_policy(text: &str) -> Result<SlowPolicy, String> {
    match text {
        "close" => Ok(SlowPolicy::Close),
        "skip-new" => Ok(SlowPolicy::SkipNew),
        "drop-oldest" => Ok(SlowPolicy::DropOldest),
        "conflate" => Ok(SlowPolicy::Conflate),
        _ => Err("it is close, skip-new, drop-oldest or conflate".into()),
    }
}

/// How much memory the process may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryBudget {
    Bytes(u64),
    /// Whatever it likes.
    Off,
}

pub fn memory_budget(text: &str) -> Result<MemoryBudget, String> {
    match text {
        "off" => Ok(MemoryBudget::Off),
        _ => match units::bytes(text) {
            Ok(0) => Err("nobody can do with nothing: it is a size, or off".into()),
            Ok(bytes) => Ok(MemoryBudget::Bytes(bytes)),
            Err(wanted) => Err(format!("{wanted}; or it is off")),
        },
    }
}

/// What is done when memory is scarce: one of the library's reactions, or all, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryReaction {
    All,
    None,
    Shrink,
    Flush,
    Hold,
    Plain,
    Refuse,
    Close,
}

pub fn memory_reaction(text: &str) -> Result<MemoryReaction, String> {
    match text {
        "all" => Ok(MemoryReaction::All),
        "none" => Ok(MemoryReaction::None),
        "shrink" => Ok(MemoryReaction::Shrink),
        "flush" => Ok(MemoryReaction::Flush),
        "hold" => Ok(MemoryReaction::Hold),
        "plain" => Ok(MemoryReaction::Plain),
        "refuse" => Ok(MemoryReaction::Refuse),
        "close" => Ok(MemoryReaction::Close),
        _ => Err("it is all, none, shrink, flush, hold, plain, refuse or close".into()),
    }
}

pub fn spread(text: &str) -> Result<Spread, String> {
    match text {
        "kernel" => Ok(Spread::ByKernel),
        "least-loaded" => Ok(Spread::LeastLoaded),
        _ => Err("it is kernel or least-loaded".into()),
    }
}

pub fn farewell(text: &str) -> Result<CloseCode, String> {
    match text {
        "1012" => Ok(CloseCode::SERVICE_RESTART),
        "1001" => Ok(CloseCode::GOING_AWAY),
        _ => Err("it is 1012 or 1001".into()),
    }
}

pub fn path(text: &str) -> Result<String, String> {
    let pattern = Routes::new().add(text, ()).map_err(|error| error.to_string());
    pattern.map(|()| text.to_owned())
}

pub fn origin(text: &str) -> Result<String, String> {
    if !matches!(text, "same" | "any") {
        Origins::allow([text]).map_err(|error| format!("it is same, any or a URL: {error}"))?;
    }
    Ok(text.to_owned())
}

pub fn compression(text: &str) -> Result<Compression, String> {
    let numbers = |text: &str| {
        let (bits, mem) = text.split_once(':')?;
        Some((bits.parse().ok()?, mem.parse().ok()?))
    };
    let mode = match text.split_once(':') {
        None if matches!(text, "disabled" | "off") => CompressionMode::Disabled,
        None if text == "shared" => CompressionMode::Shared,
        None if text == "dedicated" => CompressionMode::Dedicated { window_bits: 15, mem_level: 8 },
        Some(("dedicated", text)) => {
            let (window_bits, mem_level) =
                numbers(text).ok_or("dedicated takes two numbers, as in dedicated:12:5")?;
            CompressionMode::Dedicated { window_bits, mem_level }
        }
        _ => return Err("it is disabled, shared or dedicated".into()),
    };
    Compression::new(mode).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_a_mode_with_its_numbers() {
        let mode = |text: &str| compression(text).map(|compression| compression.mode());
        let dedicated =
            |window_bits, mem_level| CompressionMode::Dedicated { window_bits, mem_level };
        assert_eq!(mode("disabled"), Ok(CompressionMode::Disabled));
        assert_eq!(mode("off"), Ok(CompressionMode::Disabled));
        assert_eq!(mode("shared"), Ok(CompressionMode::Shared));
        assert_eq!(mode("dedicated"), Ok(dedicated(15, 8)));
        assert_eq!(mode("dedicated:9:1"), Ok(dedicated(9, 1)));
        for wrong in [
            "",
            "Shared",
            "shared:15:8",
            "dedicated:",
            "dedicated:12",
            "dedicated:8:8",
            "dedicated:16:8",
            "dedicated:12:0",
            "dedicated:12:10",
            "dedicated:12:5:1",
            "dedicated:-1:5",
        ] {
            assert!(compression(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn endpoint_is_an_address_a_unix_socket_or_systemd() {
        let host = |text: &str| Ok(Listen::Host(text.into()));
        for text in ["127.0.0.1:0", "[::1]:9001", "localhost:80"] {
            assert_eq!(Listen::parse(text), host(text));
        }
        let path = UnixEndpoint::Path("/run/a b.sock".into());
        assert_eq!(Listen::parse("unix:/run/a b.sock"), Ok(Listen::Unix(path)));
        let name = UnixEndpoint::Abstract(b"chat".to_vec());
        assert_eq!(Listen::parse("unix:@chat"), Ok(Listen::Unix(name)));
        assert_eq!(Listen::parse("systemd"), Ok(Listen::Systemd));
        for wrong in ["", ":1", "1", "a:65536", "a:", "a:+x", "unix:", "unix:@", "Systemd"] {
            assert!(Listen::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(mode("660"), Ok(Mode(0o660)));
        assert_eq!(mode("0600"), Ok(Mode(0o600)));
        for wrong in ["", "+60", "8", "0o660", "1777", "00660", "-1"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
