//! Request and response heads (RFC 9112 §2 to §5): found incrementally, then split.
//!
//! A head is scanned as it arrives and split once it is complete. The scanner is stricter than the
//! splitting parser behind it: whatever the scanner accepts, [`parse_request`] or
//! [`parse_response`] accepts too.

use std::fmt;
use std::mem::MaybeUninit;

use super::fields::{Fields, is_tchar};

/// How many fields one head can have at most: the size of [`FieldStorage`], which stands on the
/// stack (4 KiB). [`HeadLimits::fields_max`] above it counts as this much.
pub const FIELDS_MAX: usize = 128;

/// Bounds of one head, checked while it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, its final empty line and a leading one included.
    pub head_bytes_max: u32,
    /// Number of field lines; at most [`FIELDS_MAX`].
    pub fields_max: u16,
    /// Bytes of the request target.
    pub target_bytes_max: u32,
}

/// Why a head was refused. All but the limits are breaches of RFC 9112's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The head does not end within the limit.
    HeadTooLarge {
        /// [`HeadLimits::head_bytes_max`].
        limit_bytes: u32,
    },
    /// The request target is longer than the limit.
    TargetTooLong {
        /// [`HeadLimits::target_bytes_max`].
        limit_bytes: u32,
    },
    /// There are more field lines than the limit.
    TooManyFields {
        /// [`HeadLimits::fields_max`], or [`FIELDS_MAX`] if that is less.
        limit: u16,
    },
    /// The head breaks the grammar.
    Malformed(Malformation),
    /// The version is neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion,
}

impl HeadError {
    /// The status that answers a request with this error (RFC 9110 §15.5, RFC 6585 §5).
    pub const fn status(&self) -> u16 {
        match self {
            Self::HeadTooLarge { .. } | Self::TooManyFields { .. } => 431,
            Self::TargetTooLong { .. } => 414,
            Self::Malformed(_) | Self::UnsupportedVersion => 400,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadTooLarge { limit_bytes } => {
                write!(f, "the head is longer than {limit_bytes} bytes")
            }
            Self::TargetTooLong { limit_bytes } => {
                write!(f, "the request target is longer than {limit_bytes} bytes")
            }
            Self::TooManyFields { limit } => write!(f, "the head has more than {limit} fields"),
            Self::Malformed(malformation) => malformation.fmt(f),
            Self::UnsupportedVersion => f.write_str("the version is not HTTP/1.0 or HTTP/1.1"),
        }
    }
}

impl std::error::Error for HeadError {}

/// The rule of RFC 9112's grammar that a head breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformation {
    /// The method is not a token followed by one space (RFC 9112 §3.1).
    Method,
    /// The request target is empty or has a byte that is not visible ASCII (RFC 9112 §3.2).
    Target,
    /// The version does not begin with `HTTP/` (RFC 9112 §2.3).
    Version,
    /// The status is not three digits, or the reason has a control character (RFC 9112 §4).
    StatusLine,
    /// The start line goes on behind its version (RFC 9112 §3).
    StartLineEnd,
    /// A carriage return without a line feed (RFC 9112 §2.2).
    BareCr,
    /// A line feed without a carriage return. RFC 9112 §2.2 permits to accept it. We choose not
    /// to: two parsers that disagree about where a line ends are how requests are smuggled.
    BareLf,
    /// A NUL or another control character in a field value (RFC 9110 §5.5).
    ControlCharacter,
    /// A line begins with a space: an obsolete folded field, or space before the first field
    /// (RFC 9112 §2.2, §5.2).
    ObsFold,
    /// Space between a field's name and its colon (RFC 9112 §5.1).
    SpaceBeforeColon,
    /// A field line without a colon (RFC 9112 §5).
    MissingColon,
    /// A field line that begins with its colon (RFC 9110 §5.1).
    EmptyName,
    /// A field name that is not a token (RFC 9110 §5.1).
    FieldName,
    /// The head was to be split before it was complete. A scanned head never shows this.
    Incomplete,
}

