//! The blocking client and the pool for threads, on real sockets.
#![cfg(feature = "net")]

#[cfg(test)]
mod back_pressure;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod flow;
mod naive_server;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod own_server;
#[cfg(test)]
mod pool_ends;
#[cfg(test)]
mod pool_leases;
#[cfg(test)]
mod pool_pressure;
#[cfg(all(test, feature = "tls"))]
mod secured;
#[cfg(test)]
mod talking;
