//! The protocol of `/topics`: requests and answers in JSON. docs/topics.md describes it.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use corewire::Message;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a client wants.
#[derive(Debug)]
pub struct Request<'a> {
    /// Comes back in the answer, whatever it is.
    pub id: Option<&'a RawValue>,
    pub topic: Cow<'a, str>,
    pub job: Job<'a>,
}

#[derive(Debug)]
pub enum Job<'a> {
    Subscribe,
    Unsubscribe,
    Publish {
        data: Payload<'a>,
        /// What the message conflates by.
        key: Option<String>,
    },
}

/// What is published.
#[derive(Debug)]
pub enum Payload<'a> {
    Text(Cow<'a, str>),
    Binary(Vec<u8>),
}

/// Why a request was refused.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    pub reason: String,
}

/// What programs tell refusals apart by. The names do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    NotText,
    BadJson,
    BadRequest,
    UnknownType,
    BadTopic,
    BadData,
    TooManySubscriptions,
    Full,
    Congested,
}

/// What a client is told.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer<'a> {
    Ack {
        id: &'a RawValue,
        topic: &'a str,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a RawValue>,
        code: Code,
        reason: &'a str,
    },
    Message {
        topic: &'a str,
        data: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encoding: Option<&'static str>,
    },
    Dropped {
        messages: u64,
    },
}

/// A request as it is written. What else it says is passed over.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow, rename = "type")]
    name: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    topic: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
    encoding: Option<String>,
    key: Option<String>,
}

/// Borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The id of a request of which nothing else is known.
#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

const IN_BASE64: &str = "base64";

impl<'a> Request<'a> {
    /// # Errors
    /// Why it is none, with its id as far as it has one.
    pub fn parse(text: &'a str) -> Result<Self, (Option<&'a RawValue>, Error)> {
        let written: Written<'a> = serde_json::from_str(text).map_err(|error| {
            let label = serde_json::from_str::<Labelled<'a>>(text).ok();
            let id = label.and_then(|label| label.id).filter(|id| !is_array(text) && is_short(id));
            let code = if error.is_data() { Code::BadRequest } else { Code::BadJson };
            (id, Error::new(code, error))
        })?;
        if is_array(text) {
            return Err((None, Error::new(Code::BadRequest, "a request is an object")));
        }
        let id = written.id;
        if !id.is_none_or(is_short) {
            let reason = format_args!("an id has at most {ID_BYTES_MAX} bytes");
            return Err((None, Error::new(Code::BadRequest, reason)));
        }
        written.understand().map_err(|error| (id, error))
    }
}

/// Serde takes the values of the fields in their order for a structure, too. In JSON nothing but an
/// array begins so.
fn is_array(text: &str) -> bool {
    text.trim_ascii_start().starts_with('[')
}

/// An answer holds the id again, and has to fit between others.
fn is_short(id: &RawValue) -> bool {
    id.get().len() <= ID_BYTES_MAX
}

/// More than anybody needs to know a request by.
const ID_BYTES_MAX: usize = 1024;

/// Reasons quote what was found in the place of something else, which may be most of a message.
const REASON_CHARS_MAX: usize = 200;

impl<'a> Written<'a> {
    fn understand(self) -> Result<Request<'a>, Error> {
        let Self { name, id, topic, data, encoding, key } = self;
        let missing = |what| Error::new(Code::BadRequest, format_args!("there is no {what:?}"));
        let job = match &*name {
            "subscribe" => Job::Subscribe,
            "unsubscribe" => Job::Unsubscribe,
            "publish" => {
                let Text(data) = data.ok_or_else(|| missing("data"))?;
                Job::Publish { data: Payload::decode(data, encoding.as_deref())?, key }
            }
            _ => {
                let reason = "the types are subscribe, unsubscribe and publish";
                return Err(Error::new(Code::UnknownType, reason));
            }
        };
        let Text(topic) = topic.ok_or_else(|| missing("topic"))?;
        Ok(Request { id, topic, job })
    }
}

