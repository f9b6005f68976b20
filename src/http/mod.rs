//! The sliver of HTTP/1.1 that a WebSocket upgrade needs.
