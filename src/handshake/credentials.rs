//! Who a client is, as the value of `Authorization` or `Proxy-Authorization` says it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::response::InvalidHeader;

/// User name and password in UTF-8 (RFC 7617 §2).
pub(super) fn basic(user: &str, password: &str) -> Result<String, InvalidHeader> {
    let has_control = |text: &str| text.bytes().any(|byte| byte.is_ascii_control());
    // The colon is where a server parts the two.
    if user.contains(':') || has_control(user) {
        return Err(InvalidHeader::UserName);
    }
    if has_control(password) {
        return Err(InvalidHeader::Password);
    }
    Ok(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

/// A token that somebody else has given out (RFC 6750 §2.1).
pub(super) fn bearer(token: &str) -> Result<String, InvalidHeader> {
    let characters = token.trim_end_matches('=');
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if characters.is_empty() || !characters.bytes().all(is_character) {
        return Err(InvalidHeader::BearerToken);
    }
    Ok(format!("Bearer {token}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7617 §2, §2.1
    #[test]
    fn user_name_and_password_are_those_of_the_rfc() {
        let value = |user, password| basic(user, password).unwrap();
        assert_eq!(value("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(value("test", "123\u{a3}"), "Basic dGVzdDoxMjPCow==");
        assert_eq!(value("", ""), "Basic Og==");
        assert_eq!(value("a", ":b:"), "Basic YTo6Yjo=");
    }

    // RFC 7617 §2
    #[test]
    fn credentials_that_a_server_would_read_otherwise_are_refused() {
        for user in ["a:b", ":", "a\r\nb", "\0", "\x7f", "a\tb"] {
            assert_eq!(basic(user, "password"), Err(InvalidHeader::UserName), "{user:?}");
        }
        for password in ["\r\n", "\0", "a\x1fb", "\x7f"] {
            assert_eq!(basic("user", password), Err(InvalidHeader::Password), "{password:?}");
        }
    }

    // RFC 6750 §2.1
    #[test]
    fn token_keeps_to_its_grammar() {
        assert_eq!(bearer("mF_9.B5f-4.1JqM").unwrap(), "Bearer mF_9.B5f-4.1JqM");
        for token in ["a", "a=", "a==", "~+/-._0"] {
            assert!(bearer(token).is_ok(), "{token}");
        }
        for token in ["", "=", "a b", "a=b", "a,b", "a\r\nB: c", "\u{e4}", " a", "a "] {
            assert_eq!(bearer(token), Err(InvalidHeader::BearerToken), "{token:?}");
        }
    }
}
