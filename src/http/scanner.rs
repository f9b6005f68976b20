//! Finds the end of a head (RFC 9112 §2 to §5) while its bytes arrive.
//!
//! The scanner is stricter than the splitting parser behind it: whatever it accepts,
//! [`parse_request`](super::parse_request) or [`parse_response`](super::parse_response) accepts
//! too.

use super::fields::is_tchar;
use super::head::{FIELDS_MAX, HeadError, Malformation, malformed};
use crate::limits::HandshakeLimits;

/// Bounds of one head, checked while it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its final empty line and a leading one included.
    pub head_bytes_max: u32,
    /// Number of field lines; at most 128.
    pub fields_max: u16,
    /// Bytes of the request target.
    pub target_bytes_max: u32,
}

impl From<&HandshakeLimits> for HeadLimits {
    fn from(limits: &HandshakeLimits) -> Self {
        let &HandshakeLimits { head_bytes_max, fields_max, target_bytes_max, .. } = limits;
        Self { head_bytes_max, fields_max, target_bytes_max }
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        (&HandshakeLimits::default()).into()
    }
}

/// Finds the end of one head while it arrives, looks at each byte once, and refuses a head at the
/// first byte that proves it wrong.
///
/// Call [`scan`](Self::scan) with everything that has arrived of the head, each time more has. A
/// scanner serves one head: after its end it repeats the same answer, so make a new one for the
/// next head. An error, too, is repeated.
///
/// ```text
///            CRLF                                          per field
///   Start ────────► Method ─SP─► Target ─SP─► Version ─┐  ┌────────────────────────────┐
///     └───────────────▲                                ▼  ▼                            │
///                                            LineEnd ► FieldStart ─► Name ─:─► Value ─CRLF
///   Version ─SP─► Status ─SP─► Reason ──────────┘         └─CR─► HeadEnd ─LF─► Done
/// ```
#[derive(Clone, Debug)]
pub struct HeadScanner {
    /// Bytes looked at; every one of them was legal.
    looked_bytes: u32,
    /// Where the target begins; meaningful from [`State::Target`] on.
    target_start: u32,
    /// Field lines begun.
    field_count: u16,
    start_line: StartLine,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartLine {
    Request,
    Response,
}

/// What the next byte has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A method's first byte, or the CR of an empty line before it.
    Start,
    /// The LF of an empty line before a request.
    LeadingLf,
    /// A method's first byte.
    MethodStart,
    Method,
    TargetStart,
    Target,
    /// The byte of `HTTP/1.x` at this index, below 8.
    Version(u8),
    /// The space behind a response's version.
    StatusStart,
    /// The status digit at this index, below 3.
    Status(u8),
    /// The space or the CR behind a status.
    StatusEnd,
    Reason,
    /// The CR that ends a start line.
    LineEnd,
    /// The LF that ends a start line or a field line.
    LineFeed,
    FieldStart,
    Name,
    Value,
    /// The LF that ends the head.
    HeadEnd,
    Done,
}

impl HeadScanner {
    /// A scanner for a request's head. One empty line before the request is skipped
    /// (RFC 9112 §2.2).
    pub const fn request() -> Self {
        Self::new(StartLine::Request, State::Start)
    }

    /// A scanner for a response's head.
    pub const fn response() -> Self {
        Self::new(StartLine::Response, State::Version(0))
    }

    const fn new(start_line: StartLine, state: State) -> Self {
        Self { looked_bytes: 0, target_start: 0, field_count: 0, start_line, state }
    }

