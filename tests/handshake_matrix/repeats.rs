//! What somebody else has put into a request never comes back in an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bed::*;

const MARKER: &str = "mark3r";

/// Everywhere that any request can have it.
const MARKED: [&str; 3] = ["X-mark3r: mark3r", "Cookie: mark3r=mark3r", "User-Agent: mark3r"];

fn marked(start: &str, lines: &[&str]) -> String {
    plain(start, &[&MARKED, lines].concat())
}

fn marked_upgrade(lines: &[&str]) -> String {
    upgrade_at("/mark3r?mark3r", &[&MARKED, lines].concat())
}

/// The status line of the one answer, none of which is the marker.
#[track_caller]
fn status_of(bed: &mut Bed, request: &str) -> String {
    assert!(request.contains(MARKER), "{request}");
    let mut client = bed.connect();
    bed.write(&mut client, request);
    bed.until("the end of the stream", |_| client.has_ended());
    let text = String::from_utf8(client.received().to_vec()).unwrap();
    assert!(!text.to_ascii_lowercase().contains(MARKER), "{text}");
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn h24_no_answer_repeats_anything_of_its_request() {
    let long = MARKER.repeat(3000);
    let mut bed = Bed::new();
    let requests = [
        (marked_upgrade(&["Sec-WebSocket-Key: mark3r"]), BAD_REQUEST),
        (marked_upgrade(&["Host: mark3r mark3r"]), BAD_REQUEST),
        (marked_upgrade(&["Connection: mark3r"]), BAD_REQUEST),
        (marked_upgrade(&["Transfer-Encoding: mark3r"]), BAD_REQUEST),
        (marked_upgrade(&["mark3r : mark3r"]), BAD_REQUEST),
        (marked_upgrade(&["Sec-WebSocket-Extensions: mark3r;;"]), BAD_REQUEST),
        (marked("GET mark3r", &[]), BAD_REQUEST),
        (format!("mark3r{}", "\r\n".repeat(4)), BAD_REQUEST),
        (format!("GET /mark3r mark3r{}", "\r\n".repeat(4)), BAD_REQUEST),
        (marked_upgrade(&["Origin: http://mark3r.example"]), FORBIDDEN),
        (marked("GET /mark3r?mark3r", &["Connection: close"]), NOT_FOUND),
        (marked("MARK3R /mark3r", &["Connection: close"]), NOT_FOUND),
        (marked_upgrade(&[]).replacen("/mark3r?", "/absent?", 1), NOT_FOUND),
        (marked_upgrade(&[]).replacen("GET", "MARK3R", 1), METHOD_NOT_ALLOWED),
        (marked(&format!("GET /{long}"), &[]), URI_TOO_LONG),
        (marked_upgrade(&["Expect: mark3r"]), EXPECTATION_FAILED),
        (marked_upgrade(&["Sec-WebSocket-Version: mark3r"]), UPGRADE_REQUIRED),
        (marked("GET /websocket?mark3r", &["Upgrade: mark3r"]), UPGRADE_REQUIRED),
        (marked_upgrade(&[&format!("X: {long}")]), FIELDS_TOO_LARGE),
        (upgrade_at("/unoffered?mark3r", &["Sec-WebSocket-Protocol: mark3r"]), SERVER_ERROR),
    ];
    let mut seen = BTreeMap::<_, usize>::new();
    for (request, expected) in &requests {
        assert_eq!(status_of(&mut bed, request), *expected, "{}", request.escape_debug());
        *seen.entry(*expected).or_default() += 1;
    }
    bed.expect_empty();

    let mut full = Bed::with(|setup| setup.reactor.limits.connections_max = 0);
    assert_eq!(status_of(&mut full, &marked_upgrade(&[])), UNAVAILABLE);
    let mut hasty = Bed::with(|setup| {
        setup.settings.handshake.timeout = Duration::from_millis(50);
    });
    assert_eq!(status_of(&mut hasty, marked_upgrade(&[]).trim_end()), TIMEOUT);
    // With these two, every refusal that there is.
    assert_eq!(seen.len() + 2, 11, "{seen:?}");
}
