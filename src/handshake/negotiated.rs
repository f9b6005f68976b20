//! What both ends agreed on: plain data that outlives the heads it came from.

use std::fmt;

use super::response::InvalidHeader;
use crate::http::{Extension, is_token};

/// What an opening handshake agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// The subprotocol, if one was selected (RFC 6455 §1.9).
    pub subprotocol: Option<Box<str>>,
    /// The extensions in the order of the server's answer, which is the order in which they apply
    /// (RFC 6455 §9.1).
    pub extensions: Vec<NegotiatedExtension>,
}

/// An extension that both ends use. What its parameters mean is its own affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiatedExtension {
    name: Box<str>,
    params: Vec<(Box<str>, Option<Box<str>>)>,
}

impl NegotiatedExtension {
    /// An extension without parameters.
    ///
    /// # Errors
    /// `name` is not a token.
    pub fn new(name: &str) -> Result<Self, InvalidHeader> {
        check_token(name)?;
        Ok(Self { name: name.into(), params: Vec::new() })
    }

    /// Adds a parameter.
    ///
    /// # Errors
    /// The name or the value is not a token.
    pub fn param(mut self, name: &str, value: Option<&str>) -> Result<Self, InvalidHeader> {
        check_token(name)?;
        value.map_or(Ok(()), check_token)?;
        self.params.push((name.into(), value.map(Into::into)));
        Ok(self)
    }

    /// The extension's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameters in their order: name, and value if there is one.
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.params.iter().map(|(name, value)| (&**name, value.as_deref()))
    }
}

/// Keeps what a head lends.
impl From<Extension<'_>> for NegotiatedExtension {
    fn from(extension: Extension<'_>) -> Self {
        let keep = |value: &str| Box::from(value);
        Self {
            name: extension.name().into(),
            params: extension
                .params()
                .map(|param| (keep(param.name), param.value.as_deref().map(keep)))
                .collect(),
        }
    }
}

/// As it stands in `Sec-WebSocket-Extensions`.
impl fmt::Display for NegotiatedExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (name, value) in self.params() {
            write!(f, "; {name}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

fn check_token(text: &str) -> Result<(), InvalidHeader> {
    is_token(text).then_some(()).ok_or(InvalidHeader::Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6455 §9.1
    #[test]
    fn extension_is_written_with_its_params() {
        let extension = NegotiatedExtension::new("foo")
            .and_then(|extension| extension.param("bar", None))
            .and_then(|extension| extension.param("baz", Some("2")))
            .unwrap();
        assert_eq!(extension.to_string(), "foo; bar; baz=2");
    }

    #[test]
    fn extension_is_made_of_tokens_alone() {
        assert_eq!(NegotiatedExtension::new("a b"), Err(InvalidHeader::Token));
        let extension = NegotiatedExtension::new("foo").unwrap();
        assert_eq!(extension.clone().param("a\r\n", None), Err(InvalidHeader::Token));
        assert_eq!(extension.param("a", Some("")), Err(InvalidHeader::Token));
    }
}
