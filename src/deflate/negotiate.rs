//! Agreeing on parameters (RFC 7692 §5 and §7.1).

use std::fmt;

use crate::http::Extension;

/// The extension's name (RFC 7692 §7).
pub const EXTENSION_NAME: &str = "permessage-deflate";

/// How one end compresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// The logarithm of the window's size in bytes, 8 to 15: no distance is longer.
    pub window_bits: u8,
    /// Whether a message may refer to those before it. Both ends keep the window then.
    pub context_takeover: bool,
}

impl Direction {
    /// The largest window, kept between messages: what holds if nothing is said.
    pub const UNRESTRICTED: Self = Self { window_bits: WINDOW_BITS_MAX, context_takeover: true };
}

/// What both ends have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// How the server compresses.
    pub server: Direction,
    /// How the client compresses.
    pub client: Direction,
    /// What a server's answer says of that.
    params: Params,
}

/// What a server agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How it would compress. An offer may ask for less.
    pub server: Direction,
    /// How a client may compress. With less than 15 bits an offer that does not let the server
    /// say so is declined (§7.1.2.2).
    pub client: Direction,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How the server shall compress at most.
    pub server: Direction,
    /// How the client will compress at most. The server may ask for less.
    pub client: Direction,
}

/// A server's answer that does not fit our offer: the client has to fail the connection (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// A parameter that RFC 7692 does not define.
    UnknownParam,
    /// A parameter stands twice.
    RepeatedParam,
    /// A parameter has a value that it cannot have, or lacks one that it must have.
    InvalidValue,
    /// We asked for no context takeover, or for a smaller window, and the answer does not grant it.
    NotGranted,
    /// The answer restricts our window, which we did not offer, or to less than we can compress
    /// with.
    NotOffered,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownParam => "the answer has a parameter that permessage-deflate has not",
            Self::RepeatedParam => "the answer has a parameter of permessage-deflate twice",
            Self::InvalidValue => "the answer gives a parameter a value that it cannot have",
            Self::NotGranted => "the answer does not grant what was asked for",
            Self::NotOffered => "the answer restricts what was not offered to be restricted",
        })
    }
}

impl std::error::Error for AnswerError {}

impl Terms {
    /// Our answer to the first of `offers` that can be accepted; they stand in the client's order
    /// of preference. Those that cannot are declined, which fails nothing: malformed ones too
    /// (§7.1). Other extensions are passed over.
    pub fn answer<'a>(&self, offers: impl IntoIterator<Item = Extension<'a>>) -> Option<Agreement> {
        offers
            .into_iter()
            .filter(|offer| offer.name() == EXTENSION_NAME)
            .find_map(|offer| self.accept(Params::parse(&offer).ok()?))
    }

    fn accept(&self, offer: Params) -> Option<Agreement> {
        let server_bits = match offer.server_max_window_bits {
            Some(Bits::AtMost(bits)) => self.server.window_bits.min(bits),
            Some(Bits::Any) => return None,
            None => self.server.window_bits,
        };
        // A compressor for 256 bytes is not to be had (see `Deflater`), and more may not be said.
        if server_bits < DEFLATE_BITS_MIN {
            return None;
        }
        let offered_client_bits = match offer.client_max_window_bits {
            Some(Bits::AtMost(bits)) => bits,
            Some(Bits::Any) | None => WINDOW_BITS_MAX,
        };
        let client_bits = self.client.window_bits.min(offered_client_bits);
        if client_bits < offered_client_bits && offer.client_max_window_bits.is_none() {
            return None;
        }
        let server = Direction {
            window_bits: server_bits,
            context_takeover: self.server.context_takeover && !offer.server_no_context_takeover,
        };
        let client = Direction {
            window_bits: client_bits,
            context_takeover: self.client.context_takeover && !offer.client_no_context_takeover,
        };
        // What was asked for is granted by saying so. A smaller window of ours is worth saying too,
        // for the client may then keep a smaller one; and one of the client's, though that may be
        // what it has offered itself: what is not said has 15 bits (§7.1.2.2).
        let says_server_bits =
            offer.server_max_window_bits.is_some() || server_bits < WINDOW_BITS_MAX;
        let says_client_bits = client_bits < WINDOW_BITS_MAX;
        let params = Params {
            server_no_context_takeover: !server.context_takeover,
            client_no_context_takeover: !client.context_takeover,
            server_max_window_bits: says_server_bits.then_some(Bits::AtMost(server_bits)),
            client_max_window_bits: says_client_bits.then_some(Bits::AtMost(client_bits)),
        };
        Some(Agreement { server, client, params })
    }
}