    /// Looks at the bytes of `head` that it has not seen yet.
    ///
    /// `head` is everything that has arrived of this head, from its first byte, and may go on
    /// behind its end; what was given before must stand there unchanged. Returns the head's length
    /// in bytes, its final empty line included, or `None` while it is not complete.
    ///
    /// # Errors
    /// The first breach of the grammar or of `limits`, in the order of the bytes, so that it does
    /// not matter how they were torn. A head of exactly `head_bytes_max` bytes is accepted; with as
    /// many bytes and no end in sight it is refused, before a byte more is taken in.
    pub fn scan(&mut self, head: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadError> {
        let end = head.len().min(limits.head_bytes_max as usize);
        let head = &head[..end];
        while self.state != State::Done {
            let rest = &head[(self.looked_bytes as usize).min(end)..];
            let run = self.skip_run(rest, limits)?;
            // A run is at most `end` bytes, which is at most a u32.
            self.looked_bytes += run as u32;
            let Some(&byte) = rest.get(run) else {
                if end == limits.head_bytes_max as usize {
                    return Err(HeadError::HeadTooLarge { limit_bytes: limits.head_bytes_max });
                }
                return Ok(None);
            };
            self.state = self.step(byte, limits)?;
            self.looked_bytes += 1;
        }
        Ok(Some(self.looked_bytes as usize))
    }

    /// How many bytes at the front of `rest` leave the state as it is.
    #[inline]
    fn skip_run(&self, rest: &[u8], limits: &HeadLimits) -> Result<usize, HeadError> {
        match self.state {
            State::Method | State::Name => Ok(run(rest, is_tchar)),
            State::Value | State::Reason => Ok(value_run(rest)),
            State::Target => {
                let run = run(rest, is_target_byte);
                let target_bytes = self.looked_bytes - self.target_start + run as u32;
                if target_bytes > limits.target_bytes_max {
                    let limit_bytes = limits.target_bytes_max;
                    return Err(HeadError::TargetTooLong { limit_bytes });
                }
                Ok(run)
            }
            _ => Ok(0),
        }
    }

    /// The state behind one byte that is not part of a run.
    fn step(&mut self, byte: u8, limits: &HeadLimits) -> Result<State, HeadError> {
        use Malformation as M;
        let next = match (self.state, byte) {
            (State::Start, b'\r') => State::LeadingLf,
            (State::LeadingLf, b'\n') => State::MethodStart,
            (State::Start | State::MethodStart, _) if is_tchar(byte) => State::Method,
            (State::Method, b' ') => State::TargetStart,
            (State::Start | State::MethodStart | State::Method, _) => {
                return malformed(M::Method);
            }
            (State::TargetStart, _) if is_target_byte(byte) => {
                self.target_start = self.looked_bytes;
                State::Target
            }
            (State::Target, b' ') => State::Version(0),
            (State::TargetStart | State::Target, _) => return malformed(M::Target),
            (State::Version(index), _) => self.step_version(index, byte)?,
            (State::StatusStart, b' ') => State::Status(0),
            (State::Status(index), b'0'..=b'9') if index < 2 => State::Status(index + 1),
            (State::Status(_), b'0'..=b'9') => State::StatusEnd,
            (State::StatusEnd, b' ') => State::Reason,
            // RFC 9112 §4 wants a space even before an absent reason; many servers leave it out.
            (State::StatusEnd | State::Reason, b'\r') => State::LineFeed,
            (State::StatusStart | State::Status(_) | State::StatusEnd | State::Reason, _) => {
                return malformed(M::StatusLine);
            }
            (State::LineEnd, b'\r') => State::LineFeed,
            (State::LineEnd, b'\n') => return malformed(M::BareLf),
            (State::LineEnd, _) => return malformed(M::StartLineEnd),
            (State::LineFeed, b'\n') => State::FieldStart,
            (State::HeadEnd, b'\n') => State::Done,
            (State::LeadingLf | State::LineFeed | State::HeadEnd, _) => {
                return malformed(M::BareCr);
            }
            (State::FieldStart, _) => self.step_field_start(byte, limits)?,
            (State::Name, b':') => State::Value,
            (State::Name, b' ' | b'\t') => return malformed(M::SpaceBeforeColon),
            (State::Name, b'\r' | b'\n') => return malformed(M::MissingColon),
            (State::Name, _) => return malformed(M::FieldName),
            (State::Value, b'\r') => State::LineFeed,
            (State::Value, b'\n') => return malformed(M::BareLf),
            (State::Value, _) => return malformed(M::ControlCharacter),
            (State::Done, _) => State::Done,
        };
        Ok(next)
    }

    fn step_version(&self, index: u8, byte: u8) -> Result<State, HeadError> {
        // Up to the slash it could be anything but HTTP; behind it, it is a version of HTTP that
        // we do not speak: the preface of HTTP/2 ends here (RFC 9113 §3.4).
        let legal = match index {
            7 => matches!(byte, b'0' | b'1'),
            _ => b"HTTP/1.".get(usize::from(index)) == Some(&byte),
        };
        match (legal, index, self.start_line) {
            (false, 0..=4, _) => malformed(Malformation::Version),
            (false, ..) => Err(HeadError::UnsupportedVersion),
            (true, 7, StartLine::Request) => Ok(State::LineEnd),
            (true, 7, StartLine::Response) => Ok(State::StatusStart),
            (true, ..) => Ok(State::Version(index + 1)),
        }
    }

    fn step_field_start(&mut self, byte: u8, limits: &HeadLimits) -> Result<State, HeadError> {
        match byte {
            b'\r' => Ok(State::HeadEnd),
            b'\n' => malformed(Malformation::BareLf),
            b' ' | b'\t' => malformed(Malformation::ObsFold),
            b':' => malformed(Malformation::EmptyName),
            _ if is_tchar(byte) => {
                let limit = limits.fields_max.min(FIELDS_MAX as u16);
                if self.field_count >= limit {
                    return Err(HeadError::TooManyFields { limit });
                }
                self.field_count += 1;
                Ok(State::Name)
            }
            _ => malformed(Malformation::FieldName),
        }
    }
}

/// The bytes at the front of `bytes` that are legal.
#[inline]
fn run(bytes: &[u8], is_legal: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !is_legal(byte)).unwrap_or(bytes.len())
}

