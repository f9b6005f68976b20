//! Which part of an application a path leads to.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode_str;

use crate::limits::{ROUTE_SEGMENTS_MAX, ROUTES_MAX};

/// Patterns of paths, each with what it leads to.
///
/// A pattern is a path whose segments are literals or parameters: `/chat/{room}` takes one segment
/// that is not empty, `/files/{*rest}` all that is left, if it is not empty. Where several patterns
/// match, the first segment in which they differ decides: a literal goes before a parameter, that
/// before a rest. In which order they were added is of no consequence.
///
/// Paths are matched as they were sent, segment by segment, and then percent-decoded: an encoded
/// slash does not split, `.` and `..` are segments like any other, and so is the empty one:
/// `/chat/` is another path than `/chat`. Bytes that are no UTF-8 match no parameter. A pattern may
/// be percent-encoded too, which is how to write a literal brace.
///
/// ```
/// use corewire::{RouteError, Routes};
///
/// let mut routes = Routes::new();
/// routes.add("/chat/{room}", "a room")?;
/// routes.add("/chat/lobby", "the lobby")?;
/// assert_eq!(routes.add("/chat/{name}", "the same"), Err(RouteError::Repeated));
/// # Ok::<(), RouteError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes<R> {
    /// Sorted, so that the first one to match is the one to take.
    entries: Vec<(Pattern, R)>,
}

/// Why a pattern was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// It does not begin with a slash.
    NoSlash,
    /// It has a question mark or a number sign, where a path ends.
    NotInPath,
    /// A brace stands elsewhere than around a whole segment.
    Brace,
    /// The name of a parameter is empty, or has other characters than letters, digits and `_`.
    Name,
    /// Two parameters have the same name.
    RepeatedName,
    /// Something follows `{*rest}`.
    BehindRest,
    /// It has more than [`ROUTE_SEGMENTS_MAX`] segments.
    TooManySegments,
    /// There are [`ROUTES_MAX`] already.
    TooManyRoutes,
    /// There is a pattern that matches the same paths.
    Repeated,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "the pattern does not begin with a slash",
            Self::NotInPath => "the pattern has a character that ends a path",
            Self::Brace => "a brace stands elsewhere than around a whole segment",
            Self::Name => "the name of a parameter is not made of letters, digits and underscores",
            Self::RepeatedName => "two parameters have the same name",
            Self::BehindRest => "something follows the rest of the path",
            Self::TooManySegments => "the pattern has too many segments",
            Self::TooManyRoutes => "there are too many routes",
            Self::Repeated => "there is a pattern that matches the same paths",
        })
    }
}

impl std::error::Error for RouteError {}

/// A path and the pattern that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteMatch<'a> {
    pattern: &'a Pattern,
    path: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: Box<str>,
    segments: Box<[Segment]>,
    /// Of those segments that are no literals, in their order.
    names: Box<[Box<str>]>,
}

/// In the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    /// Percent-decoded.
    Literal(Box<[u8]>),
    Parameter,
    /// Always the last one.
    Rest,
}

impl<R> Default for Routes<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Routes<R> {
    /// None: then every path is the application's own affair.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a pattern and what it leads to.
    ///
    /// # Errors
    /// [`RouteError`]: the pattern is malformed, matches the same as one that is there, or is one
    /// too many. Nothing has changed then.
    pub fn add(&mut self, pattern: &str, route: R) -> Result<(), RouteError> {
        let pattern = Pattern::parse(pattern)?;
        let at = self.entries.binary_search_by(|(there, _)| there.segments.cmp(&pattern.segments));
        let Err(at) = at else { return Err(RouteError::Repeated) };
        if self.entries.len() >= ROUTES_MAX {
            return Err(RouteError::TooManyRoutes);
        }
        self.entries.insert(at, (pattern, route));
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, each with its pattern, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &R)> {
        self.entries.iter().map(|(pattern, route)| (&*pattern.text, route))
    }

    /// The place of the pattern that a path matches.
    pub(crate) fn find(&self, path: &str) -> Option<usize> {
        self.entries.iter().position(|(pattern, _)| pattern.matches(path))
    }

