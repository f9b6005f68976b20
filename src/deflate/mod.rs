//! Compression of messages: permessage-deflate (RFC 7692).
//!
//! ```text
//! Compression ──► offers in a request ──► Terms::answer ──► Agreement ──► Inflater + History, Deflater
//! (settings)      an answer to ours   ──► Offer::conclude ─────┘
//! ```
//!
//! What is agreed on is plain data. The compressors stand behind two small types that know nothing
//! of frames: bytes go in, bytes come out, and nothing is inflated past the room that is given.

mod codec;
mod history;
mod negotiate;
mod settings;

pub use codec::{CorruptData, Deflater, Inflater, Progress, Shape, Stop};
pub use history::History;
#[cfg(fuzzing)]
pub use negotiate::Terms;
pub use negotiate::{Agreement, AnswerError, Direction, EXTENSION_NAME, Offer};
pub(crate) use negotiate::{DEFLATE_BITS_MIN, WINDOW_BITS_MAX};
pub use settings::{Compression, CompressionMode, InvalidCompression};
