//! The sliver of HTTP/1.1 that a WebSocket upgrade needs.
//!
//! [`HeadScanner`] finds the end of a head while its bytes are still arriving and refuses it at the
//! first byte that proves it wrong; [`parse_request`] and [`parse_response`] then split the
//! complete head into borrowed parts. Nothing here allocates per field.

mod extensions;
mod fields;
mod head;
mod scanner;
mod uri;
mod websocket_uri;

pub use extensions::{Extension, ExtensionError, Extensions, Param, Params};
pub use fields::{Fields, NotSingle, is_field_value, is_token};
pub use head::{
    FieldStorage, HeadError, Malformation, RequestHead, ResponseHead, Version, parse_request,
    parse_response,
};
pub use scanner::{HeadLimits, HeadScanner};
pub use uri::{Authority, Host, Origin, RequestTarget, UriError};
pub(crate) use websocket_uri::bracketed;
pub use websocket_uri::{Scheme, UnixSocket, WebSocketUri};