impl<'a> Payload<'a> {
    fn decode(data: Cow<'a, str>, encoding: Option<&str>) -> Result<Self, Error> {
        match encoding {
            None => Ok(Self::Text(data)),
            Some(IN_BASE64) => match BASE64.decode(&*data) {
                Ok(bytes) => Ok(Self::Binary(bytes)),
                Err(error) => Err(Error::new(Code::BadData, error)),
            },
            Some(_) => Err(Error::new(Code::BadData, "the encoding is base64 or there is none")),
        }
    }

    pub fn as_message(&self) -> Message<'_> {
        match self {
            Self::Text(text) => Message::Text(text),
            Self::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

impl Error {
    pub fn new(code: Code, reason: impl fmt::Display) -> Self {
        let mut reason = reason.to_string();
        if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
            reason.truncate(end);
            reason.push('…');
        }
        Self { code, reason }
    }
}

impl<'a> Answer<'a> {
    pub fn error(id: Option<&'a RawValue>, error: &'a Error) -> Self {
        Self::Error { id, code: error.code, reason: &error.reason }
    }

    /// A message of a topic, in its envelope.
    pub fn message(topic: &'a str, message: Message<'a>) -> Self {
        let (data, encoding) = match message {
            Message::Text(text) => (Cow::Borrowed(text), None),
            Message::Binary(bytes) => (BASE64.encode(bytes).into(), Some(IN_BASE64)),
        };
        Self::Message { topic, data, encoding }
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names and texts alone")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (Option<String>, Code) {
        let (id, error) = Request::parse(text).expect_err("it is wrong");
        (id.map(ToString::to_string), error.code)
    }

