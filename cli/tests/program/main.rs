//! The program as its users meet it: a process, real sockets, pipes and signals.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod client;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod echo;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod forwarded;
#[cfg(test)]
mod http;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod limits;
#[cfg(all(test, target_os = "linux"))]
mod listeners;
#[cfg(all(test, target_os = "linux"))]
mod memory;
#[cfg(test)]
mod process;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod scrap;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod topics;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod ways;
