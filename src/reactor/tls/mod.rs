//! wss://: what a connection is secured with, and the records between it and the network. Only this
//! directory names rustls.

mod certificates;
mod incoming;
mod link;
mod links;
mod session;
mod settings;

pub use certificates::TlsError;
pub(in crate::reactor) use links::Links;
pub use session::{TlsFacts, TlsVersion};
pub use settings::{Tls, TlsBuilder};
