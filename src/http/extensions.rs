//! The value of `Sec-WebSocket-Extensions` (RFC 6455 §9.1).
//!
//! ```text
//! extension-list  = 1#extension
//! extension       = extension-token *( ";" extension-param )
//! extension-param = token [ "=" ( token | quoted-string ) ]
//! ```

use std::borrow::Cow;
use std::fmt;

use super::fields::{is_tchar, is_token};

/// A value of `Sec-WebSocket-Extensions` that breaks the grammar of RFC 6455 §9.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionError {
    /// A name is not a token, or something stands where a name has to begin.
    Name,
    /// A parameter's name is not a token.
    ParamName,
    /// A parameter's value is absent behind its `=`, or is no token, quoted or not.
    ParamValue,
    /// A quoted string does not end.
    UnfinishedQuote,
    /// Something other than `;` or `,` stands behind an extension or a parameter.
    Delimiter,
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "an extension's name is not a token",
            Self::ParamName => "the name of an extension's parameter is not a token",
            Self::ParamValue => "the value of an extension's parameter is not a token",
            Self::UnfinishedQuote => "a quoted string in an extension's parameter does not end",
            Self::Delimiter => "an extension is not followed by a semicolon or a comma",
        })
    }
}

impl std::error::Error for ExtensionError {}

/// One extension of a list, as it was sent. Borrows the field's value; nothing is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    name: &'a str,
    /// What follows the name; it was parsed once without an error.
    params: &'a [u8],
}

impl<'a> Extension<'a> {
    /// The extension's name, a token in the case it was sent.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The parameters in their order. One may stand more than once.
    pub const fn params(&self) -> Params<'a> {
        Params { rest: self.params }
    }
}

/// A parameter of an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name, a token in the case it was sent.
    pub name: &'a str,
    /// Its value, a token, if it has one: without quotes, and without the backslashes in them.
    pub value: Option<Cow<'a, str>>,
}

/// The parameters of one [`Extension`].
#[derive(Clone, Debug)]
pub struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        // The same bytes were parsed when the extension was made, so there is no error to lose.
        let (param, rest) = parse_param(self.rest).ok()??;
        self.rest = rest;
        Some(param)
    }
}

/// The extensions of all `Sec-WebSocket-Extensions` lines, which are one list (RFC 6455 §9.1).
///
/// Made from the values of the lines, see [`Fields::all`](super::Fields::all). Ends behind the
/// first error. Empty elements are skipped (RFC 9110 §5.6.1).
#[derive(Clone, Debug)]
pub struct Extensions<'a, L> {
    lines: L,
    line: &'a [u8],
    state: ListState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListState {
    Element,
    Failed,
}

impl<'a, L: Iterator<Item = &'a [u8]>> Extensions<'a, L> {
    /// The list that `lines` make.
    pub const fn new(lines: L) -> Self {
        Self { lines, line: b"", state: ListState::Element }
    }
}

impl<'a, L: Iterator<Item = &'a [u8]>> Iterator for Extensions<'a, L> {
    type Item = Result<Extension<'a>, ExtensionError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == ListState::Failed {
            return None;
        }
        loop {
            match skip_whitespace(self.line) {
                [] => self.line = self.lines.next()?,
                [b',', rest @ ..] => self.line = rest,
                element => {
                    return Some(match parse_extension(element) {
                        Ok((extension, rest)) => {
                            self.line = rest;
                            Ok(extension)
                        }
                        Err(error) => {
                            self.state = ListState::Failed;
                            Err(error)
                        }
                    });
                }
            }
        }
    }
}

/// Parses one extension; the rest begins with a comma or is empty.
fn parse_extension(element: &[u8]) -> Result<(Extension<'_>, &[u8]), ExtensionError> {
    let (name, params) = take_token(element).ok_or(ExtensionError::Name)?;
    let mut rest = params;
    while let Some((_, behind)) = parse_param(rest)? {
        rest = behind;
    }
    let params = &params[..params.len() - rest.len()];
    match skip_whitespace(rest) {
        rest @ ([] | [b',', ..]) => Ok((Extension { name, params }, rest)),
        _ => Err(ExtensionError::Delimiter),
    }
}

/// What [`parse_param`] found, and what follows it.
type Parsed<'a> = Option<(Param<'a>, &'a [u8])>;