impl fmt::Display for Malformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "the method is not a token followed by a space",
            Self::Target => "the request target is empty or not visible ASCII",
            Self::Version => "the version does not begin with HTTP/",
            Self::StatusLine => "the status line is malformed",
            Self::StartLineEnd => "the start line does not end behind its version",
            Self::BareCr => "a carriage return stands without a line feed",
            Self::BareLf => "a line feed stands without a carriage return",
            Self::ControlCharacter => "a field value has a control character",
            Self::ObsFold => "a line begins with a space",
            Self::SpaceBeforeColon => "a field name is followed by space",
            Self::MissingColon => "a field line has no colon",
            Self::EmptyName => "a field name is empty",
            Self::FieldName => "a field name is not a token",
            Self::Incomplete => "the head is not complete",
        })
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

const fn malformed<T>(malformation: Malformation) -> Result<T, HeadError> {
    Err(HeadError::Malformed(malformation))
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

/// Where the fields of one head are listed: 4 KiB for the caller's stack.
pub struct FieldStorage<'b>([MaybeUninit<httparse::Header<'b>>; FIELDS_MAX]);

impl FieldStorage<'_> {
    /// Storage that nothing has been written to.
    pub const fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; FIELDS_MAX])
    }
}

impl Default for FieldStorage<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// A version of HTTP that can be followed by an upgrade, or at least by an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: never an upgrade (RFC 6455 §4.1 wants 1.1 or higher).
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    fn from_minor(minor: Option<u8>) -> Result<Self, HeadError> {
        match minor {
            Some(0) => Ok(Self::Http10),
            Some(1) => Ok(Self::Http11),
            _ => Err(HeadError::UnsupportedVersion),
        }
    }
}

/// A request's head, split. Borrows the bytes that were received and the field storage.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h> {
    /// The method, a token, in the case it was sent (methods are case-sensitive, RFC 9110 §9.1).
    pub method: &'h str,
    /// The request target as it was sent.
    pub target: &'h str,
    /// The version.
    pub version: Version,
    /// The field lines in their order.
    pub fields: Fields<'h>,
}

/// A response's head, split. Borrows the bytes that were received and the field storage.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'h> {
    /// The version.
    pub version: Version,
    /// The status, 0 to 999 as far as the grammar goes.
    pub status: u16,
    /// The reason; empty if it is absent or not ASCII.
    pub reason: &'h str,
    /// The field lines in their order.
    pub fields: Fields<'h>,
}

/// Splits a request's head that [`HeadScanner::scan`] found complete. Bytes behind it are ignored.
///
/// # Errors
/// None for a scanned head. Others are refused as far as `httparse` refuses them, which lets more
/// pass than the scanner does; an incomplete one is [`Malformation::Incomplete`].
pub fn parse_request<'h, 'b: 'h>(
    head: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
) -> Result<RequestHead<'h>, HeadError> {
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(head, &mut storage.0).map_err(refusal)?;
    match (parsed, request.method, request.path) {
        (httparse::Status::Complete(_), Some(method), Some(target)) => Ok(RequestHead {
            method,
            target,
            version: Version::from_minor(request.version)?,
            fields: Fields::new(request.headers),
        }),
        _ => malformed(Malformation::Incomplete),
    }
}

/// Splits a response's head that [`HeadScanner::scan`] found complete. Bytes behind it are ignored.
///
/// # Errors
/// As [`parse_request`].
pub fn parse_response<'h, 'b: 'h>(
    head: &'b [u8],
    storage: &'h mut FieldStorage<'b>,
) -> Result<ResponseHead<'h>, HeadError> {
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, head, &mut storage.0)
        .map_err(refusal)?;
    match (parsed, response.code, response.reason) {
        (httparse::Status::Complete(_), Some(status), Some(reason)) => Ok(ResponseHead {
            version: Version::from_minor(response.version)?,
            status,
            reason,
            fields: Fields::new(response.headers),
        }),
        _ => malformed(Malformation::Incomplete),
    }
}

fn refusal(error: httparse::Error) -> HeadError {
    use httparse::Error as E;
    HeadError::Malformed(match error {
        E::TooManyHeaders => return HeadError::TooManyFields { limit: FIELDS_MAX as u16 },
        E::Version => return HeadError::UnsupportedVersion,
        E::HeaderName => Malformation::FieldName,
        E::HeaderValue => Malformation::ControlCharacter,
        E::NewLine => Malformation::BareCr,
        E::Status => Malformation::StatusLine,
        E::Token => Malformation::Method,
    })
}
