//! Finds where a JSON value ends, and that it is one (RFC 8259). It builds nothing.
//!
//! Depth is counted on a stack of one bit for each level, so what a peer sends cannot use up ours.

use std::error::Error;
use std::fmt;

use crate::limits::JSON_DEPTH_MAX;

/// Why a text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// The grammar allows no such byte there, or the end.
    Malformed {
        /// Index of the byte.
        at: usize,
    },
    /// Nested deeper than [`JSON_DEPTH_MAX`].
    TooDeep {
        /// Index of the bracket that is too many.
        at: usize,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { at } => write!(f, "byte {at} is not what JSON has there"),
            Self::TooDeep { at } => write!(f, "byte {at} nests too deep"),
        }
    }
}

impl Error for JsonError {}

/// Reads a text from its beginning.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Stands in front of the first byte.
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What is wrong here.
    pub const fn malformed(&self) -> JsonError {
        JsonError::Malformed { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// §2: space, tab, line feed, carriage return; no other white space.
    pub fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips space, then this byte if it is there.
    pub fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// Skips space, then this byte, which must be there.
    pub fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.takes(byte) { Ok(()) } else { Err(self.malformed()) }
    }

    /// Nothing but space is left.
    pub fn expect_end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.peek().is_none() { Ok(()) } else { Err(self.malformed()) }
    }

    /// The next value, without the space around it.
    pub fn value(&mut self) -> Result<&'a str, JsonError> {
        self.skip_space();
        let start = self.at;
        let mut open = Brackets::default();
        loop {
            self.skip_space();
            match self.peek() {
                Some(b'[') => {
                    open.push(Bracket::Array, self.at)?;
                    self.at += 1;
                    if !self.takes(b']') {
                        continue;
                    }
                    open.pop();
                }
                Some(b'{') => {
                    open.push(Bracket::Object, self.at)?;
                    self.at += 1;
                    if !self.takes(b'}') {
                        self.name()?;
                        continue;
                    }
                    open.pop();
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return Err(self.malformed()),
            }
            if !self.goes_on(&mut open)? {
                return Ok(&self.text[start..self.at]);
            }
        }
    }

    /// Behind a value: closes what ends here, and says whether another value must follow.
    fn goes_on(&mut self, open: &mut Brackets) -> Result<bool, JsonError> {
        while let Some(bracket) = open.last() {
            let end = match bracket {
                Bracket::Array => b']',
                Bracket::Object => b'}',
            };
            if self.takes(b',') {
                if bracket == Bracket::Object {
                    self.name()?;
                }
                return Ok(true);
            }
            self.expect(end)?;
            open.pop();
        }
        Ok(false)
    }

    /// The name of a member and its colon: what stands between the quotes.
    pub fn name(&mut self) -> Result<&'a str, JsonError> {
        self.skip_space();
        let name = self.string()?;
        self.expect(b':')?;
        Ok(name)
    }

    /// §7: what stands between the quotes.
    pub fn string(&mut self) -> Result<&'a str, JsonError> {
        if self.peek() != Some(b'"') {
            return Err(self.malformed());
        }
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                None | Some(..=0x1F) => return Err(self.malformed()),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at - 1])
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let digits = match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            _ => return Err(self.malformed()),
        };
        self.at += 1;
        for _ in 0..digits {
            if !self.peek().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                return Err(self.malformed());
            }
            self.at += 1;
        }
        Ok(())
    }

    /// §6: no plus sign in front, no leading zeros, no bare point.
    fn number(&mut self) -> Result<(), JsonError> {
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|digit| digit.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.malformed()) } else { Ok(()) }
    }

    fn literal(&mut self, literal: &str) -> Result<(), JsonError> {
        for byte in literal.bytes() {
            if self.peek() != Some(byte) {
                return Err(self.malformed());
            }
            self.at += 1;
        }
        Ok(())
    }
}

/// The one value that a text is, without the space around it.
pub fn whole(text: &str) -> Result<&str, JsonError> {
    let mut scanner = Scanner::new(text);
    let value = scanner.value()?;
    scanner.expect_end()?;
    Ok(value)
}

/// Whether a string, as it stands between its quotes, spells these ASCII letters. Escapes may stand
/// for any of them.
pub fn spells(string: &str, letters: &str) -> bool {
    let mut rest = string;
    for letter in letters.bytes() {
        let (code, width) = match rest.strip_prefix("\\u").and_then(|hex| hex.get(..4)) {
            Some(hex) => (u16::from_str_radix(hex, 16).ok(), 6),
            None => (rest.bytes().next().map(u16::from), 1),
        };
        if code != Some(letter.into()) {
            return false;
        }
        rest = &rest[width..];
    }
    rest.is_empty()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Array,
    Object,
}

/// The brackets that are open: the innermost is the lowest bit, 1 for an object.
#[derive(Default)]
struct Brackets {
    bits: u128,
    depth: u32,
}

const _: () = assert!(JSON_DEPTH_MAX <= u128::BITS);