/// Parses `; name` or `; name = value`; `None` if there is no semicolon.
fn parse_param(input: &[u8]) -> Result<Parsed<'_>, ExtensionError> {
    let [b';', input @ ..] = skip_whitespace(input) else { return Ok(None) };
    let (name, rest) = take_token(skip_whitespace(input)).ok_or(ExtensionError::ParamName)?;
    let [b'=', input @ ..] = skip_whitespace(rest) else {
        return Ok(Some((Param { name, value: None }, rest)));
    };
    let (value, rest) = match skip_whitespace(input) {
        [b'"', quoted @ ..] => take_quoted(quoted)?,
        input => {
            let (value, rest) = take_token(input).ok_or(ExtensionError::ParamValue)?;
            (Cow::Borrowed(value), rest)
        }
    };
    Ok(Some((Param { name, value: Some(value) }, rest)))
}

/// Takes a quoted string (RFC 9110 §5.6.4) whose opening quote was taken.
fn take_quoted(input: &[u8]) -> Result<(Cow<'_, str>, &[u8]), ExtensionError> {
    let mut unquoted = Cow::Borrowed("");
    let mut rest = input;
    loop {
        let plain;
        (plain, rest) = split_run(rest);
        // Nearly always there is one run and no backslash: then nothing is copied.
        if unquoted.is_empty() {
            unquoted = Cow::Borrowed(plain);
        } else {
            unquoted.to_mut().push_str(plain);
        }
        rest = match rest {
            [b'"', rest @ ..] if is_token(&unquoted) => return Ok((unquoted, rest)),
            [b'\\', escaped, rest @ ..] if is_tchar(*escaped) => {
                unquoted.to_mut().push(char::from(*escaped));
                rest
            }
            [] | [b'\\'] => return Err(ExtensionError::UnfinishedQuote),
            // RFC 6455 §9.1: the value behind unquoting must conform to a token.
            _ => return Err(ExtensionError::ParamValue),
        };
    }
}

fn take_token(input: &[u8]) -> Option<(&str, &[u8])> {
    Some(split_run(input)).filter(|(token, _)| !token.is_empty())
}

/// Splits behind the longest run of token characters, which may be empty.
fn split_run(input: &[u8]) -> (&str, &[u8]) {
    let len = input.iter().position(|&byte| !is_tchar(byte)).unwrap_or(input.len());
    let (run, rest) = input.split_at(len);
    (std::str::from_utf8(run).expect("token characters are ASCII"), rest)
}

