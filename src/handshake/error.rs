//! Why a server refuses a request, and the answer that says so.

use std::fmt;

use super::accept::SubprotocolNotOffered;
use super::response::{BodyAllowed, Response};
use crate::http::HeadError;

/// Why a request is refused. Each one knows its status and writes its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The head could not be read.
    Head(HeadError),
    /// The request target is neither in origin-form nor in absolute-form, or has a fragment
    /// (RFC 9112 §3.2).
    InvalidTarget,
    /// There is no Host field, which only HTTP/1.0 permits (RFC 9112 §3.2).
    MissingHost,
    /// The Host field stands more than once (RFC 9112 §3.2).
    RepeatedHost,
    /// The Host field is empty or not a host with perhaps a port (RFC 9110 §7.2).
    InvalidHost,
    /// An upgrade with a method other than GET (RFC 6455 §4.2.1 item 1).
    MethodNotAllowed,
    /// An upgrade with HTTP/1.0 (RFC 6455 §4.2.1 item 1).
    UpgradeInHttp10,
    /// An Upgrade field, but no token `upgrade` in Connection (RFC 6455 §4.2.1 item 4).
    MissingConnectionUpgrade,
    /// An upgrade that declares a body. It would be taken for frames or for a request.
    BodyNotAllowed,
    /// An upgrade with an Expect field (RFC 9110 §10.1.1): nothing is expected of an empty body.
    ExpectationFailed,
    /// There is no Sec-WebSocket-Version field (RFC 6455 §4.2.1 item 6).
    MissingVersion,
    /// Sec-WebSocket-Version is not 13 (RFC 6455 §4.4).
    UnsupportedVersion,
    /// There is no Sec-WebSocket-Key field (RFC 6455 §4.2.1 item 5).
    MissingKey,
    /// The Sec-WebSocket-Key field stands more than once (RFC 6455 §11.3.1).
    RepeatedKey,
    /// Sec-WebSocket-Key is not the base64 of 16 bytes (RFC 6455 §4.2.1 item 5).
    InvalidKey,
    /// Sec-WebSocket-Extensions breaks its grammar (RFC 6455 §9.1).
    InvalidExtensions,
    /// The Origin field stands more than once or is not ASCII (RFC 6454 §7.3).
    InvalidOrigin,
    /// The origin is not permitted (RFC 6455 §10.2).
    OriginNotAllowed,
    /// Nothing is served under this path (RFC 6455 §4.2.2 item 4).
    NotFound,
    /// A plain request to what speaks only WebSocket (RFC 9110 §15.5.22).
    UpgradeRequired,
    /// The head was not complete by its deadline.
    TimedOut,
    /// There is no room.
    Overloaded {
        /// When it is worth another try.
        retry_after_seconds: u32,
    },
    /// The server is about to stop.
    Draining {
        /// When it is worth another try, here or elsewhere.
        retry_after_seconds: u32,
    },
    /// The application was to decide later, and has not in time.
    Undecided {
        /// When it is worth another try.
        retry_after_seconds: u32,
    },
    /// The application's answer broke a rule: see [`SubprotocolNotOffered`].
    InvalidAnswer,
}

impl HandshakeError {
    /// The status of the answer (RFC 9110 §15).
    pub const fn status(&self) -> u16 {
        match self {
            Self::Head(error) => error.status(),
            Self::InvalidTarget
            | Self::MissingHost
            | Self::RepeatedHost
            | Self::InvalidHost
            | Self::UpgradeInHttp10
            | Self::MissingConnectionUpgrade
            | Self::BodyNotAllowed
            | Self::MissingVersion
            | Self::MissingKey
            | Self::RepeatedKey
            | Self::InvalidKey
            | Self::InvalidExtensions
            | Self::InvalidOrigin => 400,
            Self::OriginNotAllowed => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TimedOut => 408,
            Self::ExpectationFailed => 417,
            Self::UnsupportedVersion | Self::UpgradeRequired => 426,
            Self::InvalidAnswer => 500,
            Self::Overloaded { .. } | Self::Draining { .. } | Self::Undecided { .. } => 503,
        }
    }

