//! Field lines (RFC 9110 §5): a borrowed view with the few questions an upgrade asks.

use std::fmt;

use super::scanner::is_value_byte;

/// The field lines of one head in their order. Copying it copies a reference.
///
/// Names are compared without regard to case (RFC 9110 §5.1). Values come without the whitespace
/// around them; they are bytes, because they may carry obs-text.
#[derive(Clone, Copy, Default)]
pub struct Fields<'h>(&'h [httparse::Header<'h>]);

impl<'h> Fields<'h> {
    pub(super) const fn new(lines: &'h [httparse::Header<'h>]) -> Self {
        Self(lines)
    }

    /// Every field line: its name as it was sent, and its value.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = (&'h str, &'h [u8])> {
        self.0.iter().map(|line| (line.name, line.value))
    }

    /// The values of all lines with this name, in their order.
    pub fn all(self, name: &str) -> impl DoubleEndedIterator<Item = &'h [u8]> {
        self.iter().filter_map(move |(of, value)| of.eq_ignore_ascii_case(name).then_some(value))
    }

    /// The value of the first line with this name.
    pub fn first(self, name: &str) -> Option<&'h [u8]> {
        self.all(name).next()
    }

    /// How many lines have this name.
    pub fn count(self, name: &str) -> usize {
        self.all(name).count()
    }

    /// The value of a field that may stand once only.
    ///
    /// # Errors
    /// It stands more than once (even with equal values), or it is not ASCII.
    pub fn single(self, name: &str) -> Result<Option<&'h str>, NotSingle> {
        let mut values = self.all(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(NotSingle::Repeated);
        }
        ascii(value).map(Some).ok_or(NotSingle::NotAscii)
    }

    /// The elements of a comma-separated list (RFC 9110 §5.6.1) over all lines with this name.
    ///
    /// Whitespace around elements is cut off, empty elements are skipped, and so are elements that
    /// are not ASCII: they equal no token that anybody asks for. Quoted strings are not understood:
    /// lists of tokens have none.
    pub fn tokens(self, name: &str) -> impl Iterator<Item = &'h str> {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .filter_map(|element| ascii(trim_whitespace(element)))
            .filter(|element| !element.is_empty())
    }

    /// Whether [`tokens`](Self::tokens) has `token`, without regard to case.
    pub fn has_token(self, name: &str, token: &str) -> bool {
        self.tokens(name).any(|element| element.eq_ignore_ascii_case(token))
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values stay out of logs: a password or a cookie may be among them.
        f.debug_map().entries(self.iter().map(|(name, value)| (name, value.len()))).finish()
    }
}

/// Why a field has no single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSingle {
    /// The field stands more than once.
    Repeated,
    /// Its value has a byte above 0x7f.
    NotAscii,
}

/// Whether `text` is a token (RFC 9110 §5.6.2): what a field name, a subprotocol or the name of an
/// extension must be.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

/// Whether `value` can be written as a field value (RFC 9110 §5.5): no CR, LF, NUL or other control
/// character but tab, and no whitespace at its ends, which a recipient would cut off.
pub fn is_field_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| is_value_byte(byte)) && trim_whitespace(value).len() == value.len()
}

#[inline]
pub(super) const fn is_tchar(byte: u8) -> bool {
    TCHAR[byte as usize]
}

/// Cuts off space and tab, RFC 9110 §5.6.3's optional whitespace, and nothing else.
pub(super) fn trim_whitespace(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn ascii(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())
}

const TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z'
                | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
                | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line<'a>(name: &'a str, value: &'a [u8]) -> httparse::Header<'a> {
        httparse::Header { name, value }
    }

    // RFC 9110 §5.1, §5.3
    #[test]
    fn fields_are_found_in_any_case_and_in_their_order() {
        let lines = [line("Host", b"a"), line("X", b"1"), line("x", b"\xff"), line("X", b"")];
        let fields = Fields::new(&lines);
        assert_eq!(fields.first("hOST"), Some(&b"a"[..]));
        assert_eq!(fields.first("Hos"), None);
        assert_eq!(fields.all("x").collect::<Vec<_>>(), [&b"1"[..], b"\xff", b""]);
        assert_eq!((fields.count("X"), fields.count("y"), fields.iter().count()), (3, 0, 4));
    }

    #[test]
    fn fields_are_printed_with_names_and_lengths_alone() {
        let lines = [line("Authorization", b"Basic c2VjcmV0"), line("Host", b"a")];
        assert_eq!(format!("{:?}", Fields::new(&lines)), r#"{"Authorization": 14, "Host": 1}"#);
    }

    // RFC 9110 §5.3
    #[test]
    fn field_that_may_stand_once_is_refused_when_repeated_even_with_equal_values() {
        let lines = [line("a", b"1"), line("A", b"1"), line("b", b"2"), line("c", b"\xc3\xa4")];
        let fields = Fields::new(&lines);
        assert_eq!(fields.single("a"), Err(NotSingle::Repeated));
        assert_eq!(fields.single("b"), Ok(Some("2")));
        assert_eq!(fields.single("c"), Err(NotSingle::NotAscii));
        assert_eq!(fields.single("d"), Ok(None));
    }

    // RFC 9110 §5.6.1
    #[test]
    fn token_list_spans_lines_and_is_compared_without_case() {
        let lines = [
            line("Connection", b"keep-alive,\tUpGrade"),
            line("connection", b" ,, \xff, x "),
            line("Other", b"close"),
        ];
        let fields = Fields::new(&lines);
        assert_eq!(fields.tokens("Connection").collect::<Vec<_>>(), ["keep-alive", "UpGrade", "x"]);
        assert!(fields.has_token("connection", "upgrade"));
        assert!(!fields.has_token("connection", "upgrad"));
        assert!(!fields.has_token("connection", "xupgrade"));
        assert!(!fields.has_token("connection", "close"));
    }

    // RFC 9110 §5.6.2
    #[test]
    fn token_has_no_delimiters_space_or_control_characters() {
        assert!(is_token("chat.v2") && is_token("!#$%&'*+-.^_`|~09azAZ"));
        for text in ["", "a b", "a\tb", "a,b", "a/b", "a=b", "\"a\"", "a\r\n", "a\0", "ä", "a;"] {
            assert!(!is_token(text), "{text:?}");
        }
    }

    // RFC 9110 §5.5
    #[test]
    fn field_value_has_no_control_characters_and_no_space_at_its_ends() {
        assert!(is_field_value(b"") && is_field_value(b"a\tb c") && is_field_value(b"\xc3\xa4"));
        for value in [&b"a\r\nB: c"[..], b"a\n", b"a\r", b"a\0", b" a", b"a\t", b"\x7f", b"\x1b"] {
            assert!(!is_field_value(value), "{}", value.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn tokens_are_those_of_the_joined_lines(
            values in prop::collection::vec("[a-c,, \t]{0,12}", 0..5)
        ) {
            let lines: Vec<_> = values.iter().map(|value| line("list", value.as_bytes())).collect();
            let joined = values.join(",");
            let naive = joined.split(',').map(|element| element.trim_matches([' ', '\t']));
            prop_assert_eq!(
                Fields::new(&lines).tokens("LIST").collect::<Vec<_>>(),
                naive.filter(|element| !element.is_empty()).collect::<Vec<_>>()
            );
        }
    }
}