impl Brackets {
    fn push(&mut self, bracket: Bracket, at: usize) -> Result<(), JsonError> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(JsonError::TooDeep { at });
        }
        self.bits = self.bits << 1 | u128::from(bracket == Bracket::Object);
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
    }

    fn last(&self) -> Option<Bracket> {
        let bracket = if self.bits & 1 == 1 { Bracket::Object } else { Bracket::Array };
        (self.depth > 0).then_some(bracket)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    /// serde_json's opinion, which is as ours except that it knows no bound of the depth.
    fn oracle(text: &str) -> Option<String> {
        serde_json::from_str::<&RawValue>(text).ok().map(|raw| raw.get().to_owned())
    }

    const VALID: &[&str] = &[
        "0",
        "-0",
        "10",
        "-1.5",
        "1e9",
        "1E+9",
        "1e-09",
        "0.0e0",
        "1e999",
        "true",
        "false",
        "null",
        "\"\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00eF\"",
        "\"\\ud800\"",
        "\"\u{7f}é😀\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1,2]",
        "[[],{}]",
        "{\"a\":1,\"a\":[{}]}",
        " \t\r\n1 ",
    ];

    const MALFORMED: &[&str] = &[
        "",
        " ",
        "+1",
        "01",
        "-",
        "-a",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x1",
        "1 2",
        "True",
        "tru",
        "truee",
        "nul",
        "NaN",
        "Infinity",
        "-Infinity",
        "'a'",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\\u123\"",
        "\"\n\"",
        "\"\0\"",
        "\"\u{1f}\"",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{",
        "}",
        "{1:2}",
        "{a:1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1]",
        "{\"a\" 1}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "1,",
        "[]]",
        "\u{feff}1",
        "\u{a0}1",
        "1/**/",
        "undefined",
    ];

    #[test]
    fn grammar_is_that_of_the_rfc() {
        for &text in VALID {
            assert_eq!(whole(text), Ok(text.trim()), "{text}");
            assert_eq!(oracle(text).as_deref(), Some(text.trim()), "{text}");
        }
        for &text in MALFORMED {
            assert!(matches!(whole(text), Err(JsonError::Malformed { .. })), "{text}");
            assert_eq!(oracle(text), None, "{text}");
        }
    }

    #[test]
    fn error_tells_where_it_stands() {
        for (text, at) in
            [("", 0), ("[1,]", 3), ("{\"a\" 1}", 5), ("\"a", 2), ("1 2", 2), ("tru", 3)]
        {
            assert_eq!(whole(text), Err(JsonError::Malformed { at }), "{text}");
        }
    }

    #[test]
    fn depth_has_a_bound() {
        let nested = |depth: usize, open: &str, close: &str| {
            format!("{}{}{}", open.repeat(depth), 1, close.repeat(depth))
        };
        let most = JSON_DEPTH_MAX as usize;
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert!(whole(&nested(most, open, close)).is_ok());
            let at = most * open.len();
            let too_deep = Err(JsonError::TooDeep { at });
            assert_eq!(whole(&nested(most + 1, open, close)), too_deep);
            assert_eq!(whole(&nested(1_000_000, open, "")), too_deep);
        }
        // What is closed no longer counts.
        assert!(whole(&format!("[{}[]]", "[[]],".repeat(1000))).is_ok());
    }

    #[test]
    fn string_spells_letters_with_and_without_escapes() {
        for string in ["type", "\\u0074ype", "t\\u0079p\\u0065", "\\u0074\\u0079\\u0070\\u0065"] {
            assert!(spells(string, "type"), "{string}");
        }
        for string in [
            "",
            "typ",
            "types",
            "Type",
            "\\type",
            "\\u0054ype",
            "\\u1074ype",
            "typ\\u0065\\u0065",
            "é",
        ] {
            assert!(!spells(string, "type"), "{string}");
        }
    }

    /// Values, with the white space and the spellings that a generator of values would not have.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| serde_json::json!(number).to_string()),
            any::<String>().prop_map(|text| serde_json::json!(text).to_string()),
            "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
            Just("true".to_owned()),
            Just("null".to_owned()),
        ];
        leaf.prop_recursive(6, 60, 5, |inner| {
            let items =
                prop::collection::vec((inner, "[a-z\\\\u0-9]{0,8}", "[ \t\r\n]{0,2}"), 0..5);
            (items, any::<bool>()).prop_map(|(items, is_array)| {
                let item = |(value, name, space): &(String, String, String)| match is_array {
                    true => format!("{space}{value}{space}"),
                    false => format!("{space}{}{space}:{value}", serde_json::json!(name)),
                };
                let items: Vec<_> = items.iter().map(item).collect();
                let (open, close) = if is_array { ('[', ']') } else { ('{', '}') };
                format!("{open}{}{close}", items.join(","))
            })
        })
    }

    proptest! {
        #[test]
        fn values_are_valid_and_damaged_ones_are_what_the_oracle_says(
            text in json(), at in any::<prop::sample::Index>(),
            byte in prop::sample::select(&b"{}[]:,\"\\ 0-.eEu\nt\x01"[..]), cut in any::<bool>(),
        ) {
            prop_assert_eq!(whole(&text), Ok(text.trim_matches([' ', '\t', '\r', '\n'])));
            prop_assert!(oracle(&text).is_some());
            let mut damaged = text.into_bytes();
            let at = at.index(damaged.len());
            if cut {
                damaged.truncate(at);
            } else {
                damaged[at] = byte;
            }
            if let Ok(damaged) = String::from_utf8(damaged) {
                let expected = oracle(&damaged);
                prop_assert_eq!(whole(&damaged).ok(), expected.as_deref(), "{}", damaged);
            }
        }

        #[test]
        fn any_text_is_what_the_oracle_says(text in "[\\[\\]{}:,\"\\\\ 0-9.eE+u\\-atruflsn\n]{0,12}") {
            let expected = oracle(&text);
            prop_assert_eq!(whole(&text).ok(), expected.as_deref());
        }
    }
}