/// As [`run`] of field value bytes, sixteen at a time: values are most of a head.
#[inline]
fn value_run(bytes: &[u8]) -> usize {
    const BLOCK: usize = 16;
    let blocks = bytes
        .chunks_exact(BLOCK)
        .take_while(|block| block.iter().fold(true, |all, &byte| all & is_value_byte(byte)))
        .count();
    let skipped = blocks * BLOCK;
    skipped + run(&bytes[skipped..], is_value_byte)
}

/// RFC 9110 §5.5: visible characters, space, tab and obs-text.
#[inline]
pub(super) const fn is_value_byte(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) || byte == b'\t'
}

/// RFC 3986 permits less in a target, deployed clients send all of visible ASCII.
#[inline]
pub(super) const fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::head::*;

    const LIMITS: HeadLimits =
        HeadLimits { head_bytes_max: 16 * 1024, fields_max: 100, target_bytes_max: 8 * 1024 };

    type Scanned = Result<Option<usize>, HeadError>;

    fn scan(head: impl AsRef<[u8]>) -> Scanned {
        HeadScanner::request().scan(head.as_ref(), &LIMITS)
    }

    fn scan_response(head: &str) -> Scanned {
        HeadScanner::response().scan(head.as_bytes(), &LIMITS)
    }

    /// Scans `head` as it arrives, torn at `cuts`. What was looked at is overwritten before more
    /// arrives, so that a second look at it would not go unnoticed.
    fn scan_torn(mut scanner: HeadScanner, head: &[u8], cuts: &[usize]) -> Scanned {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (head.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(head.len());
        let mut arrived = Vec::new();
        for cut in cuts {
            arrived.fill(0);
            arrived.extend_from_slice(&head[arrived.len()..cut]);
            let scanned = scanner.scan(&arrived, &LIMITS);
            if scanned != Ok(None) {
                return scanned;
            }
        }
        Ok(None)
    }

    /// The grammar of RFC 9112 once more, for a whole head and without a thought for speed: its
    /// length if it is complete and legal.
    fn naive_request(head: &[u8]) -> Option<usize> {
        let skipped = if head.starts_with(b"\r\n") { 2 } else { 0 };
        let end = head[skipped..].windows(4).position(|four| four == b"\r\n\r\n")? + skipped;
        let text: String = head[skipped..end].iter().map(|&byte| char::from(byte)).collect();
        let mut lines = text.split("\r\n");
        let parts: Vec<&str> = lines.next()?.split(' ').collect();
        let [method, target, "HTTP/1.0" | "HTTP/1.1"] = parts[..] else { return None };
        let is_name = |name: &str| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(c))
        };
        let is_target = !target.is_empty() && target.chars().all(|c| c.is_ascii_graphic());
        let is_value = |value: &str| value.chars().all(|c| c == '\t' || (c >= ' ' && c != '\x7f'));
        let are_fields = lines.all(|line| {
            line.split_once(':').is_some_and(|(name, value)| is_name(name) && is_value(value))
        });
        (is_name(method) && is_target && are_fields).then_some(end + 4)
    }

    fn refused(malformation: Malformation) -> Scanned {
        Err(HeadError::Malformed(malformation))
    }

    const REQUEST: &str =
        "GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nA:\r\nB: \tb \x7e\r\n\r\n";

    #[test]
    fn scanner_and_error_are_small() {
        assert!(size_of::<HeadScanner>() <= 24);
        assert!(size_of::<HeadError>() <= 8);
    }

    // RFC 9112 §2.1
    #[test]
    fn head_ends_behind_its_empty_line_and_frames_may_follow() {
        assert_eq!(scan(REQUEST), Ok(Some(REQUEST.len())));
        assert_eq!(scan(format!("{REQUEST}\x01\x02\r\n\r\n")), Ok(Some(REQUEST.len())));
        assert_eq!(scan(""), Ok(None));
        assert_eq!(scan("GET / HTTP/1.1\r\n\r\n"), Ok(Some(18)));
    }

    // RFC 9112 §2.2
    #[test]
    fn head_byte_by_byte_is_found_at_its_last_byte() {
        let head = REQUEST.as_bytes();
        let every: Vec<usize> = (0..head.len()).collect();
        assert_eq!(scan_torn(HeadScanner::request(), head, &every), Ok(Some(head.len())));
        for len in 0..head.len() {
            assert_eq!(scan(&head[..len]), Ok(None), "{len} bytes");
        }
    }

    // RFC 9112 §2.2
    #[test]
    fn one_empty_line_before_a_request_is_skipped_and_no_second_one() {
        let head = format!("\r\n{REQUEST}");
        assert_eq!(scan(&head), Ok(Some(head.len())));
        let mut storage = FieldStorage::new();
        assert_eq!(parse_request(head.as_bytes(), &mut storage).unwrap().method, "GET");
        assert_eq!(scan(format!("\r\n{head}")), refused(Malformation::Method));
        assert_eq!(scan("\rGET"), refused(Malformation::BareCr));
        assert_eq!(scan("\nGET"), refused(Malformation::Method));
    }

    // RFC 9112 §3, RFC 9113 §3.4
    #[test]
    fn what_is_no_request_is_refused_at_the_byte_that_proves_it() {
        for (head, error) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], HeadError::Malformed(Malformation::Method)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::UnsupportedVersion),
            (b"\x00", HeadError::Malformed(Malformation::Method)),
            (b"\x81\x85", HeadError::Malformed(Malformation::Method)),
            (b"SSH-2.0-OpenSSH\r\n", HeadError::Malformed(Malformation::Method)),
            (b"GET  / HTTP/1.1", HeadError::Malformed(Malformation::Target)),
            (b"GET /\x80", HeadError::Malformed(Malformation::Target)),
            (b"GET /\x7f", HeadError::Malformed(Malformation::Target)),
            (b"GET /\r\n", HeadError::Malformed(Malformation::Target)),
            (b"GET / http", HeadError::Malformed(Malformation::Version)),
            (b"GET / HTTP/1.1x", HeadError::Malformed(Malformation::StartLineEnd)),
            (b"GET / HTTP/1.1 ", HeadError::Malformed(Malformation::StartLineEnd)),
            (b"GET / HTTP/1.1\n", HeadError::Malformed(Malformation::BareLf)),
            (b"GET / HTTP/1.2", HeadError::UnsupportedVersion),
            (b"GET / HTTP/11", HeadError::UnsupportedVersion),
            (b"GET / HTTP/0.9", HeadError::UnsupportedVersion),
        ] {
            assert_eq!(scan(head), Err(error), "{}", head.escape_ascii());
            assert_eq!(error.status(), 400);
        }
        // The proof is the first byte of a TLS ClientHello, the digit in the preface of HTTP/2.
        assert!(scan(b"\x16").is_err());
        assert!(scan("PRI * HTTP/").is_ok());
        assert!(scan("PRI * HTTP/2").is_err());
    }

    // RFC 9112 §5, RFC 9110 §5.5
    #[test]
    fn malformed_field_line_is_refused_by_its_rule() {
        for (line, malformation) in [
            (&b"Host : a\r\n"[..], Malformation::SpaceBeforeColon),
            (b"Host\t: a\r\n", Malformation::SpaceBeforeColon),
            (b"Host\r\n", Malformation::MissingColon),
            (b"Host\n", Malformation::MissingColon),
            (b": a\r\n", Malformation::EmptyName),
            (b"H\x00st: a\r\n", Malformation::FieldName),
            (b"(Host): a\r\n", Malformation::FieldName),
            (b"H\xf6st: a\r\n", Malformation::FieldName),
            (b" Host: a\r\n", Malformation::ObsFold),
            (b"Host: a\r\n b\r\n", Malformation::ObsFold),
            (b"Host: a\r\n\tb\r\n", Malformation::ObsFold),
            (b"Host: a\x00b\r\n", Malformation::ControlCharacter),
            (b"Host: a\x1bb\r\n", Malformation::ControlCharacter),
            (b"Host: a\x7fb\r\n", Malformation::ControlCharacter),
            (b"Host: a\rb\r\n", Malformation::BareCr),
            (b"Host: a\r\r\n", Malformation::BareCr),
            (b"Host: a\nb\r\n", Malformation::BareLf),
            (b"Host: a\r\n\n", Malformation::BareLf),
            (b"Host: a\r\n\rx", Malformation::BareCr),
        ] {
            let head = [b"GET / HTTP/1.1\r\n", line].concat();
            assert_eq!(scan(head), refused(malformation), "{}", line.escape_ascii());
        }
    }

    // RFC 9110 §5.5
    #[test]
    fn field_value_may_have_tabs_and_obs_text_and_may_be_empty() {
        let head = b"GET / HTTP/1.1\r\nA:\r\nB: \tx\xff\x80 \r\n\r\n";
        assert_eq!(scan(head), Ok(Some(head.len())));
        let mut storage = FieldStorage::new();
        let fields = parse_request(head, &mut storage).unwrap().fields;
        assert_eq!(
            (fields.first("a"), fields.first("b")),
            (Some(&b""[..]), Some(&b"x\xff\x80"[..]))
        );
    }

    // RFC 6585 §5
    #[test]
    fn head_of_exactly_the_limit_is_accepted_and_one_byte_less_of_limit_refuses_it() {
        let bytes = REQUEST.len() as u32;
        let limits = HeadLimits { head_bytes_max: bytes, ..LIMITS };
        let mut scanner = HeadScanner::request();
        assert_eq!(scanner.scan(REQUEST.as_bytes(), &limits), Ok(Some(REQUEST.len())));

        let limits = HeadLimits { head_bytes_max: bytes - 1, ..LIMITS };
        let error = HeadError::HeadTooLarge { limit_bytes: bytes - 1 };
        for arrived in [REQUEST.len() - 1, REQUEST.len()] {
            let mut scanner = HeadScanner::request();
            let head = &REQUEST.as_bytes()[..arrived];
            assert_eq!(scanner.scan(head, &limits), Err(error), "at {arrived} bytes");
        }
        assert_eq!(error.status(), 431);
    }

    // RFC 9112 §3
    #[test]
    fn target_of_exactly_the_limit_is_accepted_and_one_byte_more_refused_at_that_byte() {
        let limits = HeadLimits { target_bytes_max: 5, ..LIMITS };
        let error = HeadError::TargetTooLong { limit_bytes: 5 };
        assert_eq!(HeadScanner::request().scan(b"GET /1234 HTTP/1", &limits), Ok(None));
        assert_eq!(HeadScanner::request().scan(b"GET /1234", &limits), Ok(None));
        assert_eq!(HeadScanner::request().scan(b"GET /12345", &limits), Err(error));
        assert_eq!(error.status(), 414);
        let limits = HeadLimits { target_bytes_max: 0, ..LIMITS };
        let error = HeadError::TargetTooLong { limit_bytes: 0 };
        assert_eq!(HeadScanner::request().scan(b"GET /", &limits), Err(error));
    }

    // RFC 6585 §5
    #[test]
    fn fields_up_to_the_limit_are_accepted_and_the_next_is_refused_at_its_first_byte() {
        let head = |count: usize| format!("GET / HTTP/1.1\r\n{}", "a:b\r\n".repeat(count));
        assert_eq!(scan(head(100) + "\r\n"), Ok(Some(head(100).len() + 2)));
        assert_eq!(scan(head(100) + "c"), Err(HeadError::TooManyFields { limit: 100 }));

        // More than the storage holds is never let through, whatever the configuration says.
        let limits = HeadLimits { fields_max: u16::MAX, ..LIMITS };
        let full = head(FIELDS_MAX) + "\r\n";
        let mut storage = FieldStorage::new();
        assert!(HeadScanner::request().scan(full.as_bytes(), &limits).is_ok());
        assert_eq!(
            parse_request(full.as_bytes(), &mut storage).unwrap().fields.iter().count(),
            FIELDS_MAX
        );
        let over = head(FIELDS_MAX + 1);
        let error = HeadError::TooManyFields { limit: FIELDS_MAX as u16 };
        assert_eq!(HeadScanner::request().scan(over.as_bytes(), &limits), Err(error));
        assert_eq!(error.status(), 431);
    }

    #[test]
    fn answer_is_repeated_when_asked_again() {
        let mut scanner = HeadScanner::request();
        let mut broken = HeadScanner::request();
        for _ in 0..2 {
            assert_eq!(scanner.scan(REQUEST.as_bytes(), &LIMITS), Ok(Some(REQUEST.len())));
            assert_eq!(broken.scan(b"GET /\r", &LIMITS), refused(Malformation::Target));
        }
    }

    // RFC 9112 §4
    #[test]
    fn response_head_is_found_and_split() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x02";
        assert_eq!(scan_response(head), Ok(Some(head.len() - 2)));
        let mut storage = FieldStorage::new();
        let response = parse_response(head.as_bytes(), &mut storage).unwrap();
        assert_eq!((response.version, response.status), (Version::Http11, 101));
        assert_eq!(response.reason, "Switching Protocols");
        assert_eq!(response.fields.first("upgrade"), Some(&b"websocket"[..]));
        for head in ["HTTP/1.1 101 \r\n\r\n", "HTTP/1.0 101\r\n\r\n", "HTTP/1.1 101 \u{e9}\r\n\r\n"]
        {
            assert_eq!(scan_response(head), Ok(Some(head.len())));
            let mut storage = FieldStorage::new();
            assert_eq!(parse_response(head.as_bytes(), &mut storage).unwrap().reason, "");
        }
    }

    // RFC 9112 §4
    #[test]
    fn malformed_status_line_is_refused() {
        for (head, error) in [
            ("\r\nHTTP/1.1 101\r\n", HeadError::Malformed(Malformation::Version)),
            ("\x15\x03\x01", HeadError::Malformed(Malformation::Version)),
            ("HTTP/2", HeadError::UnsupportedVersion),
            ("HTTP/1.1\r", HeadError::Malformed(Malformation::StatusLine)),
            ("HTTP/1.1 10 ", HeadError::Malformed(Malformation::StatusLine)),
            ("HTTP/1.1 1011", HeadError::Malformed(Malformation::StatusLine)),
            ("HTTP/1.1 101 a\x00", HeadError::Malformed(Malformation::StatusLine)),
            ("HTTP/1.1 101 a\n", HeadError::Malformed(Malformation::StatusLine)),
        ] {
            assert_eq!(scan_response(head), Err(error), "{head:?}");
        }
    }

    #[test]
    fn head_that_was_not_complete_is_not_split() {
        let mut storage = FieldStorage::new();
        let error = parse_request(b"GET / HTTP/1.1\r\n", &mut storage).unwrap_err();
        assert_eq!(error, HeadError::Malformed(Malformation::Incomplete));
    }

    /// Heads that are nearly legal: a legal one, and a few bytes of it replaced, added or taken
    /// out.
    fn nearly_legal() -> impl Strategy<Value = Vec<u8>> {
        let legal = prop_oneof![
            Just(REQUEST.to_owned()),
            Just("\r\nGET / HTTP/1.0\r\n\r\n".to_owned()),
            "[A-Z]{1,4} /[!-~]{0,20} HTTP/1\\.[01]\r\n([a-zA-Z-]{1,9}:[ \t!-~]{0,40}\r\n){0,4}\r\n",
        ];
        let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()];
        let edit = (any::<prop::sample::Index>(), 0..3u8, byte);
        (legal, prop::collection::vec(edit, 0..3)).prop_map(|(legal, edits)| {
            let mut head = legal.into_bytes();
            for (index, edit, byte) in edits {
                let at = index.index(head.len());
                match edit {
                    0 => head[at] = byte,
                    1 => head.insert(at, byte),
                    _ => drop(head.remove(at)),
                }
            }
            head
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn scanner_accepts_exactly_what_the_naive_grammar_accepts(head in nearly_legal()) {
            prop_assert_eq!(scan(&head).ok().flatten(), naive_request(&head));
        }

        #[test]
        fn httparse_agrees_with_whatever_the_scanner_lets_through(head in nearly_legal()) {
            let mut lines = [httparse::EMPTY_HEADER; FIELDS_MAX];
            let parsed = httparse::Request::new(&mut lines).parse(&head);
            match scan(&head) {
                Ok(Some(len)) => prop_assert_eq!(parsed, Ok(httparse::Status::Complete(len))),
                Ok(None) => prop_assert_eq!(parsed, Ok(httparse::Status::Partial)),
                Err(_) => {}
            }
        }

        #[test]
        fn torn_head_gives_the_same_answer_and_no_byte_is_looked_at_twice(
            head in nearly_legal(),
            cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            prop_assert_eq!(scan_torn(HeadScanner::request(), &head, &cuts), scan(&head));
        }

        #[test]
        fn torn_response_gives_the_same_answer_and_httparse_agrees(
            line in "HTTP/1\\.[01] [0-9]{3}( [ -~]{0,20})?\r\n(A: b\r\n)?\r\n",
            at in any::<prop::sample::Index>(),
            byte: u8,
            cuts in prop::collection::vec(any::<usize>(), 0..8),
        ) {
            let mut head = line.into_bytes();
            let at = at.index(head.len() * 2);
            if let Some(replaced) = head.get_mut(at) {
                *replaced = byte;
            }
            let scanned = HeadScanner::response().scan(&head, &LIMITS);
            prop_assert_eq!(scan_torn(HeadScanner::response(), &head, &cuts), scanned);
            if let Ok(Some(len)) = scanned {
                let mut storage = FieldStorage::new();
                prop_assert!(parse_response(&head[..len], &mut storage).is_ok());
            }
        }
    }
}