impl Offer {
    /// The parameters of this offer in `Sec-WebSocket-Extensions`.
    pub fn params(&self) -> impl Iterator<Item = (&'static str, Option<u8>)> + use<> {
        let restricted = |direction: Direction| {
            (direction.window_bits < WINDOW_BITS_MAX).then_some(Bits::AtMost(direction.window_bits))
        };
        Params {
            server_no_context_takeover: !self.server.context_takeover,
            client_no_context_takeover: !self.client.context_takeover,
            server_max_window_bits: restricted(self.server),
            // Without a value it says that the server may choose one (§7.1.2.2).
            client_max_window_bits: restricted(self.client).or(Some(Bits::Any)),
        }
        .iter()
    }

    /// What holds after a server's answer to this offer, given by its parameters: name, and value
    /// if there is one.
    ///
    /// # Errors
    /// The answer is malformed or is none to this offer.
    pub fn conclude<'a>(
        &self,
        answer: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Agreement, AnswerError> {
        let mut params = Params::default();
        answer.into_iter().try_for_each(|(name, value)| params.set(name, value))?;
        let server_bits = params.server_max_window_bits.map_or(Ok(WINDOW_BITS_MAX), Bits::value)?;
        let client_bits =
            params.client_max_window_bits.map_or(Ok(self.client.window_bits), Bits::value)?;
        let wants_no_takeover = !self.server.context_takeover;
        if server_bits > self.server.window_bits
            || (wants_no_takeover && !params.server_no_context_takeover)
        {
            return Err(AnswerError::NotGranted);
        }
        if client_bits > self.client.window_bits || client_bits < DEFLATE_BITS_MIN {
            return Err(AnswerError::NotOffered);
        }
        Ok(Agreement {
            server: Direction {
                window_bits: server_bits,
                context_takeover: !params.server_no_context_takeover,
            },
            client: Direction {
                window_bits: client_bits,
                context_takeover: self.client.context_takeover
                    && !params.client_no_context_takeover,
            },
            params,
        })
    }
}

/// As it stands in `Sec-WebSocket-Extensions`.
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXTENSION_NAME)?;
        for (name, value) in self.params() {
            match value {
                Some(value) => write!(f, "; {name}={value}")?,
                None => write!(f, "; {name}")?,
            }
        }
        Ok(())
    }
}

impl Agreement {
    /// The parameters that a server's answer states this with.
    pub fn params(&self) -> impl Iterator<Item = (&'static str, Option<u8>)> + use<> {
        self.params.iter()
    }
}

/// The parameters of an offer or an answer, as they stand there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Params {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<Bits>,
    client_max_window_bits: Option<Bits>,
}

/// The value of `*_max_window_bits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    /// None was given.
    Any,
    AtMost(u8),
}

impl Bits {
    fn value(self) -> Result<u8, AnswerError> {
        match self {
            Self::Any => Err(AnswerError::InvalidValue),
            Self::AtMost(bits) => Ok(bits),
        }
    }

    /// §7.1.2: a decimal integer without leading zeroes between 8 and 15.
    fn parse(value: Option<&str>) -> Result<Self, AnswerError> {
        let Some(value) = value else { return Ok(Self::Any) };
        match value.as_bytes() {
            [digit @ b'8'..=b'9'] => Ok(Self::AtMost(digit - b'0')),
            [b'1', digit @ b'0'..=b'5'] => Ok(Self::AtMost(10 + digit - b'0')),
            _ => Err(AnswerError::InvalidValue),
        }
    }
}

impl Params {
    fn parse(extension: &Extension<'_>) -> Result<Self, AnswerError> {
        let mut params = Self::default();
        for param in extension.params() {
            params.set(param.name, param.value.as_deref())?;
        }
        Ok(params)
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), AnswerError> {
        match name {
            SERVER_NO_CONTEXT_TAKEOVER => flag(&mut self.server_no_context_takeover, value),
            CLIENT_NO_CONTEXT_TAKEOVER => flag(&mut self.client_no_context_takeover, value),
            SERVER_MAX_WINDOW_BITS => bits(&mut self.server_max_window_bits, value),
            CLIENT_MAX_WINDOW_BITS => bits(&mut self.client_max_window_bits, value),
            _ => Err(AnswerError::UnknownParam),
        }
    }