    /// What stands at a place that [`find`](Self::find) has named.
    pub(crate) fn at(&self, index: usize) -> &R {
        &self.entries[index].1
    }

    /// The match of a path with the pattern at a place that [`find`](Self::find) has named.
    pub(crate) fn matched<'a>(&'a self, index: usize, path: &'a str) -> RouteMatch<'a> {
        RouteMatch { pattern: &self.entries[index].0, path }
    }
}

impl<'a> RouteMatch<'a> {
    pub(crate) fn pattern(&self) -> &'a str {
        &self.pattern.text
    }

    /// What a parameter stands for, percent-decoded.
    pub(crate) fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        let wanted = self.pattern.names.iter().position(|it| &**it == name)?;
        let (mut met, mut found) = (0, None);
        self.pattern.walk(self.path, |segment, text| {
            if !matches!(segment, Segment::Literal(_)) {
                if met == wanted {
                    found = Some(text);
                }
                met += 1;
            }
            found.is_none()
        });
        percent_decode_str(found?).decode_utf8().ok()
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, RouteError> {
        let path = text.strip_prefix('/').ok_or(RouteError::NoSlash)?;
        if path.contains(['?', '#']) {
            return Err(RouteError::NotInPath);
        }
        let (mut segments, mut names) = (Vec::new(), Vec::<Box<str>>::new());
        for segment in path.split('/') {
            if segments.last() == Some(&Segment::Rest) {
                return Err(RouteError::BehindRest);
            }
            if segments.len() == ROUTE_SEGMENTS_MAX {
                return Err(RouteError::TooManySegments);
            }
            let (segment, name) = Segment::parse(segment)?;
            if names.iter().any(|there| Some(&**there) == name) {
                return Err(RouteError::RepeatedName);
            }
            segments.push(segment);
            names.extend(name.map(Box::from));
        }
        Ok(Self { text: text.into(), segments: segments.into(), names: names.into() })
    }

    fn matches(&self, path: &str) -> bool {
        self.walk(path, |segment, text| segment.takes(text))
    }

    /// Goes along the path with the pattern as long as each segment is taken. Says whether both
    /// came to their ends together.
    fn walk<'a>(&self, path: &'a str, mut take: impl FnMut(&Segment, &'a str) -> bool) -> bool {
        let mut ahead = path.strip_prefix('/');
        for segment in &self.segments {
            let Some(rest) = ahead else { return false };
            let text = match (segment, rest.split_once('/')) {
                (Segment::Literal(_) | Segment::Parameter, Some((text, behind))) => {
                    ahead = Some(behind);
                    text
                }
                (Segment::Rest, _) | (_, None) => {
                    ahead = None;
                    rest
                }
            };
            if !take(segment, text) {
                return false;
            }
        }
        ahead.is_none()
    }
}

impl Segment {
    /// A segment of a pattern, with its name if it is no literal.
    fn parse(text: &str) -> Result<(Self, Option<&str>), RouteError> {
        let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let (segment, name) = match inside {
            None if text.contains(['{', '}']) => return Err(RouteError::Brace),
            None => return Ok((Self::Literal(percent_decode_str(text).collect()), None)),
            Some(inside) => match inside.strip_prefix('*') {
                Some(name) => (Self::Rest, name),
                None => (Self::Parameter, inside),
            },
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(RouteError::Name);
        }
        Ok((segment, Some(name)))
    }