fn skip_whitespace(input: &[u8]) -> &[u8] {
    let len = input.iter().position(|&byte| !matches!(byte, b' ' | b'\t'));
    &input[len.unwrap_or(input.len())..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Name and parameters of each extension, owned.
    type List = Vec<(String, Vec<(String, Option<String>)>)>;

    fn parse(lines: &[&str]) -> Result<List, ExtensionError> {
        let keep = |extension: Extension<'_>| {
            let params = extension.params();
            let params = params.map(|param| (param.name.into(), param.value.map(Into::into)));
            (extension.name().into(), params.collect())
        };
        Extensions::new(lines.iter().map(|line| line.as_bytes()))
            .map(|extension| extension.map(keep))
            .collect()
    }

    fn extension(name: &str, params: &[(&str, Option<&str>)]) -> List {
        let keep = |&(name, value): &(&str, Option<&str>)| (name.into(), value.map(Into::into));
        vec![(name.into(), params.iter().map(keep).collect())]
    }

    // RFC 6455 §9.1
    #[test]
    fn examples_of_the_rfc_are_parsed() {
        assert_eq!(parse(&["foo"]), Ok(extension("foo", &[])));
        let list = Ok([extension("foo", &[]), extension("bar", &[("baz", Some("2"))])].concat());
        assert_eq!(parse(&["foo", "bar; baz=2"]), list);
        assert_eq!(parse(&["foo, bar; baz=2"]), list);
        assert_eq!(parse(&["deflate-stream"]), Ok(extension("deflate-stream", &[])));
        assert_eq!(parse(&["mux; max-channels=4; flow-control, deflate-stream"]).unwrap().len(), 2);
        assert_eq!(parse(&["private-extension"]).unwrap().len(), 1);
    }

    // RFC 6455 §9.1
    #[test]
    fn quoted_value_is_unquoted_and_must_be_a_token_then() {
        let ten = extension("d", &[("bits", Some("10"))]);
        for line in ["d;bits=\"10\"", "d;bits=\"1\\0\"", "d;bits=\"\\1\\0\"", "d ; bits = \"\\10\""]
        {
            assert_eq!(parse(&[line]), Ok(ten.clone()), "{line}");
        }
        for line in ["d;b=\"\"", "d;b=\"1 0\"", "d;b=\"1,0\"", "d;b=\"\\\"\"", "d;b=\"\\\\\""] {
            assert_eq!(parse(&[line]), Err(ExtensionError::ParamValue), "{line}");
        }
        for line in ["d;b=\"10", "d;b=\"", "d;b=\"10\\"] {
            assert_eq!(parse(&[line]), Err(ExtensionError::UnfinishedQuote), "{line}");
        }
        assert_eq!(parse(&["d;b=\"10\"x"]), Err(ExtensionError::Delimiter));
    }

    // RFC 6455 §9.1
    #[test]
    fn params_without_values_and_repeated_params_are_kept() {
        let params = [("a", None), ("b", Some("1")), ("a", Some("2"))];
        assert_eq!(parse(&["x ;\ta; b =1;a= 2 "]), Ok(extension("x", &params)));
    }

    // RFC 9110 §5.6.1
    #[test]
    fn empty_elements_and_empty_lines_are_skipped() {
        assert_eq!(parse(&[]), Ok(vec![]));
        assert_eq!(parse(&["", " , ,\t"]), Ok(vec![]));
        assert_eq!(parse(&[",a,,", "", "b"]).unwrap().len(), 2);
    }

    // RFC 6455 §9.1
    #[test]
    fn malformed_list_is_an_error_behind_which_nothing_comes() {
        for (line, error) in [
            (";", ExtensionError::Name),
            ("=", ExtensionError::Name),
            ("\"a\"", ExtensionError::Name),
            ("\u{e4}", ExtensionError::Name),
            ("a;", ExtensionError::ParamName),
            ("a;,b", ExtensionError::ParamName),
            ("a;;b", ExtensionError::ParamName),
            ("a;=1", ExtensionError::ParamName),
            ("a;b=", ExtensionError::ParamValue),
            ("a;b=,c", ExtensionError::ParamValue),
            ("a;b==1", ExtensionError::ParamValue),
            ("a b", ExtensionError::Delimiter),
            ("a=1", ExtensionError::Delimiter),
            ("a;b c", ExtensionError::Delimiter),
            ("a;b=1=2", ExtensionError::Delimiter),
        ] {
            assert_eq!(parse(&[line]), Err(error), "{line:?}");
            let lines = ["first".as_bytes(), line.as_bytes(), b"last"];
            let mut list = Extensions::new(lines.into_iter());
            assert!(list.next().is_some_and(|extension| extension.is_ok()));
            assert_eq!(list.next(), Some(Err(error)));
            assert_eq!(list.next(), None);
        }
    }

    /// One extension as it may be written: its text and what it means.
    fn written() -> impl Strategy<Value = (String, List)> {
        let token = "[a-z0-9!.-]{1,4}";
        let space = "[ \t]{0,2}";
        let value = prop_oneof![
            Just((String::new(), None)),
            (space, token).prop_map(|(space, value)| (format!("={space}{value}"), Some(value))),
            token.prop_map(|value| {
                let quoted: String = value.chars().flat_map(|c| ['\\', c]).collect();
                (format!("=\"{quoted}\""), Some(value))
            }),
            token.prop_map(|value| (format!("=\"{value}\""), Some(value))),
        ];
        let param = (space, token, value).prop_map(|(space, name, (text, value))| {
            (format!("{space};{space}{name}{space}{text}"), (name, value))
        });
        (token, prop::collection::vec(param, 0..4)).prop_map(|(name, params)| {
            let (texts, params): (Vec<String>, Vec<_>) = params.into_iter().unzip();
            (format!("{name}{}", texts.concat()), vec![(name, params)])
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_in_whatever_lines_it_stands(
            written in prop::collection::vec((written(), "( |,|\t){0,2}", any::<bool>()), 0..5)
        ) {
            let mut lines = vec![String::new()];
            let mut list = List::new();
            for ((text, extension), space, is_new_line) in written {
                if is_new_line {
                    lines.push(String::new());
                }
                let line = lines.last_mut().unwrap();
                line.push_str(&format!("{space}{text}{space},"));
                list.extend(extension);
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            prop_assert_eq!(parse(&lines), Ok(list));
        }

        #[test]
        fn any_bytes_are_parsed_to_tokens_or_refused(line in "[a\";,=\\\\ \t\u{e4}]{0,16}") {
            for (name, params) in parse(&[&line]).unwrap_or_default() {
                prop_assert!(is_token(&name));
                for (name, value) in params {
                    prop_assert!(is_token(&name) && value.is_none_or(|value| is_token(&value)));
                }
            }
        }
    }
}
