//! Requests for the tests of this floor: text in, what the server makes of it out.

use super::{HandshakeError, Inspected, Request, Upgrade, inspect};
use crate::http::{FieldStorage, HeadLimits, HeadScanner, parse_request};

/// Scans, splits and inspects `head`, and has a look at the outcome.
pub(super) fn inspected<T>(
    head: impl AsRef<[u8]>,
    look: impl FnOnce(Result<Inspected<'_>, HandshakeError>) -> T,
) -> T {
    const LIMITS: HeadLimits =
        HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 8 * 1024 };
    let head = head.as_ref();
    let mut storage = FieldStorage::new();
    let outcome = HeadScanner::request()
        .scan(head, &LIMITS)
        .and_then(|len| parse_request(&head[..len.expect("the head is complete")], &mut storage))
        .map_err(HandshakeError::from)
        .and_then(|head| inspect(&head));
    look(outcome)
}

/// The error that refuses `head`; `None` if it is an upgrade or plain HTTP.
pub(super) fn refusal(head: impl AsRef<[u8]>) -> Option<HandshakeError> {
    inspected(head, |outcome| outcome.err())
}

/// Has a look at an upgrade.
pub(super) fn upgrade<T>(head: impl AsRef<[u8]>, look: impl FnOnce(&Upgrade<'_>) -> T) -> T {
    inspected(head, |outcome| match outcome {
        Ok(Inspected::Upgrade(upgrade)) => look(&upgrade),
        outcome => panic!("expected an upgrade, got {outcome:?}"),
    })
}

/// Has a look at a request of plain HTTP.
pub(super) fn plain<T>(head: impl AsRef<[u8]>, look: impl FnOnce(&Request<'_>) -> T) -> T {
    inspected(head, |outcome| match outcome {
        Ok(Inspected::Plain(request)) => look(&request),
        outcome => panic!("expected plain HTTP, got {outcome:?}"),
    })
}

/// The example of RFC 6455 §1.2 with other lines: each takes the place of all lines of its name, or
/// is added; one without a colon takes them away. Several of one name stay side by side.
pub(super) fn upgrade_head(lines: &[&str]) -> String {
    const EXAMPLE: [&str; 5] = [
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    let name = |line: &str| line.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let kept = |line: &&&str| lines.iter().all(|other| name(other) != name(line));
    let mut head = "GET /chat HTTP/1.1\r\n".to_owned();
    let added = lines.iter().filter(|line| line.contains(':'));
    for line in EXAMPLE.iter().filter(kept).chain(added) {
        head += &format!("{line}\r\n");
    }
    head + "\r\n"
}
