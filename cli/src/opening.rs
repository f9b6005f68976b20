//! What a client asks a server for, and what it makes of the answer; how the bytes travel is each
//! command's own.

use std::time::Duration;

use corewire::Negotiated;
use corewire::opening::{
    ClientHandshakeError, ClientRequest, FieldStorage, Scheme, WebSocketUri, parse_response, verify,
};

use crate::args::{Destination, Failure};

/// How long dialling may take, and how long the answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// So much of a refusal's body is shown at most.
const REFUSAL_CHARS_MAX: usize = 200;

/// The request that the flags ask for.
pub fn request(destination: &Destination) -> Result<ClientRequest, Failure> {
    let Destination { url, subprotocol, header, origin } = destination;
    let uri = WebSocketUri::parse(url)
        .map_err(|error| Failure(format!("{url} is not a WebSocket URL: {error}")))?;
    let unspoken = match (uri.scheme(), uri.unix_socket()) {
        (Scheme::Ws, None) => None,
        (Scheme::Wss, None) => Some("wss://"),
        (_, Some(_)) => Some("ws+unix:"),
    };
    if let Some(unspoken) = unspoken {
        return Err(Failure(format!("{unspoken} is not spoken here, only ws://")));
    }
    let mut request = ClientRequest::new(uri);
    for name in subprotocol {
        request = request.subprotocol(name).map_err(|error| Failure(format!("{name}: {error}")))?;
    }
    let origin = origin.iter().map(|origin| ("Origin", origin.as_str()));
    let headers = header.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in headers.chain(origin) {
        let added = request.header(name, value);
        request = added.map_err(|error| Failure(format!("header {name}: {error}")))?;
    }
    Ok(request)
}

/// Whether the answer to `request` opens a WebSocket; if not, why, for a person. `behind` is what
/// has arrived behind the head.
pub fn verify_answer(
    head: &[u8],
    behind: &[u8],
    request: &ClientRequest,
    nonce: [u8; 16],
) -> Result<Negotiated, String> {
    let mut storage = FieldStorage::new();
    parse_response(head, &mut storage)
        .map_err(ClientHandshakeError::Head)
        .and_then(|response| verify(&response, &request.expectation(nonce)))
        .map_err(|error| format!("{error}{}", reason(behind)))
}

/// The first line of what the server says about its refusal, if that is text.
fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String =
        text.lines().next().unwrap_or_default().chars().take(REFUSAL_CHARS_MAX).collect();
    match line.trim() {
        "" => String::new(),
        line => format!(" ({})", printable(line)),
    }
}

/// Text from outside must not move the cursor.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
