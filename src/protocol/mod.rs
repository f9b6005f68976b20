//! One RFC 6455 connection after the handshake, without I/O.
