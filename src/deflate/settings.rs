//! Whether and how messages are compressed: the settings.

use std::fmt;

use super::codec::Shape;
use super::negotiate::{
    Agreement, DEFLATE_BITS_MIN, Direction, INFLATE_BITS_MIN, Offer, Terms, WINDOW_BITS_MAX,
};
use crate::http::Extension;

/// Whether and how messages are compressed: permessage-deflate (RFC 7692). Default: not at all.
///
/// Compression takes much more time than sending does. Without context takeover an idle connection
/// owns nothing for it. With it, once a message was received, up to `2^peer_window_bits` bytes;
/// once one was sent, the window of `2^window_bits` bytes, or above 12 bits a compressor of
/// `2^(window_bits + 2) + 7 * 2^(mem_level + 6)` bytes and 136 KiB.
///
/// It also tells whoever sees the sizes of messages something of their content: where one message,
/// or the window, holds both a secret and what an attacker chose, the secret can be guessed byte by
/// byte (CRIME, BREACH). Send what is secret with `send_uncompressed`.
///
/// ```
/// use corewire::{Compression, CompressionMode, Config, Role};
///
/// let mut config = Config::new(Role::Server);
/// config.compression = Compression::new(CompressionMode::Shared)?.threshold_bytes(256);
/// # Ok::<(), corewire::InvalidCompression>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    mode: CompressionMode,
    threshold_bytes: usize,
    level: u8,
    peer_window_bits: u8,
}

/// Who owns compressors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionMode {
    /// Nobody: no offer is made or accepted.
    #[default]
    Disabled,
    /// The loop: no message refers to earlier ones, so that a connection owns nothing.
    Shared,
    /// Each connection: messages refer to earlier ones, unless the peer asks for the contrary.
    Dedicated {
        /// The logarithm of our window's size in bytes, 9 to 15. The peer may ask for less.
        window_bits: u8,
        /// How much memory a compressor has for the symbols of a block, 1 to 9.
        mem_level: u8,
    },
}

/// A setting is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCompression {
    /// Our window has 9 to 15 bits, the peer's 8 to 15.
    WindowBits(u8),
    /// The memory level goes from 1 to 9.
    MemLevel(u8),
    /// The level goes from 1 to 9.
    Level(u8),
}

impl fmt::Display for InvalidCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WindowBits(bits) => write!(f, "no window has {bits} bits"),
            Self::MemLevel(level) => write!(f, "memory level {level} is not one from 1 to 9"),
            Self::Level(level) => write!(f, "compression level {level} is not one from 1 to 9"),
        }
    }
}

impl std::error::Error for InvalidCompression {}

impl Default for Compression {
    fn default() -> Self {
        Self {
            mode: CompressionMode::Disabled,
            threshold_bytes: 128,
            level: 1,
            peer_window_bits: WINDOW_BITS_MAX,
        }
    }
}

impl Compression {
    /// The defaults with this mode.
    ///
    /// # Errors
    /// A number in `mode` is out of its range.
    pub fn new(mode: CompressionMode) -> Result<Self, InvalidCompression> {
        if let CompressionMode::Dedicated { window_bits, mem_level } = mode {
            if !(DEFLATE_BITS_MIN..=WINDOW_BITS_MAX).contains(&window_bits) {
                return Err(InvalidCompression::WindowBits(window_bits));
            }
            if !(1..=9).contains(&mem_level) {
                return Err(InvalidCompression::MemLevel(mem_level));
            }
        }
        Ok(Self { mode, ..Self::default() })
    }

    /// Messages of fewer payload bytes are sent uncompressed. Default 128: below that the result is
    /// hardly shorter.
    #[must_use]
    pub fn threshold_bytes(mut self, bytes: usize) -> Self {
        self.threshold_bytes = bytes;
        self
    }

    /// How hard to look for repetitions, 1 to 9. Default 1: what more would save on the wire, it
    /// costs several times over in time.
    ///
    /// # Errors
    /// `level` is out of its range.
    pub fn level(mut self, level: u8) -> Result<Self, InvalidCompression> {
        if !(1..=9).contains(&level) {
            return Err(InvalidCompression::Level(level));
        }
        self.level = level;
        Ok(self)
    }

    /// The logarithm of the largest window that a peer may compress with, 8 to 15. Default 15; with
    /// less, clients that cannot be told so get no compression (RFC 7692 §7.1.2.2).
    ///
    /// # Errors
    /// `bits` is out of its range.
    pub fn peer_window_bits(mut self, bits: u8) -> Result<Self, InvalidCompression> {
        if !(INFLATE_BITS_MIN..=WINDOW_BITS_MAX).contains(&bits) {
            return Err(InvalidCompression::WindowBits(bits));
        }
        self.peer_window_bits = bits;
        Ok(self)
    }

    /// Who owns compressors.
    pub const fn mode(&self) -> CompressionMode {
        self.mode
    }

    /// A server's answer to the extensions that a client offers: the first offer of
    /// permessage-deflate that these settings allow, if there is one. What is declined fails
    /// nothing.
    pub fn answer<'a>(&self, offers: impl IntoIterator<Item = Extension<'a>>) -> Option<Agreement> {
        let (server, client) = self.directions()?;
        Terms { server, client }.answer(offers)
    }

    /// What a client offers, `None` if nothing is to be compressed.
    pub fn offer(&self) -> Option<Offer> {
        let (client, server) = self.directions()?;
        Some(Offer { server, client })
    }

    /// How we would compress, and how the peer may.
    fn directions(&self) -> Option<(Direction, Direction)> {
        let (window_bits, context_takeover) = match self.mode {
            CompressionMode::Disabled => return None,
            CompressionMode::Shared => (WINDOW_BITS_MAX, false),
            CompressionMode::Dedicated { window_bits, .. } => (window_bits, true),
        };
        let ours = Direction { window_bits, context_takeover };
        Some((ours, Direction { window_bits: self.peer_window_bits, context_takeover }))
    }

    /// Whether a message of so many bytes is worth compressing.
    #[inline]
    pub(crate) const fn is_worthwhile(&self, payload_bytes: usize) -> bool {
        payload_bytes >= self.threshold_bytes
    }

    /// The compressor for a window that was agreed on.
    pub(crate) const fn shape(&self, window_bits: u8) -> Shape {
        let mem_level = match self.mode {
            CompressionMode::Disabled | CompressionMode::Shared => MEM_LEVEL,
            CompressionMode::Dedicated { mem_level, .. } => mem_level,
        };
        Shape { window_bits, level: self.level, mem_level }
    }
}

/// zlib's default, and that of everyone.
const MEM_LEVEL: u8 = 8;
