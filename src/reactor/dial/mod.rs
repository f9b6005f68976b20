//! Connections that the loop itself makes.
//!
//! ```text
//!   dial() ─► Connecting ─► Tunnel ─► Tls ─► Upgrade ──101──► open
//!              │ several     (proxy)  (wss)     │
//!              │ addresses                      └─ any other ─► Refused ─► told
//!              └─ each phase has a deadline ────────────────────────────►
//! ```
//!
//! One connection is one slot and one name from `dial` on, however many addresses are tried.

mod answer;
mod error;
mod machine;
mod race;
mod settings;

pub use error::{DialError, DialPhase, Refusal};
pub(super) use machine::Dialling;
pub use settings::{DialSettings, DialTimeouts};
