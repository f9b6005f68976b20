//! What the servers that compress are told about it (RFC 7692).

use std::str::FromStr;

use clap::Parser;

use crate::Listen;

/// The arguments of a server that compresses.
#[derive(Parser)]
pub struct Deflating {
    /// Where it listens.
    #[command(flatten)]
    pub listen: Listen,
    /// disabled, shared or dedicated[:WINDOW_BITS:MEM_LEVEL]; dedicated alone is 15:8.
    #[arg(long, default_value = "disabled")]
    pub compression: Compression,
    /// The largest window that a client may compress with, where it has one of its own.
    #[arg(long, value_name = "BITS", default_value_t = 15)]
    #[arg(value_parser = clap::value_parser!(u8).range(9..=15))]
    pub peer_window_bits: u8,
}

/// Who owns a compressor and an inflater.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Nobody: permessage-deflate is not agreed on.
    Disabled,
    /// The loop: no context takeover in either direction.
    Shared,
    /// Each connection: context takeover in both directions.
    Dedicated {
        /// Of the server's compressor, 9 to 15.
        window_bits: u8,
        /// Of the same, 1 to 9.
        mem_level: u8,
    },
}

impl FromStr for Compression {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split(':');
        let name = words.next();
        let numbers: Result<Vec<u8>, _> = words.map(str::parse).collect();
        match (name, numbers.as_deref()) {
            (Some("disabled"), Ok([])) => Ok(Self::Disabled),
            (Some("shared"), Ok([])) => Ok(Self::Shared),
            (Some("dedicated"), Ok([])) => Ok(Self::Dedicated { window_bits: 15, mem_level: 8 }),
            (Some("dedicated"), Ok([window_bits @ 9..=15, mem_level @ 1..=9])) => {
                Ok(Self::Dedicated { window_bits: *window_bits, mem_level: *mem_level })
            }
            _ => Err("disabled, shared, dedicated or dedicated:9..15:1..9"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_is_read_from_its_words() {
        let dedicated = |window_bits, mem_level| Compression::Dedicated { window_bits, mem_level };
        assert_eq!("disabled".parse(), Ok(Compression::Disabled));
        assert_eq!("shared".parse(), Ok(Compression::Shared));
        assert_eq!("dedicated".parse(), Ok(dedicated(15, 8)));
        assert_eq!("dedicated:12:5".parse(), Ok(dedicated(12, 5)));
        let wrong = ["", "shared:15:8", "dedicated:15", "dedicated:8:1", "dedicated:15:8:15"];
        for text in wrong {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }
}
