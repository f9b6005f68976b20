//! The opening handshake of RFC 6455 section 4, as values.
