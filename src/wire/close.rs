//! Close codes and the payload of control frames (RFC 6455 §5.5, §7.4).

use std::error::Error;
use std::fmt;

use super::{ProtocolError, validate_whole};

/// The largest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// A close code (RFC 6455 §7.4). Any number can be one, so that unknown codes survive; which
/// numbers may stand in a frame is what [`is_sendable`](Self::is_sendable) says.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server goes down, or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: the peer sent data of a sort that the endpoint does not take.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005, never in a frame: the Close that arrived carried no code.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006, never in a frame: the connection ended without a Close.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: a payload contradicts its message, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the peer broke a rule of the endpoint's own.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message is larger than the endpoint takes.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client misses an extension that the server did not agree to.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server met a condition that it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service is overloaded, try again later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got a bad answer from the server behind it (IANA registry).
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015, never in a frame: the TLS handshake failed.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// The code with this number, known or not.
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// The code's number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether an endpoint may put this code into a frame: 1000–1003, 1007–1014, and 3000–4999
    /// for libraries and applications (§7.4.1, §7.4.2, IANA registry).
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// Whether a frame with this code is legal to receive. We choose the same set as for sending:
    /// the rest is reserved, unassigned or local, and a peer that sends it is in error.
    pub const fn is_receivable(self) -> bool {
        self.is_sendable()
    }

    /// The name of a code that this floor knows.
    const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::NORMAL => "normal closure",
            Self::GOING_AWAY => "going away",
            Self::PROTOCOL_ERROR => "protocol error",
            Self::UNSUPPORTED_DATA => "unsupported data",
            Self::NO_STATUS => "no status received",
            Self::ABNORMAL => "abnormal closure",
            Self::INVALID_PAYLOAD => "invalid payload data",
            Self::POLICY_VIOLATION => "policy violation",
            Self::MESSAGE_TOO_BIG => "message too big",
            Self::MANDATORY_EXTENSION => "mandatory extension",
            Self::INTERNAL_ERROR => "internal error",
            Self::SERVICE_RESTART => "service restart",
            Self::TRY_AGAIN_LATER => "try again later",
            Self::BAD_GATEWAY => "bad gateway",
            Self::TLS_HANDSHAKE => "TLS handshake",
            _ => return None,
        })
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.as_u16()
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({self})")
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} {name}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What a Close says, if it says anything; the reason is borrowed from the payload.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CloseFrame<'a> {
    /// Why the peer closes; always [receivable](CloseCode::is_receivable) when parsed.
    pub code: CloseCode,
    /// Text for the log, not for the user; may be empty, at most 123 bytes.
    pub reason: &'a str,
}

/// Parses the unmasked payload of a Close (RFC 6455 §5.5.1); `None` when it is empty.
///
/// # Errors
/// A payload of one byte, a code that must not be in a frame, a reason that is not UTF-8.
pub fn parse_close(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(ProtocolError::TruncatedCloseCode),
        };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.is_receivable() {
        return Err(ProtocolError::InvalidCloseCode { code: code.as_u16() });
    }
    let reason = validate_whole(reason).map_err(|_| ProtocolError::InvalidCloseReason)?;
    Ok(Some(CloseFrame { code, reason }))
}

/// Encodes the payload of a Close.
///
/// # Errors
/// The code is not [sendable](CloseCode::is_sendable), or the reason is longer than 123 bytes:
/// the caller's mistakes, found before anything is on the wire.
pub fn encode_close(code: CloseCode, reason: &str) -> Result<ControlPayload, InvalidClose> {
    if !code.is_sendable() {
        return Err(InvalidClose::ReservedCode(code));
    }
    let code = code.as_u16().to_be_bytes();
    let mut payload = ControlPayload::empty();
    for part in [&code, reason.as_bytes()] {
        payload.append(part).ok_or(InvalidClose::ReasonTooLong { reason_bytes: reason.len() })?;
    }
    Ok(payload)
}

/// The caller asked for a Close that must not be sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum InvalidClose {
    /// The code is reserved, unassigned, or stands for something that happened locally (§7.4).
    ReservedCode(CloseCode),
    /// Code and reason do not fit the 125 bytes of a control frame.
    ReasonTooLong {
        /// The reason's length; at most 123 would have fitted.
        reason_bytes: usize,
    },
}

impl fmt::Display for InvalidClose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReservedCode(code) => write!(f, "close code {code} must not be sent"),
            Self::ReasonTooLong { reason_bytes } => {
                write!(f, "a close reason of {reason_bytes} bytes is longer than 123")
            }
        }
    }
}

impl Error for InvalidClose {}

/// The payload of a control frame, kept by value: at most 125 bytes (RFC 6455 §5.5), so it can
/// wait in a slot or on the stack.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct ControlPayload {
    /// Bytes in use; always at most [`CONTROL_PAYLOAD_BYTES_MAX`].
    len: u8,
    /// The payload, then zeros.
    bytes: [u8; CONTROL_PAYLOAD_BYTES_MAX],
}

impl ControlPayload {
    /// A payload of no bytes.
    pub const fn empty() -> Self {
        Self { len: 0, bytes: [0; CONTROL_PAYLOAD_BYTES_MAX] }
    }

    /// A copy of these bytes; `None` when they are more than 125.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut payload = Self::empty();
        payload.append(bytes)?;
        Some(payload)
    }

    /// The payload's bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Adds bytes at the end; `None`, and nothing is added, when there is no room.
    fn append(&mut self, bytes: &[u8]) -> Option<()> {
        let start = usize::from(self.len);
        let end = start + bytes.len();
        self.bytes.get_mut(start..end)?.copy_from_slice(bytes);
        self.len = end as u8;
        Some(())
    }
}

