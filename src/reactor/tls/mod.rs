//! wss://: what a connection is secured with, and the records between it and the network. Only this
//! directory names rustls.

mod certificates;
mod client;
mod failure;
mod incoming;
mod link;
mod links;
mod payload;
mod roots;
mod session;
mod settings;
#[cfg(test)]
mod tests;

pub use certificates::TlsError;
pub use client::{TlsClient, TlsClientBuilder};
pub(in crate::reactor) use failure::is_passing;
pub(in crate::reactor) use links::Links;
pub(in crate::reactor) use session::TlsFailure;
pub use session::{TlsFacts, TlsVersion};
pub use settings::{Tls, TlsBuilder};
