//! uWebSockets, in C++: compiled by `build.rs`, called from here.
//!
//! Form: <https://github.com/uNetworking/uWebSockets/blob/v20.58.0/examples/EchoServer.cpp>, but
//! compressed as it is told: all messages or none. It corks what is sent while a read is handled, and
//! writes it at once.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_uint, c_ushort};
use std::process::ExitCode;

use clap::Parser;
use corewire_peers::MESSAGE_BYTES_MAX;
use corewire_peers::compression::{Compression, Deflating};

// SAFETY: the signature of the one function in uwebsockets.cpp.
unsafe extern "C" {
    fn echo(host: *const c_char, port: c_int, message_bytes_max: c_uint, compression: c_ushort);
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Deflating::parse();
    let address = arguments.listen.address()?;
    let Some(compression) = options(arguments.compression, arguments.peer_window_bits) else {
        eprintln!("uwebsockets: its memory level is its window bits - 7, or 1 for 9 of them");
        return Ok(ExitCode::FAILURE);
    };
    let host = CString::new(address.ip().to_string())?;
    let port = address.port().into();
    // SAFETY: `host` is a C string that lives until the call returns, and nothing else in this
    // process uses the library.
    unsafe { echo(host.as_ptr(), port, MESSAGE_BYTES_MAX as c_uint, compression) };
    eprintln!("uwebsockets: cannot listen on {address}");
    Ok(ExitCode::FAILURE)
}

/// `uWS::CompressOptions`: 4 bits for each of the peer's window, the own window and the memory level.
/// `None` where uWebSockets has no such compressor.
fn options(compression: Compression, peer_window_bits: u8) -> Option<c_ushort> {
    const SHARED_COMPRESSOR: c_ushort = 1;
    const SHARED_DECOMPRESSOR: c_ushort = 1 << 8;
    match compression {
        Compression::Disabled => Some(0),
        Compression::Shared => Some(SHARED_COMPRESSOR | SHARED_DECOMPRESSOR),
        Compression::Dedicated { window_bits, mem_level } => {
            let has = (mem_level + 7 == window_bits) || (window_bits, mem_level) == (9, 1);
            let [peer, own, level] = [peer_window_bits, window_bits, mem_level].map(c_ushort::from);
            has.then_some(peer << 8 | own << 4 | level)
        }
    }
}