    /// Appends the whole answer to `out`; the connection has to be closed behind it. Its body,
    /// where it may have one, names the rule in a line of text and never repeats anything that was
    /// received.
    pub fn write_response(&self, out: &mut Vec<u8>, body_allowed: BodyAllowed) {
        // RFC 9110 §7.8: who sends Upgrade names it in Connection.
        let connection = if self.status() == 426 { "close, upgrade" } else { "close" };
        self.response().write_with_connection(out, connection, body_allowed);
    }

    /// The answer as a value; of 426 the Connection field is missing.
    pub(crate) fn response(&self) -> Response {
        let response = Response::with_status(self.status())
            .with_header("Content-Type", "text/plain")
            .body(format!("{self}\n").into_bytes());
        match self {
            Self::MethodNotAllowed => response.with_header("Allow", "GET"),
            // RFC 6455 §4.4: tell the version that is spoken here.
            Self::MissingVersion => response.with_header("Sec-WebSocket-Version", "13"),
            Self::UnsupportedVersion => response
                .with_header("Upgrade", "websocket")
                .with_header("Sec-WebSocket-Version", "13"),
            Self::UpgradeRequired => response.with_header("Upgrade", "websocket"),
            Self::Overloaded { retry_after_seconds }
            | Self::Draining { retry_after_seconds }
            | Self::Undecided { retry_after_seconds } => {
                response.with_header("Retry-After", &retry_after_seconds.to_string())
            }
            _ => response,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Head(error) => return error.fmt(f),
            Self::InvalidTarget => "the request target is malformed",
            Self::MissingHost => "there is no Host field",
            Self::RepeatedHost => "the Host field is repeated",
            Self::InvalidHost => "the Host field is malformed",
            Self::MethodNotAllowed => "a WebSocket is asked for with GET",
            Self::UpgradeInHttp10 => "a WebSocket is asked for in HTTP/1.1",
            Self::MissingConnectionUpgrade => "the Connection field has no token upgrade",
            Self::BodyNotAllowed => "a request for a WebSocket has no body",
            Self::ExpectationFailed => "a request for a WebSocket has no Expect field",
            Self::MissingVersion => "there is no Sec-WebSocket-Version field",
            Self::UnsupportedVersion => "the Sec-WebSocket-Version field is not 13",
            Self::MissingKey => "there is no Sec-WebSocket-Key field",
            Self::RepeatedKey => "the Sec-WebSocket-Key field is repeated",
            Self::InvalidKey => "the Sec-WebSocket-Key field is not the base64 of 16 bytes",
            Self::InvalidExtensions => "the Sec-WebSocket-Extensions field is malformed",
            Self::InvalidOrigin => "the Origin field is repeated or malformed",
            Self::OriginNotAllowed => "the origin is not permitted",
            Self::NotFound => "nothing is served under this path",
            Self::UpgradeRequired => "a WebSocket is served here and nothing else",
            Self::TimedOut => "the request was not complete in time",
            Self::Undecided { .. } => "the request was not decided in time",
            Self::Overloaded { .. } => "the server is at its capacity",
            Self::Draining { .. } => "the server is about to stop",
            Self::InvalidAnswer => "the server's application broke a rule",
        })
    }
}

impl std::error::Error for HandshakeError {}

impl From<HeadError> for HandshakeError {
    fn from(error: HeadError) -> Self {
        Self::Head(error)
    }
}

