//! uWebSockets with its tree of topics, in C++: compiled by `build.rs`, called from here.
//!
//! Form: <https://github.com/uNetworking/uWebSockets/blob/v20.58.0/examples/Broadcast.cpp>. What is
//! published while events are handled leaves when all of them have been, in one write for each
//! subscriber.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_uint};
use std::process::ExitCode;

use corewire_peers::{MESSAGE_BYTES_MAX, listen_address};

// SAFETY: the signature of the one function in fan_out_uwebsockets.cpp.
unsafe extern "C" {
    fn fan_out(host: *const c_char, port: c_int, message_bytes_max: c_uint);
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let address = listen_address()?;
    let host = CString::new(address.ip().to_string())?;
    // SAFETY: `host` is a C string that lives until the call returns, and nothing else in this
    // process uses the library.
    unsafe { fan_out(host.as_ptr(), address.port().into(), MESSAGE_BYTES_MAX as c_uint) };
    eprintln!("fan-out-uwebsockets: cannot listen on {address}");
    Ok(ExitCode::FAILURE)
}