    #[test]
    fn request_is_what_it_says() {
        let request = Request::parse(
            r#"{"type":"publish","topic":"a\u002fb","id":{"x":[1]},"data":"\"é\"","key":"k","more":[]}"#,
        );
        let Ok(Request { id: Some(id), topic, job: Job::Publish { data, key } }) = request else {
            panic!("{request:?}")
        };
        assert_eq!((id.get(), &*topic, key.as_deref()), (r#"{"x":[1]}"#, "a/b", Some("k")));
        assert_eq!(data.as_message(), Message::Text("\"é\""));
        let request = Request::parse(
            r#"{"type":"publish","topic":"a","data":"AP8=","encoding":"base64","id":null}"#,
        );
        let Ok(Request { id: None, job: Job::Publish { data, key: None }, .. }) = request else {
            panic!("{request:?}")
        };
        assert_eq!(data.as_message(), Message::Binary(&[0, 255]));
    }

    #[test]
    fn what_is_no_request_has_a_code_and_its_id_as_far_as_that_is_known() {
        for (text, id, code) in [
            ("", None, Code::BadJson),
            (r#"{"type":"subscribe","id":1,"topic":"a""#, None, Code::BadJson),
            (r#"{"type":"subscribe","id":1,"topic":"a"}x"#, None, Code::BadJson),
            ("[]", None, Code::BadRequest),
            ("7", None, Code::BadRequest),
            (r#"{"id":1}"#, Some("1"), Code::BadRequest),
            (r#"{"type":"subscribe","id":"x","topic":7}"#, Some("\"x\""), Code::BadRequest),
            (r#"{"type":"subscribe","id":1}"#, Some("1"), Code::BadRequest),
            (r#"{"type":"publish","id":1,"topic":"a"}"#, Some("1"), Code::BadRequest),
            (r#"{"type":"publish","id":1,"data":"a"}"#, Some("1"), Code::BadRequest),
            (r#"{"type":"Subscribe","id":1}"#, Some("1"), Code::UnknownType),
            (
                r#"{"type":"publish","id":1,"topic":"a","data":"a","encoding":"hex"}"#,
                Some("1"),
                Code::BadData,
            ),
            (
                r#"{"type":"publish","id":1,"topic":"a","data":"a","encoding":"base64"}"#,
                Some("1"),
                Code::BadData,
            ),
        ] {
            assert_eq!(refused(text), (id.map(str::to_owned), code), "{text}");
        }
        // What JSON allows and no text is, numbers that no number is, and what is said twice.
        for (text, id, code) in [
            (r#"{"type":"subscribe","id":null,"topic":"\ud800"}"#, None, Code::BadJson),
            (r#"{"type":"subscribe","id":1,"topic":"\udc00\ud800"}"#, Some("1"), Code::BadJson),
            (r#"{"type":1e999999,"id":1}"#, Some("1"), Code::BadJson),
            (r#"{"type":99999999999999999999999999,"id":1}"#, Some("1"), Code::BadRequest),
            (r#"{"type":"ping","id":-1e999999}"#, Some("-1e999999"), Code::UnknownType),
            (r#"{"type":"ping","id":"\ud800"}"#, Some(r#""\ud800""#), Code::UnknownType),
            (r#"{"type":"ping","type":"ping","id":1}"#, Some("1"), Code::BadRequest),
            (r#"{"type":"ping","id":1,"id":1}"#, None, Code::BadRequest),
            ("\u{feff}{}", None, Code::BadJson),
            // No object, though the values stand in the order of the fields.
            (r#" ["subscribe",1,"a",null,null,null]"#, None, Code::BadRequest),
            (r#"["ping",1]"#, None, Code::BadRequest),
            (r#"[1]"#, None, Code::BadRequest),
        ] {
            assert_eq!(refused(text), (id.map(str::to_owned), code), "{text}");
        }
        // As deep as a stack could not go.
        assert_eq!(refused(&"[".repeat(100_000)).1, Code::BadRequest);
        let deep = format!(r#"{{"id":{}"#, "[".repeat(100_000));
        assert_eq!(refused(&deep).1, Code::BadJson);
    }

    #[test]
    fn answer_is_short_whatever_the_request_says() {
        let long = "é".repeat(100_000);
        for (request, id, code) in [
            (format!(r#""{long}""#), None, Code::BadRequest),
            (format!(r#"{{"type":"ping","id":1,"key":["{long}"]}}"#), Some(1), Code::BadRequest),
            (format!(r#"{{"type":"subscribe","id":1,"{long}":7}}"#), Some(1), Code::BadRequest),
            (
                format!(r#"{{"type":"subscribe","topic":"a","id":"{long}"}}"#),
                None,
                Code::BadRequest,
            ),
            (format!(r#"{{"type":7,"topic":"a","id":"{long}"}}"#), None, Code::BadRequest),
        ] {
            let (found, error) = Request::parse(&request).expect_err("it is wrong");
            assert_eq!(
                (found.map(ToString::to_string), error.code),
                (id.map(|id: u8| id.to_string()), code)
            );
            assert!(Answer::error(found, &error).to_json().len() < 1000);
        }
        let longest = format!(
            r#"{{"type":"subscribe","topic":"a","id":"{}"}}"#,
            "x".repeat(ID_BYTES_MAX - 2)
        );
        assert!(Request::parse(&longest).is_ok());
        assert!(Request::parse(&longest.replacen("\"x", "\"xx", 1)).is_err());
    }

    #[test]
    fn answers_are_what_is_documented() {
        let id = serde_json::from_str("1").expect("a number");
        for (answer, json) in [
            (Answer::Ack { id, topic: "a/b" }, r#"{"type":"ack","id":1,"topic":"a/b"}"#),
            (
                Answer::error(Some(id), &Error::new(Code::TooManySubscriptions, "so")),
                r#"{"type":"error","id":1,"code":"too-many-subscriptions","reason":"so"}"#,
            ),
            (
                Answer::error(None, &Error::new(Code::NotText, "so")),
                r#"{"type":"error","code":"not-text","reason":"so"}"#,
            ),
            (
                Answer::message("a", Message::Text("\"é\"\n")),
                r#"{"type":"message","topic":"a","data":"\"é\"\n"}"#,
            ),
            (
                Answer::message("a", Message::Binary(&[0, 255])),
                r#"{"type":"message","topic":"a","data":"AP8=","encoding":"base64"}"#,
            ),
            (Answer::Dropped { messages: 7 }, r#"{"type":"dropped","messages":7}"#),
        ] {
            assert_eq!(answer.to_json(), json);
        }
    }
}