impl From<SubprotocolNotOffered> for HandshakeError {
    fn from(_: SubprotocolNotOffered) -> Self {
        Self::InvalidAnswer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{FieldStorage, HeadLimits, HeadScanner, Malformation, parse_response};

    const EVERY: [HandshakeError; 27] = [
        HandshakeError::Head(HeadError::HeadTooLarge { limit_bytes: 1 }),
        HandshakeError::Head(HeadError::TargetTooLong { limit_bytes: 1 }),
        HandshakeError::Head(HeadError::TooManyFields { limit: 1 }),
        HandshakeError::Head(HeadError::Malformed(Malformation::BareLf)),
        HandshakeError::Head(HeadError::UnsupportedVersion),
        HandshakeError::InvalidTarget,
        HandshakeError::MissingHost,
        HandshakeError::RepeatedHost,
        HandshakeError::InvalidHost,
        HandshakeError::MethodNotAllowed,
        HandshakeError::UpgradeInHttp10,
        HandshakeError::MissingConnectionUpgrade,
        HandshakeError::BodyNotAllowed,
        HandshakeError::ExpectationFailed,
        HandshakeError::MissingVersion,
        HandshakeError::UnsupportedVersion,
        HandshakeError::MissingKey,
        HandshakeError::InvalidKey,
        HandshakeError::InvalidExtensions,
        HandshakeError::InvalidOrigin,
        HandshakeError::OriginNotAllowed,
        HandshakeError::NotFound,
        HandshakeError::UpgradeRequired,
        HandshakeError::TimedOut,
        HandshakeError::Overloaded { retry_after_seconds: 7 },
        HandshakeError::Draining { retry_after_seconds: 7 },
        HandshakeError::InvalidAnswer,
    ];

    fn written(error: HandshakeError) -> String {
        let mut out = Vec::new();
        error.write_response(&mut out, BodyAllowed::Yes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn error_is_small() {
        assert!(size_of::<HandshakeError>() <= 16);
    }

    // RFC 9112 §6.2, §9.6
    #[test]
    fn every_error_writes_a_whole_answer_with_its_status_and_closes() {
        const LIMITS: HeadLimits =
            HeadLimits { head_bytes_max: 1024, fields_max: 10, target_bytes_max: 0 };
        for error in EVERY {
            let answer = written(error);
            let len = HeadScanner::response().scan(answer.as_bytes(), &LIMITS);
            let (head, body) = answer.split_at(len.unwrap().unwrap());
            let mut storage = FieldStorage::new();
            let head = parse_response(head.as_bytes(), &mut storage).unwrap();
            assert_eq!(head.status, error.status());
            assert!(!head.reason.is_empty(), "{error:?}");
            assert!(head.fields.has_token("Connection", "close"));
            assert_eq!(head.fields.single("Content-Length"), Ok(Some(&*body.len().to_string())));
            assert_eq!(body, format!("{error}\n"));
        }
    }

    // RFC 9110 §15.5.6, §15.5.22, §15.6.4, RFC 6455 §4.4
    #[test]
    fn answers_carry_the_headers_that_their_status_calls_for() {
        assert!(written(HandshakeError::MethodNotAllowed).contains("\r\nAllow: GET\r\n"));
        let version = "\r\nSec-WebSocket-Version: 13\r\n";
        assert!(written(HandshakeError::MissingVersion).contains(version));
        assert!(written(HandshakeError::UnsupportedVersion).contains(version));
        for error in [HandshakeError::UnsupportedVersion, HandshakeError::UpgradeRequired] {
            assert!(written(error).contains("\r\nUpgrade: websocket\r\n"));
            assert!(written(error).contains("\r\nConnection: close, upgrade\r\n"));
        }
        for unavailable in [
            HandshakeError::Overloaded { retry_after_seconds: 7 },
            HandshakeError::Draining { retry_after_seconds: 7 },
        ] {
            assert!(written(unavailable).contains("\r\nRetry-After: 7\r\n"));
        }
    }

    #[test]
    fn status_is_the_documented_one() {
        for (error, status) in [
            (HandshakeError::Head(HeadError::HeadTooLarge { limit_bytes: 1 }), 431),
            (HandshakeError::Head(HeadError::TargetTooLong { limit_bytes: 1 }), 414),
            (HandshakeError::OriginNotAllowed, 403),
            (HandshakeError::NotFound, 404),
            (HandshakeError::TimedOut, 408),
            (HandshakeError::UpgradeRequired, 426),
            (HandshakeError::InvalidAnswer, 500),
            (HandshakeError::Overloaded { retry_after_seconds: 1 }, 503),
            (HandshakeError::Draining { retry_after_seconds: 1 }, 503),
        ] {
            assert_eq!(error.status(), status, "{error:?}");
        }
    }
}
