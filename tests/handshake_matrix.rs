//! What every kind of opening handshake gets, on a real socket: the exact status line, the headers
//! that it calls for, and whether the connection is closed behind it or kept.
//!
//! One thread turns the loop and plays the clients. Numbers of sections are RFC 9112's, unless
//! another one is named.
#![cfg(feature = "net")]

#[path = "handshake_matrix/admission.rs"]
mod admission;
#[path = "handshake_matrix/bed.rs"]
mod bed;
#[path = "handshake_matrix/behind.rs"]
mod behind;
#[path = "handshake_matrix/grammar.rs"]
mod grammar;
#[path = "handshake_matrix/limits.rs"]
mod limits;
#[path = "handshake_matrix/plain.rs"]
mod plain;
#[path = "handshake_matrix/repeats.rs"]
mod repeats;
#[path = "handshake_matrix/time.rs"]
mod time;
#[path = "handshake_matrix/upgrade.rs"]
mod upgrade;
