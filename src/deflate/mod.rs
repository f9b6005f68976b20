//! Compression of messages: permessage-deflate (RFC 7692).
//!
//! ```text
//! offers in a request ──► Terms::answer ──► Agreement ──► Inflater, Deflater
//! an answer to ours   ──► Offer::conclude ─────┘
//! ```
//!
//! What is agreed on is plain data. The compressors stand behind two small types that know nothing
//! of frames: bytes go in, bytes come out, and nothing is inflated past the room that is given. A
//! frame's payload is what [`Deflater::compress`] gives, and its RSV1 says so (§6).
//!
//! These are the parts, for those who bring their own framing. The connections of this crate do
//! not offer or accept the extension.
//!
//! ```
//! use corewire::deflate::{Deflater, Direction, Inflater, Stop};
//!
//! let mut payload = Vec::new();
//! let mut deflater = Deflater::new(Direction::UNRESTRICTED, 6, 8);
//! let payload_bytes = deflater.compress(b"Hello", &mut payload);
//!
//! let mut inflater = Inflater::new();
//! let mut room = [0; 64];
//! inflater.begin([&[], &[], &[]]);
//! let some = inflater.inflate(&payload[..payload_bytes], &mut room)?;
//! let rest = inflater.finish(&mut room[some.produced..])?;
//! assert_eq!(rest.stop, Stop::FinalBlock);
//! assert_eq!(&room[..some.produced + rest.produced], b"Hello");
//! # Ok::<(), corewire::deflate::CorruptData>(())
//! ```
//!
//! Compression tells whoever sees the sizes of messages something of their content. Where one
//! message holds both a secret and what an attacker chose, the secret can be guessed byte by byte
//! (CRIME, BREACH): send such messages uncompressed, which is always allowed.

mod codec;
mod history;
mod negotiate;

pub use codec::{CorruptData, Deflater, Inflater, Progress, Stop};
pub use history::History;
pub use negotiate::{Agreement, AnswerError, Direction, EXTENSION_NAME, Offer, Terms};