    fn iter(self) -> impl Iterator<Item = (&'static str, Option<u8>)> {
        let flag = |is_set: bool, name| is_set.then_some((name, None));
        let bits = |bits: Option<Bits>, name| {
            bits.map(|bits| match bits {
                Bits::Any => (name, None),
                Bits::AtMost(bits) => (name, Some(bits)),
            })
        };
        [
            flag(self.server_no_context_takeover, SERVER_NO_CONTEXT_TAKEOVER),
            flag(self.client_no_context_takeover, CLIENT_NO_CONTEXT_TAKEOVER),
            bits(self.server_max_window_bits, SERVER_MAX_WINDOW_BITS),
            bits(self.client_max_window_bits, CLIENT_MAX_WINDOW_BITS),
        ]
        .into_iter()
        .flatten()
    }
}

/// §7.1.1: stands at most once, without a value.
fn flag(is_set: &mut bool, value: Option<&str>) -> Result<(), AnswerError> {
    if value.is_some() {
        return Err(AnswerError::InvalidValue);
    }
    if std::mem::replace(is_set, true) { Err(AnswerError::RepeatedParam) } else { Ok(()) }
}

fn bits(bits: &mut Option<Bits>, value: Option<&str>) -> Result<(), AnswerError> {
    match bits.replace(Bits::parse(value)?) {
        Some(_) => Err(AnswerError::RepeatedParam),
        None => Ok(()),
    }
}

