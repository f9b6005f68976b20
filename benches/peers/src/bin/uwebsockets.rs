//! uWebSockets, in C++: compiled by `build.rs`, called from here.
//!
//! Form: <https://github.com/uNetworking/uWebSockets/blob/v20.58.0/examples/EchoServer.cpp>, without
//! compression. It corks what is sent while a read is handled, and writes it at once.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_uint};
use std::process::ExitCode;

use corewire_peers::{MESSAGE_BYTES_MAX, listen_address};

// SAFETY: the signature of the one function in uwebsockets.cpp.
unsafe extern "C" {
    fn echo(host: *const c_char, port: c_int, message_bytes_max: c_uint);
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let address = listen_address()?;
    let host = CString::new(address.ip().to_string())?;
    // SAFETY: `host` is a C string that lives until the call returns, and nothing else in this
    // process uses the library.
    unsafe { echo(host.as_ptr(), address.port().into(), MESSAGE_BYTES_MAX as c_uint) };
    eprintln!("uwebsockets: cannot listen on {address}");
    Ok(ExitCode::FAILURE)
}
