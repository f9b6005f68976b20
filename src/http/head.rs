//! Request and response heads (RFC 9112 §2 to §5): complete ones, split into their parts.

use std::fmt;
use std::mem::MaybeUninit;

use super::fields::Fields;

/// How many fields one head can have at most: the size of [`FieldStorage`], which stands on the
/// stack (4 KiB). A [`fields_max`](super::HeadLimits::fields_max) above it counts as this much.
pub const FIELDS_MAX: usize = 128;

/// Why a head was refused. All but the limits are breaches of RFC 9112's grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The head does not end within the limit.
    HeadTooLarge {
        /// [`HeadLimits::head_bytes_max`](super::HeadLimits::head_bytes_max).
        limit_bytes: u32,
    },
    /// The request target is longer than the limit.
    TargetTooLong {
        /// [`HeadLimits::target_bytes_max`](super::HeadLimits::target_bytes_max).
        limit_bytes: u32,
    },
    /// There are more field lines than the limit.
    TooManyFields {
        /// [`HeadLimits::fields_max`](super::HeadLimits::fields_max), or 128 if that is less.
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

/// Splits a request's head that [`HeadScanner::scan`](super::HeadScanner::scan) found complete.
/// Bytes behind it are ignored.
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

/// Splits a response's head that [`HeadScanner::scan`](super::HeadScanner::scan) found complete.
/// Bytes behind it are ignored.
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

pub(super) const fn malformed<T>(malformation: Malformation) -> Result<T, HeadError> {
    Err(HeadError::Malformed(malformation))
}
