//! Memory pressure: how it is seen, and what a loop does about it.
//!
//! ```text
//!   /proc, cgroup ──► MemorySource ─┐
//!   pools, slots, TLS ──────────────┴─► PressureGauge ──level──► on_pressure, then the reactions
//!        ▲ on the wheel, and whenever more was taken in than was expected until then
//! ```

mod board;
mod budget;
mod charges;
mod closing;
mod relief;
mod settings;
mod source;
mod watch;

pub use board::Board;
pub use charges::{Charge, Charges};
pub use settings::{PressureReactions, PressureSettings};
pub use source::{MemorySource, SystemMemory};
pub use watch::Watch;