impl Default for ControlPayload {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for ControlPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ControlPayload").field(&self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What RFC 6455 §7.4 and the IANA registry say about each range, one by one.
    fn is_sendable_by_the_book(code: u16) -> bool {
        match code {
            0..=999 => false,     // not used
            1000..=1003 => true,  // §7.4.1
            1004 => false,        // reserved
            1005 | 1006 => false, // must not be set in a frame
            1007..=1011 => true,  // §7.4.1
            1012..=1014 => true,  // registered
            1015 => false,        // must not be set in a frame
            1016..=2999 => false, // for future revisions of the protocol
            3000..=3999 => true,  // libraries and frameworks, registered
            4000..=4999 => true,  // private use
            5000.. => false,      // no meaning
        }
    }

    #[test]
    fn every_close_code_is_judged_by_the_ranges_of_7_4() {
        for number in 0..=u16::MAX {
            let code = CloseCode::new(number);
            let expected = is_sendable_by_the_book(number);
            assert_eq!(code.is_sendable(), expected, "{code}");
            assert_eq!(code.is_receivable(), expected, "{code}");

            let parsed = parse_close(&number.to_be_bytes()).is_ok();
            assert_eq!(parsed, expected, "{code} received");
            assert_eq!(encode_close(code, "").is_ok(), expected, "{code} sent");
        }
    }

    #[test]
    fn empty_close_has_no_code() {
        assert_eq!(parse_close(&[]), Ok(None));
    }

    #[test]
    fn half_a_close_code_is_refused() {
        for byte in 0..=u8::MAX {
            assert_eq!(parse_close(&[byte]), Err(ProtocolError::TruncatedCloseCode));
        }
    }

    #[test]
    fn reserved_close_code_is_named_even_before_a_bad_reason() {
        let error = ProtocolError::InvalidCloseCode { code: 1005 };
        assert_eq!(parse_close(&[0x03, 0xED, 0xFF]), Err(error));
    }

    #[test]
    fn close_reason_must_be_utf8() {
        let error = ProtocolError::InvalidCloseReason;
        assert_eq!(parse_close(&[0x03, 0xE8, 0xFF]), Err(error));
        assert_eq!(parse_close(&[0x03, 0xE8, b'a', 0xE2, 0x82]), Err(error), "cut at the end");
    }

    #[test]
    fn reason_of_123_bytes_fits_and_124_do_not() {
        let longest = "x".repeat(123);
        let payload = encode_close(CloseCode::NORMAL, &longest).unwrap();
        assert_eq!(payload.as_slice().len(), CONTROL_PAYLOAD_BYTES_MAX);
        assert_eq!(
            parse_close(payload.as_slice()),
            Ok(Some(CloseFrame { code: CloseCode::NORMAL, reason: &longest }))
        );

        let too_long = "x".repeat(124);
        assert_eq!(
            encode_close(CloseCode::NORMAL, &too_long),
            Err(InvalidClose::ReasonTooLong { reason_bytes: 124 })
        );
    }

    #[test]
    fn reserved_codes_are_the_callers_mistake() {
        for code in [CloseCode::NO_STATUS, CloseCode::ABNORMAL, CloseCode::TLS_HANDSHAKE] {
            assert_eq!(encode_close(code, ""), Err(InvalidClose::ReservedCode(code)));
        }
    }

    #[test]
    fn control_payload_takes_up_to_125_bytes() {
        let bytes: [u8; 126] = std::array::from_fn(|index| index as u8);
        for len in 0..=125 {
            let payload = ControlPayload::from_slice(&bytes[..len]).unwrap();
            assert_eq!(payload.as_slice(), &bytes[..len]);
        }
        assert_eq!(ControlPayload::from_slice(&bytes), None);
        assert_eq!(ControlPayload::from_slice(&[]), Some(ControlPayload::empty()));
        assert!(size_of::<ControlPayload>() <= 126);
    }

    #[test]
    fn codes_print_their_number_and_name() {
        assert_eq!(CloseCode::GOING_AWAY.to_string(), "1001 going away");
        assert_eq!(format!("{:?}", CloseCode::new(4321)), "CloseCode(4321)");
        assert_eq!(u16::from(CloseCode::new(4321)), 4321);
    }

    proptest! {
        #[test]
        fn what_is_encoded_parses_to_the_same(code in 1000..5000_u16, reason in ".{0,40}") {
            if let Ok(payload) = encode_close(CloseCode::new(code), &reason) {
                let close = parse_close(payload.as_slice()).unwrap().unwrap();
                prop_assert_eq!(close.code.as_u16(), code);
                prop_assert_eq!(close.reason, reason);
            } else {
                prop_assert!(!is_sendable_by_the_book(code) || reason.len() > 123);
            }
        }

        #[test]
        fn any_payload_parses_or_is_refused_by_its_first_fault(
            payload in prop::collection::vec(any::<u8>(), 0..=125),
        ) {
            let expected = match &payload[..] {
                [] => Ok(None),
                [_] => Err(ProtocolError::TruncatedCloseCode),
                [high, low, reason @ ..] => {
                    let code = u16::from(*high) << 8 | u16::from(*low);
                    match std::str::from_utf8(reason) {
                        _ if !is_sendable_by_the_book(code) => {
                            Err(ProtocolError::InvalidCloseCode { code })
                        }
                        Ok(reason) => Ok(Some(CloseFrame { code: CloseCode::new(code), reason })),
                        Err(_) => Err(ProtocolError::InvalidCloseReason),
                    }
                }
            };
            prop_assert_eq!(parse_close(&payload), expected);
        }
    }
}
