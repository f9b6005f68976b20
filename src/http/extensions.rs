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
                    let parsed = parse_extension(element);
                    match parsed {
                        Ok((_, rest)) => self.line = rest,
                        Err(_) => self.state = ListState::Failed,
                    }
                    return Some(parsed.map(|(extension, _)| extension));
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
        match unquoted.is_empty() {
            true => unquoted = Cow::Borrowed(plain),
            false => unquoted.to_mut().push_str(plain),
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
