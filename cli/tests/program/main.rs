//! The program as its users meet it: a process, real sockets, pipes and signals.

mod client;
mod connect;
mod echo;
mod http;
mod limits;
mod process;
mod signals;
mod usage;
