//! What the echo servers have in common: their arguments, their limits and, for those that stand on
//! tokio, the accepting of connections; and what the clients have.

use std::io;
use std::net::SocketAddr;

use clap::{Args, Parser};

pub mod client;
pub mod compression;
pub mod raw;
#[cfg(feature = "tokio")]
pub mod runtime;
#[cfg(feature = "hyper")]
pub mod upgrade;

/// The largest message that each server takes, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A single-threaded echo server. It listens once its port accepts, and says nothing.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    listen: Listen,
}

/// The one argument that all servers take.
#[derive(Args)]
pub struct Listen {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9002")]
    listen: SocketAddr,
}

impl Listen {
    /// The address, once the limit of open descriptors is raised to the hard limit.
    ///
    /// # Errors
    /// What `setrlimit(2)` says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        rlimit::increase_nofile_limit(rlimit::INFINITY)?;
        Ok(self.listen)
    }
}

/// Reads the command line and raises the limit of open descriptors to the hard limit. Prints what is
/// wrong and ends the process if the command line is not understood.
///
/// # Errors
/// What `setrlimit(2)` says.
pub fn listen_address() -> io::Result<SocketAddr> {
    Arguments::parse().listen.address()
}