    fn takes(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => percent_decode_str(text).eq(literal.iter().copied()),
            Self::Parameter | Self::Rest => {
                !text.is_empty() && percent_decode_str(text).decode_utf8().is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn routes(patterns: &[&str]) -> Routes<usize> {
        let mut routes = Routes::new();
        for (number, pattern) in patterns.iter().enumerate() {
            routes.add(pattern, number).unwrap();
        }
        routes
    }

    /// The pattern that a path matches.
    fn found<'a>(routes: &'a Routes<usize>, path: &'a str) -> Option<RouteMatch<'a>> {
        routes.find(path).map(|index| routes.matched(index, path))
    }

    #[test]
    fn literal_goes_before_parameter_and_that_before_rest() {
        let patterns =
            ["/a/b/c", "/a/b/{x}", "/a/{y}/c", "/a/{*rest}", "/{z}/b/c", "/{*all}", "/", "/a/"];
        for rotation in 0..patterns.len() {
            let mut rotated = patterns;
            rotated.rotate_left(rotation);
            let routes = routes(&rotated);
            for (path, expected) in [
                ("/a/b/c", Some("/a/b/c")),
                ("/a/b/d", Some("/a/b/{x}")),
                ("/a/d/c", Some("/a/{y}/c")),
                ("/a/d/d", Some("/a/{*rest}")),
                ("/a/b", Some("/a/{*rest}")),
                ("/d/b/c", Some("/{z}/b/c")),
                ("/d/b/d", Some("/{*all}")),
                ("/a", Some("/{*all}")),
                ("/a//", Some("/a/{*rest}")),
                ("/a/", Some("/a/")),
                ("/", Some("/")),
                ("", None),
            ] {
                let pattern = found(&routes, path).map(|found| found.pattern());
                assert_eq!(pattern, expected, "{path}");
            }
        }
    }

    // RFC 3986 §2.1, §3.3
    #[test]
    fn segments_are_split_first_and_decoded_then() {
        let routes = routes(&["/a%20b/ü/%7b", "/one/{x}", "/all/{*rest}", "/../{x}"]);
        let param = |path: &str, name: &str| {
            found(&routes, path)?.param(name).map(std::borrow::Cow::into_owned)
        };
        assert!(found(&routes, "/%61%20b/%c3%bc/{").is_some());
        assert_eq!(param("/one/a%2Fb+c", "x").as_deref(), Some("a/b+c"));
        assert_eq!(param("/one/100%", "x").as_deref(), Some("100%"));
        assert_eq!(param("/all/a//b%2Fc/", "rest").as_deref(), Some("a//b/c/"));
        assert_eq!(param("/all//", "rest").as_deref(), Some("/"));
        assert_eq!(param("/%2e./d", "x").as_deref(), Some("d"));
        assert_eq!(param("/one/a", "y"), None);
        for path in ["/one%2Fa", "/one/", "/one/a/", "/all/", "/all", "/one/%ff", "/all/a/%c3"] {
            assert_eq!(found(&routes, path), None, "{path}");
        }
        let borrowed = found(&routes, "/one/plain").unwrap().param("x").unwrap();
        assert!(matches!(borrowed, std::borrow::Cow::Borrowed("plain")));
    }

    #[test]
    fn malformed_pattern_is_refused() {
        for (pattern, error) in [
            ("", RouteError::NoSlash),
            ("a", RouteError::NoSlash),
            ("{a}", RouteError::NoSlash),
            ("/a?b", RouteError::NotInPath),
            ("/a#b", RouteError::NotInPath),
            ("/a{b}", RouteError::Brace),
            ("/{b}c", RouteError::Brace),
            ("/{b", RouteError::Brace),
            ("/}", RouteError::Brace),
            ("/{}", RouteError::Name),
            ("/{*}", RouteError::Name),
            ("/{a b}", RouteError::Name),
            ("/{**a}", RouteError::Name),
            ("/{{a}}", RouteError::Name),
            ("/{a}/b/{a}", RouteError::RepeatedName),
            ("/{a}/{*a}", RouteError::RepeatedName),
            ("/{*a}/", RouteError::BehindRest),
            ("/{*a}/{b}", RouteError::BehindRest),
        ] {
            let mut routes = Routes::new();
            assert_eq!(routes.add(pattern, ()), Err(error), "{pattern}");
            assert!(routes.is_empty());
        }
    }

    #[test]
    fn patterns_that_match_the_same_are_refused() {
        for (first, second) in
            [("/a", "/%61"), ("/{a}", "/{b}"), ("/a/{*a}", "/a/{*b}"), ("/{a}/b/{c}", "/{c}/b/{a}")]
        {
            let mut routes = Routes::new();
            routes.add(first, 1).unwrap();
            assert_eq!(routes.add(second, 2), Err(RouteError::Repeated), "{second}");
            assert!(routes.iter().eq([(first, &1)]));
        }
    }

    #[test]
    fn routes_and_their_segments_are_bounded() {
        let mut routes = Routes::new();
        assert_eq!(routes.add(&"/a".repeat(ROUTE_SEGMENTS_MAX), ()), Ok(()));
        let longer = "/a".repeat(ROUTE_SEGMENTS_MAX + 1);
        assert_eq!(routes.add(&longer, ()), Err(RouteError::TooManySegments));
        for number in 1..ROUTES_MAX {
            routes.add(&format!("/{number}"), ()).unwrap();
        }
        assert_eq!(routes.add("/more", ()), Err(RouteError::TooManyRoutes));
        assert_eq!((routes.len(), routes.find("/more")), (ROUTES_MAX, None));
    }

    /// One segment of a pattern or path of the model, decoded.
    #[derive(Clone, Debug)]
    enum Piece {
        Literal(&'static str),
        Parameter,
        Rest,
    }

    const TEXTS: [&str; 6] = ["", "a", "b", "a/b", "%", "ü"];

    fn encode(text: &str, is_all: bool) -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' if !is_all => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        };
        text.bytes().map(byte).collect()
    }

    fn pattern_text(pieces: &[Piece]) -> String {
        let piece = |(at, piece): (usize, &Piece)| match piece {
            Piece::Literal(text) => format!("/{}", encode(text, false)),
            Piece::Parameter => format!("/{{p{at}}}"),
            Piece::Rest => format!("/{{*p{at}}}"),
        };
        pieces.iter().enumerate().map(piece).collect()
    }

    /// What each piece takes of the path, and how it is rated; `None` if it does not match.
    fn naive(pieces: &[Piece], path: &[&str]) -> Option<Vec<(u8, String)>> {
        match (pieces, path) {
            ([], []) => Some(Vec::new()),
            ([Piece::Rest], [_, ..]) => {
                let rest = path.join("/");
                (!rest.is_empty()).then(|| vec![(2, rest)])
            }
            ([piece, pieces @ ..], [text, path @ ..]) => {
                let rating = match piece {
                    Piece::Literal(literal) if literal == text => 0,
                    Piece::Parameter if !text.is_empty() => 1,
                    _ => return None,
                };
                let mut taken = naive(pieces, path)?;
                taken.insert(0, (rating, (*text).to_owned()));
                Some(taken)
            }
            _ => None,
        }
    }

    fn pieces() -> impl Strategy<Value = Vec<Piece>> {
        let piece = prop_oneof![
            3 => proptest::sample::select(&TEXTS[..]).prop_map(Piece::Literal),
            2 => Just(Piece::Parameter),
        ];
        (proptest::collection::vec(piece, 1..4), any::<bool>()).prop_map(|(mut pieces, ends)| {
            if ends {
                *pieces.last_mut().unwrap() = Piece::Rest;
            }
            pieces
        })
    }

    proptest! {
        #[test]
        fn finding_agrees_with_a_naive_matcher(
            patterns in proptest::collection::vec(pieces(), 0..12),
            path in proptest::collection::vec(proptest::sample::select(&TEXTS[..]), 1..5),
            is_all in any::<bool>(),
        ) {
            let mut routes = Routes::new();
            let added: Vec<_> = patterns
                .iter()
                .filter(|pieces| routes.add(&pattern_text(pieces), ()).is_ok())
                .collect();
            let text: String =
                path.iter().map(|text| format!("/{}", encode(text, is_all))).collect();
            let best = added
                .iter()
                .filter_map(|pieces| Some((naive(pieces, &path)?, pieces)))
                .min_by_key(|(taken, _)| taken.iter().map(|(rate, _)| *rate).collect::<Vec<_>>());
            let found = routes.find(&text).map(|index| routes.matched(index, &text));
            let found_text = found.map(|found| found.pattern().to_owned());
            prop_assert_eq!(found_text, best.as_ref().map(|(_, pieces)| pattern_text(pieces)));
            for (at, (rating, taken)) in best.iter().flat_map(|(taken, _)| taken.iter().enumerate()) {
                let param = found.and_then(|found| found.param(&format!("p{at}")));
                let expected = (*rating > 0).then_some(taken);
                prop_assert_eq!(param.as_deref(), expected.map(String::as_str));
            }
        }
    }
}