const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// The largest window of deflate (RFC 1951). Decompressors all have it: one is reset to nothing
/// else.
pub(crate) const WINDOW_BITS_MAX: u8 = 15;
/// The smallest that we compress with: `zlib-rs` has none of 256 bytes.
pub(crate) const DEFLATE_BITS_MIN: u8 = 9;
/// The smallest that RFC 7692 has (§7.1.2).
pub(super) const INFLATE_BITS_MIN: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Extensions;

    fn extensions(line: &str) -> Vec<Extension<'_>> {
        Extensions::new([line.as_bytes()].into_iter()).map(|element| element.unwrap()).collect()
    }

    fn text(params: impl Iterator<Item = (&'static str, Option<u8>)>) -> String {
        params.fold(String::from(EXTENSION_NAME), |text, (name, value)| match value {
            Some(value) => format!("{text}; {name}={value}"),
            None => format!("{text}; {name}"),
        })
    }

    /// What `offer` concludes from a line of an answer.
    fn conclude(offer: Offer, answer: &str) -> Result<Agreement, AnswerError> {
        let extensions = extensions(answer);
        let params: Vec<_> =
            extensions[0].params().map(|param| (param.name, param.value)).collect();
        offer.conclude(params.iter().map(|(name, value)| (*name, value.as_deref())))
    }

    fn answer(terms: &Terms, offers: &str) -> Option<String> {
        terms.answer(extensions(offers)).map(|agreement| text(agreement.params()))
    }

    const OPEN: Terms = Terms { server: Direction::UNRESTRICTED, client: Direction::UNRESTRICTED };

    fn direction(window_bits: u8, context_takeover: bool) -> Direction {
        Direction { window_bits, context_takeover }
    }

    // RFC 7692 §7.1.3
    #[test]
    fn examples_of_the_rfc() {
        assert_eq!(answer(&OPEN, EXTENSION_NAME).as_deref(), Some(EXTENSION_NAME));
        let offers = "permessage-deflate; client_max_window_bits; server_max_window_bits=10";
        let expected = "permessage-deflate; server_max_window_bits=10";
        assert_eq!(answer(&OPEN, offers).as_deref(), Some(expected));
        let offers = "permessage-deflate; client_max_window_bits; server_max_window_bits=10, \
                      permessage-deflate; client_max_window_bits";
        assert_eq!(answer(&OPEN, offers).as_deref(), Some(expected));
        let small = Terms { client: direction(10, true), ..OPEN };
        let expected = "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10";
        assert_eq!(answer(&small, offers).as_deref(), Some(expected));
    }

    // RFC 7692 §7.1
    #[test]
    fn malformed_offers_are_declined_and_the_next_is_taken() {
        for params in [
            "unknown",
            "unknown=1",
            "Server_no_context_takeover",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"1\"",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits",
            "client_max_window_bits; client_max_window_bits=15",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=010",
            "server_max_window_bits=1",
            "server_max_window_bits=100",
            "server_max_window_bits=10.0",
            "server_max_window_bits=+10",
            "server_max_window_bits=0xa",
            "server_max_window_bits=x",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=09",
            "client_max_window_bits=-9",
        ] {
            let offer = format!("permessage-deflate; {params}");
            assert_eq!(answer(&OPEN, &offer), None, "{params}");
            let offers = format!("{offer}, permessage-deflate; client_no_context_takeover");
            let expected = "permessage-deflate; client_no_context_takeover";
            assert_eq!(answer(&OPEN, &offers).as_deref(), Some(expected), "{params}");
        }
    }

    // RFC 6455 §9.1
    #[test]
    fn quoted_values_are_values() {
        let offer = "permessage-deflate; server_max_window_bits=\"1\\2\"";
        let expected = "permessage-deflate; server_max_window_bits=12";
        assert_eq!(answer(&OPEN, offer).as_deref(), Some(expected));
    }

    #[test]
    fn other_extensions_are_passed_over() {
        assert_eq!(answer(&OPEN, "x-webkit-deflate-frame"), None);
        assert_eq!(answer(&OPEN, "Permessage-Deflate"), None);
        let offers = "permessage-bzip2, permessage-deflate";
        assert_eq!(answer(&OPEN, offers).as_deref(), Some(EXTENSION_NAME));
    }

    // The zlib that we compress with has no window of 256 bytes.
    #[test]
    fn window_of_8_bits_is_declined_for_us_and_taken_from_the_client() {
        assert_eq!(answer(&OPEN, "permessage-deflate; server_max_window_bits=8"), None);
        let offers = extensions("permessage-deflate; client_max_window_bits=8");
        let agreement = OPEN.answer(offers).unwrap();
        assert_eq!(agreement.client, direction(8, true));
    }

    #[test]
    fn client_fails_answers_that_do_not_fit_its_offer() {
        let conclude = |offer: Offer, params: &str| {
            let line = format!("permessage-deflate{params}");
            conclude(offer, &line).map(|agreement| (agreement.server, agreement.client))
        };
        let open = Offer { server: Direction::UNRESTRICTED, client: Direction::UNRESTRICTED };
        let both = (Direction::UNRESTRICTED, Direction::UNRESTRICTED);
        assert_eq!(conclude(open, ""), Ok(both));
        let all = "; server_no_context_takeover; client_no_context_takeover; \
                   server_max_window_bits=9; client_max_window_bits=10";
        assert_eq!(conclude(open, all), Ok((direction(9, false), direction(10, false))));
        for (params, error) in [
            ("; a", AnswerError::UnknownParam),
            (
                "; server_no_context_takeover; server_no_context_takeover",
                AnswerError::RepeatedParam,
            ),
            ("; server_no_context_takeover=0", AnswerError::InvalidValue),
            ("; server_max_window_bits", AnswerError::InvalidValue),
            ("; client_max_window_bits", AnswerError::InvalidValue),
            ("; client_max_window_bits=16", AnswerError::InvalidValue),
            ("; client_max_window_bits=8", AnswerError::NotOffered),
        ] {
            assert_eq!(conclude(open, params), Err(error), "{params}");
        }
        let modest = Offer { server: direction(10, false), client: direction(11, false) };
        for (params, error) in [
            ("; server_max_window_bits=10", AnswerError::NotGranted),
            ("; server_no_context_takeover", AnswerError::NotGranted),
            ("; server_no_context_takeover; server_max_window_bits=11", AnswerError::NotGranted),
            (
                "; server_no_context_takeover; server_max_window_bits=10; client_max_window_bits=12",
                AnswerError::NotOffered,
            ),
        ] {
            assert_eq!(conclude(modest, params), Err(error), "{params}");
        }
        let granted = "; server_no_context_takeover; server_max_window_bits=9";
        assert_eq!(conclude(modest, granted), Ok((direction(9, false), direction(11, false))));
    }

    /// An offer or an answer as the RFC's prose has it, with 0 for a value that is not there.
    #[derive(Clone, Copy, Debug)]
    struct Model {
        server_no: bool,
        client_no: bool,
        server_bits: Option<u8>,
        client_bits: Option<u8>,
    }

    fn models(bits: &[Option<u8>], client_bits: &[Option<u8>]) -> Vec<Model> {
        let mut all = Vec::new();
        for (server_no, client_no) in [(false, false), (false, true), (true, false), (true, true)] {
            for &server_bits in bits {
                for &client_bits in client_bits {
                    all.push(Model { server_no, client_no, server_bits, client_bits });
                }
            }
        }
        all
    }

    impl Model {
        fn line(&self) -> String {
            let mut line = String::from(EXTENSION_NAME);
            line += if self.server_no { "; server_no_context_takeover" } else { "" };
            line += if self.client_no { "; client_no_context_takeover" } else { "" };
            for (bits, name) in [
                (self.server_bits, "server_max_window_bits"),
                (self.client_bits, "client_max_window_bits"),
            ] {
                line += &match bits {
                    None => String::new(),
                    Some(0) => format!("; {name}"),
                    Some(bits) => format!("; {name}={bits}"),
                };
            }
            line
        }

        /// §7.1.1.1, §7.1.2.1 and §7.1.2.2: whether a server may answer this offer so.
        fn may_be_answered(&self, answer: &Model) -> bool {
            let server_bits_fit = match (self.server_bits, answer.server_bits) {
                (Some(offered), Some(answered)) => answered <= offered,
                (Some(_), None) => false,
                (None, _) => true,
            };
            let client_bits_fit = match (self.client_bits, answer.client_bits) {
                (None, Some(_)) => false,
                (Some(0) | None, _) | (_, None) => true,
                (Some(offered), Some(answered)) => answered <= offered,
            };
            (answer.server_no || !self.server_no) && server_bits_fit && client_bits_fit
        }

        /// What holds for the server and the client then.
        fn outcome(&self, answer: &Model) -> (Direction, Direction) {
            let hint = self.client_bits.filter(|bits| *bits > 0).unwrap_or(15);
            (
                direction(answer.server_bits.unwrap_or(15), !answer.server_no),
                direction(
                    answer.client_bits.unwrap_or(15).min(hint),
                    !answer.client_no && !self.client_no,
                ),
            )
        }
    }

    fn is_within(outcome: Direction, terms: Direction) -> bool {
        outcome.window_bits <= terms.window_bits
            && (terms.context_takeover || !outcome.context_takeover)
    }

    // RFC 7692 §7.1, against all answers that there are
    #[test]
    fn server_answers_as_the_rfc_allows_and_declines_only_what_no_answer_fits() {
        let values: Vec<Option<u8>> = std::iter::once(None).chain((8..=15).map(Some)).collect();
        let offered: Vec<Option<u8>> = values.iter().copied().chain([Some(0)]).collect();
        let answers = models(&values, &values);
        for terms in [(15, 15), (10, 15), (15, 9), (9, 12)] {
            for (takes_server, takes_client) in [(true, true), (false, false), (true, false)] {
                let terms = Terms {
                    server: direction(terms.0, takes_server),
                    client: direction(terms.1, takes_client),
                };
                for offer in models(&values, &offered) {
                    let fits = |answer: &Model| {
                        let (server, client) = offer.outcome(answer);
                        offer.may_be_answered(answer)
                            && is_within(server, terms.server)
                            && is_within(client, terms.client)
                            && server.window_bits >= DEFLATE_BITS_MIN
                    };
                    let line = offer.line();
                    match terms.answer(extensions(&line)) {
                        None => {
                            assert!(!answers.iter().any(fits), "{terms:?} could answer {line}");
                        }
                        Some(agreement) => {
                            let said = text(agreement.params());
                            let answer = answers.iter().find(|answer| answer.line() == said);
                            let answer = answer.unwrap_or_else(|| panic!("{said} is no answer"));
                            assert!(fits(answer), "{terms:?} answered {line} with {said}");
                            let outcome = (agreement.server, agreement.client);
                            assert_eq!(outcome, offer.outcome(answer), "{line}: {said}");
                        }
                    }
                }
            }
        }
    }

    // Our own two ends agree with each other.
    #[test]
    fn client_concludes_what_the_server_has_agreed_to() {
        let all = [8, 9, 10, 15]
            .into_iter()
            .flat_map(|bits| [direction(bits, true), direction(bits, false)]);
        let all: Vec<Direction> = all.collect();
        for &server in &all {
            for &client in all.iter().filter(|client| client.window_bits >= DEFLATE_BITS_MIN) {
                let offer = Offer { server, client };
                let line = text(offer.params());
                for terms in
                    [OPEN, Terms { server: direction(9, false), client: direction(12, true) }]
                {
                    let Some(agreement) = terms.answer(extensions(&line)) else {
                        assert!(server.window_bits < DEFLATE_BITS_MIN, "{line}");
                        continue;
                    };
                    let said = text(agreement.params());
                    assert_eq!(conclude(offer, &said), Ok(agreement), "{line}: {said}");
                }
            }
        }
    }
}
