//! A client's end of TLS, against our server's and against rustls' own buffered one.

mod certified;
mod conversation;
mod ends;
mod handshake;
mod refusals;
mod settings;
