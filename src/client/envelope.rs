//! Several JSON messages in one text message, and out of it again.
//!
//! ```json
//! {"type":"batch","batch_size":2,"messages":[{"id":1},"two"]}
//! ```

use std::error::Error;
use std::fmt;
use std::io::Write;

use super::json::{JsonError, Scanner, spells, whole};
use crate::wire::{Opcode, validate_whole};

/// An envelope that arrived: the messages are lent from its text, each as it stands there.
///
/// Writers differ in white space, in the order of members and in escapes; none of it matters. Members
/// that an envelope does not have are skipped. We choose to refuse a member that it has twice, of
/// which some readers take the first and some the last, and a `batch_size` that is not the number of
/// messages in plain digits.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    count: usize,
    /// Behind the bracket that opens the array.
    elements: Scanner<'a>,
}

impl<'a> Envelope<'a> {
    /// Takes an envelope apart. `None` is an ordinary message: no JSON, no object, or one whose
    /// `type` is not `"batch"`. The text is read once, and once more by who reads the messages.
    ///
    /// # Errors
    /// It says that it is an envelope and is not one, or ends in the middle.
    pub fn decode(text: &'a str) -> Result<Option<Self>, EnvelopeError> {
        let mut scanner = Scanner::new(text);
        if !scanner.takes(b'{') {
            return Ok(None);
        }
        let mut members = Members::default();
        let end = members.read(&mut scanner);
        match members.is_batch {
            Some(true) => {
                end?;
                members.envelope().map(Some)
            }
            Some(false) | None => Ok(None),
        }
    }

    /// How many messages are in it.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none. Nobody sends such an envelope, but it is one.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The messages in order: JSON texts without white space around them.
    pub fn messages(&self) -> EnvelopeMessages<'a> {
        EnvelopeMessages { left: self.count, elements: self.elements.clone() }
    }
}

/// The messages of an [`Envelope`].
#[derive(Clone, Debug)]
pub struct EnvelopeMessages<'a> {
    left: usize,
    elements: Scanner<'a>,
}

impl<'a> Iterator for EnvelopeMessages<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let element = self.elements.value().ok()?;
        self.elements.takes(b',');
        Some(element)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for EnvelopeMessages<'_> {}

/// Writes an envelope of these messages, each of which [`payload`] has let pass, behind what `out`
/// holds.
pub fn encode<'m>(messages: impl ExactSizeIterator<Item = &'m [u8]>, out: &mut Vec<u8>) {
    // A vector takes whatever is written to it.
    let _ = write!(out, "{{\"type\":\"batch\",\"batch_size\":{},\"messages\":[", messages.len());
    for (index, message) in messages.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(message);
    }
    out.extend_from_slice(b"]}");
}

/// What of a message goes into an envelope: its one JSON value, without white space around it.
///
/// # Errors
/// It cannot stand in an envelope.
pub fn payload(opcode: Opcode, payload: &[u8]) -> Result<&[u8], PayloadError> {
    if opcode != Opcode::Text {
        return Err(PayloadError::NotText);
    }
    let text = validate_whole(payload).map_err(|_| PayloadError::InvalidUtf8)?;
    whole(text).map(str::as_bytes).map_err(PayloadError::NotJson)
}

/// What was read so far. Which text is an envelope is known when its `type` is; until then nothing
/// that is wrong with the other members matters.
#[derive(Default)]
struct Members<'a> {
    is_batch: Option<bool>,
    batch_size: Option<&'a str>,
    messages: Option<Envelope<'a>>,
    /// The first thing that is wrong.
    fault: Option<EnvelopeError>,
}

impl<'a> Members<'a> {
    /// From behind the bracket to the end of the text, or to a `type` of something else.
    fn read(&mut self, scanner: &mut Scanner<'a>) -> Result<(), JsonError> {
        if scanner.takes(b'}') {
            return scanner.expect_end();
        }
        loop {
            let member = EnvelopeMember::named(scanner.name()?);
            if let Some(member) = member.filter(|member| self.has(*member)) {
                self.fault = self.fault.or(Some(EnvelopeError::Repeated(member)));
            }
            match member {
                Some(EnvelopeMember::Type) => {
                    let value = scanner.value()?;
                    let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                    let is_batch = inside.is_some_and(|value| spells(value, "batch"));
                    if !*self.is_batch.get_or_insert(is_batch) {
                        return Ok(());
                    }
                }
                Some(EnvelopeMember::BatchSize) => self.batch_size = Some(scanner.value()?),
                Some(EnvelopeMember::Messages) => self.messages = self.elements(scanner)?,
                None => {
                    scanner.value()?;
                }
            }
            if !scanner.takes(b',') {
                scanner.expect(b'}')?;
                return scanner.expect_end();
            }
        }
    }

    fn has(&self, member: EnvelopeMember) -> bool {
        match member {
            EnvelopeMember::Type => self.is_batch.is_some(),
            EnvelopeMember::BatchSize => self.batch_size.is_some(),
            EnvelopeMember::Messages => self.messages.is_some(),
        }
    }

    /// Each message may be nested as deep as if it stood alone.
    fn elements(&mut self, scanner: &mut Scanner<'a>) -> Result<Option<Envelope<'a>>, JsonError> {
        if !scanner.takes(b'[') {
            scanner.value()?;
            self.fault = self.fault.or(Some(EnvelopeError::NotAnArray));
            return Ok(None);
        }
        let mut envelope = Envelope { count: 0, elements: scanner.clone() };
        if !scanner.takes(b']') {
            loop {
                scanner.value()?;
                envelope.count += 1;
                if !scanner.takes(b',') {
                    break;
                }
            }
            scanner.expect(b']')?;
        }
        Ok(Some(envelope))
    }

    fn envelope(self) -> Result<Envelope<'a>, EnvelopeError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let missing = EnvelopeError::Missing;
        let batch_size = self.batch_size.ok_or(missing(EnvelopeMember::BatchSize))?;
        let envelope = self.messages.ok_or(missing(EnvelopeMember::Messages))?;
        // JSON has no leading zeros and no plus sign, so this leaves one way to write a number.
        let says = batch_size.parse().map_err(|_| EnvelopeError::NotASize)?;
        if envelope.count != says {
            return Err(EnvelopeError::WrongSize { says, has: envelope.count });
        }
        Ok(envelope)
    }
}

/// A member of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeMember {
    /// `"type":"batch"`.
    Type,
    /// `"batch_size"`, a number.
    BatchSize,
    /// `"messages"`, an array.
    Messages,
}

impl EnvelopeMember {
    const ALL: [Self; 3] = [Self::Type, Self::BatchSize, Self::Messages];

    const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::BatchSize => "batch_size",
            Self::Messages => "messages",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|member| spells(name, member.name()))
    }
}

/// The peer sent an envelope that is none. None of its messages counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Behind its `type` the text is no JSON, or too deep.
    Json(JsonError),
    /// A member stands there twice.
    Repeated(EnvelopeMember),
    /// A member is not there.
    Missing(EnvelopeMember),
    /// `batch_size` is not a number of messages, or not in plain digits.
    NotASize,
    /// `messages` is not an array.
    NotAnArray,
    /// `batch_size` is another number than that of the messages.
    WrongSize {
        /// The number that it says.
        says: usize,
        /// The number of messages there are.
        has: usize,
    },
}

impl From<JsonError> for EnvelopeError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "an envelope is broken: {error}"),
            Self::Repeated(member) => write!(f, "an envelope has `{}` twice", member.name()),
            Self::Missing(member) => write!(f, "an envelope has no `{}`", member.name()),
            Self::NotASize => f.write_str("the `batch_size` of an envelope is not a size"),
            Self::NotAnArray => f.write_str("the `messages` of an envelope are not an array"),
            Self::WrongSize { says, has } => {
                write!(f, "an envelope says that it has {says} messages and has {has}")
            }
        }
    }
}

impl Error for EnvelopeError {}

/// The message cannot stand in an envelope; the caller has it still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadError {
    /// It is no text message.
    NotText,
    /// It is not UTF-8.
    InvalidUtf8,
    /// It is not one JSON value.
    NotJson(JsonError),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => f.write_str("only text messages stand in an envelope"),
            Self::InvalidUtf8 => f.write_str("a message for an envelope is not UTF-8"),
            Self::NotJson(error) => write!(f, "a message for an envelope is not JSON: {error}"),
        }
    }
}

impl Error for PayloadError {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;
    use crate::limits::JSON_DEPTH_MAX;

    fn decoded(text: &str) -> Result<Option<Vec<&str>>, EnvelopeError> {
        Ok(Envelope::decode(text)?.map(|envelope| {
            let messages: Vec<_> = envelope.messages().collect();
            assert_eq!(messages.len(), envelope.len());
            messages
        }))
    }

    fn encoded(messages: &[&str]) -> String {
        let mut out = Vec::new();
        encode(messages.iter().map(|message| message.as_bytes()), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn envelope_is_written_without_white_space() {
        let text = r#"{"type":"batch","batch_size":2,"messages":[{"id": 1},"two"]}"#;
        assert_eq!(encoded(&[r#"{"id": 1}"#, r#""two""#]), text);
        assert_eq!(decoded(text), Ok(Some(vec![r#"{"id": 1}"#, r#""two""#])));
        assert_eq!(encoded(&[]), r#"{"type":"batch","batch_size":0,"messages":[]}"#);
        assert_eq!(decoded(&encoded(&[])), Ok(Some(vec![])));
    }

    #[test]
    fn order_white_space_escapes_and_other_members_do_not_matter() {
        for text in [
            r#" { "messages" : [ 1 , [ ] ] , "batch_size" : 2 , "type" : "batch" } "#,
            r#"{"batch_size":2,"id":[{}],"type":"\u0062atch","messages":[1,[]],"messages2":0}"#,
            r#"{"\u0074ype":"batch","b\u0061tch_size":2,"messages":[1,[ ]]}"#,
            "\t{\r\n\"messages\":[1\n,[]\n],\"type\":\"batch\",\"batch_size\":2}\n",
        ] {
            let messages = decoded(text).unwrap().unwrap();
            assert_eq!((messages[0], &messages[1][..1], messages.len()), ("1", "[", 2), "{text}");
        }
    }

    #[test]
    fn what_does_not_say_that_it_is_an_envelope_is_an_ordinary_message() {
        for text in [
            "",
            "hello",
            "[]",
            "{",
            "{}",
            "{}}",
            "{\"type\"}",
            r#""type":"batch""#,
            r#"{"type":"chat","batch_size":1,"messages":[]}"#,
            r#"{"type":["batch"],"batch_size":0,"messages":[]}"#,
            r#"{"type":"Batch","batch_size":0,"messages":[]}"#,
            r#"{"type":"chat","type":"batch","batch_size":0,"messages":[]}"#,
            r#"{"batch_size":0,"messages":[]}"#,
            r#"{"messages":0,"messages":1,"batch_size":"x"}"#,
            r#"{"messages":[1,],"type":"batch","batch_size":2}"#,
            r#"[{"type":"batch","batch_size":0,"messages":[]}]"#,
        ] {
            assert_eq!(decoded(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn envelope_that_is_none_is_refused_by_its_fault() {
        use EnvelopeError::{Json, Missing, NotASize, NotAnArray, Repeated, WrongSize};
        use EnvelopeMember::{BatchSize, Messages, Type};
        let malformed = |at| Json(JsonError::Malformed { at });
        for (text, error) in [
            (r#"{"type":"batch""#, malformed(15)),
            (r#"{"type":"batch","batch_size":1,"messages":[NaN]}"#, malformed(43)),
            (r#"{"type":"batch","batch_size":1,"messages":[1,]}"#, malformed(45)),
            (r#"{"type":"batch","batch_size":0,"messages":[]}x"#, malformed(45)),
            (r#"{"type":"batch","batch_size":0,"messages":[],}"#, malformed(45)),
            (r#"{"type":"batch","batch_size":01,"messages":[1]}"#, malformed(30)),
            (r#"{"type":"batch","messages":[]}"#, Missing(BatchSize)),
            (r#"{"type":"batch","batch_size":0}"#, Missing(Messages)),
            (r#"{"type":"batch","type":"batch","batch_size":0,"messages":[]}"#, Repeated(Type)),
            (r#"{"type":"batch","type":"chat","batch_size":0,"messages":[]}"#, Repeated(Type)),
            (
                r#"{"batch_size":0,"batch_size":0,"messages":[],"type":"batch"}"#,
                Repeated(BatchSize),
            ),
            (r#"{"type":"batch","messages":[],"batch_size":0,"messages":[]}"#, Repeated(Messages)),
            (r#"{"type":"batch","batch_size":0,"messages":{}}"#, NotAnArray),
            (r#"{"messages":null,"batch_size":0,"type":"batch"}"#, NotAnArray),
            (r#"{"type":"batch","batch_size":-0,"messages":[]}"#, NotASize),
            (r#"{"type":"batch","batch_size":1.0,"messages":[1]}"#, NotASize),
            (r#"{"type":"batch","batch_size":1e0,"messages":[1]}"#, NotASize),
            (r#"{"type":"batch","batch_size":"1","messages":[1]}"#, NotASize),
            (r#"{"type":"batch","batch_size":99999999999999999999,"messages":[1]}"#, NotASize),
            (r#"{"type":"batch","batch_size":2,"messages":[1]}"#, WrongSize { says: 2, has: 1 }),
            (r#"{"type":"batch","batch_size":0,"messages":[1]}"#, WrongSize { says: 0, has: 1 }),
        ] {
            assert_eq!(decoded(text), Err(error), "{text}");
        }
    }

    #[test]
    fn message_in_an_envelope_is_nested_as_deep_as_alone() {
        let most = JSON_DEPTH_MAX as usize;
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let message = nested(most);
        assert_eq!(payload(Opcode::Text, message.as_bytes()), Ok(message.as_bytes()));
        assert_eq!(decoded(&encoded(&[&message])), Ok(Some(vec![&message[..]])));
        let text = encoded(&[&nested(most + 1)]);
        let error = EnvelopeError::Json(JsonError::TooDeep { at: 43 + most });
        assert_eq!(decoded(&text), Err(error));
    }

    #[test]
    fn only_one_json_value_in_a_text_message_goes_into_an_envelope() {
        assert_eq!(payload(Opcode::Text, b" {\"a\": 1}\n"), Ok(&b"{\"a\": 1}"[..]));
        assert_eq!(payload(Opcode::Binary, b"1"), Err(PayloadError::NotText));
        assert_eq!(payload(Opcode::Ping, b"1"), Err(PayloadError::NotText));
        assert_eq!(payload(Opcode::Text, b"\"\xff\""), Err(PayloadError::InvalidUtf8));
        for (text, at) in [("", 0), ("hello", 0), ("1,2", 1), ("1],[2", 1), ("NaN", 0)] {
            let error = PayloadError::NotJson(JsonError::Malformed { at });
            assert_eq!(payload(Opcode::Text, text.as_bytes()), Err(error), "{text}");
        }
    }

    /// What Python's json and JavaScript's JSON write for these messages, in every way they have;
    /// `tests/envelopes` has the programs.
    #[test]
    fn envelopes_of_foreign_writers_are_taken_apart() {
        let messages = json!([
            1, -0.5, 1e30, "h\u{e9}llo\n\"\\/", "\u{1f600}", "\u{2028}\u{7f}", null, true, {}, [],
            {"a": [1, {"b": null}]}, {"type": "batch", "batch_size": 1, "messages": [0]},
        ]);
        for written in [
            include_str!("../../tests/envelopes/python.txt"),
            include_str!("../../tests/envelopes/node.txt"),
        ] {
            let ways: Vec<_> = written.split("\n---\n").collect();
            assert!(ways.len() >= 3);
            for text in ways {
                let envelope = decoded(text).unwrap().unwrap();
                let values: Vec<Value> =
                    envelope.iter().map(|message| serde_json::from_str(message).unwrap()).collect();
                assert_eq!(Value::from(values), messages, "{text}");
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            // serde_json reads most others not to the last bit.
            any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
            any::<String>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z_]{0,8}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// What serde_json makes of an envelope. It keeps the last of a member that is there twice.
    fn oracle(text: &str) -> Option<Vec<String>> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
        let kind: String = serde_json::from_str(members.get("type")?.get()).ok()?;
        let size: usize = serde_json::from_str(members.get("batch_size")?.get()).ok()?;
        let messages: Vec<&RawValue> = serde_json::from_str(members.get("messages")?.get()).ok()?;
        let messages: Vec<_> = messages.iter().map(|message| message.get().to_owned()).collect();
        (kind == "batch" && size == messages.len()).then_some(messages)
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_what_a_foreign_reader_reads(
            values in prop::collection::vec(value(), 0..20),
        ) {
            let texts: Vec<_> = values.iter().map(Value::to_string).collect();
            let texts: Vec<_> = texts.iter().map(|text| &text[..]).collect();
            for text in &texts {
                prop_assert_eq!(payload(Opcode::Text, text.as_bytes()), Ok(text.as_bytes()));
            }
            let envelope = encoded(&texts);
            prop_assert_eq!(decoded(&envelope), Ok(Some(texts)));
            let read: Value = serde_json::from_str(&envelope).unwrap();
            let count = values.len();
            let expected = json!({"type": "batch", "batch_size": count, "messages": values});
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn what_a_foreign_writer_writes_is_decoded_and_damage_is_as_the_oracle_says(
            values in prop::collection::vec(value(), 0..8),
            members in Just(["type", "batch_size", "messages"]).prop_shuffle(),
            is_pretty in any::<bool>(),
            at in any::<prop::sample::Index>(),
            byte in prop::sample::select(&b"{}[]:,\" 01.eu"[..]),
        ) {
            let written = |value: &Value| match is_pretty {
                true => serde_json::to_string_pretty(value).unwrap(),
                false => value.to_string(),
            };
            let texts: Vec<_> = values.iter().map(&written).collect();
            let text = members.map(|name| match name {
                "type" => r#""type":"batch""#.to_owned(),
                "batch_size" => format!("\"batch_size\": {}", values.len()),
                _ => format!("\"messages\" :[{}]", texts.join(" ,\n")),
            });
            let text = format!("{{{}}}", text.join(" , "));
            prop_assert_eq!(decoded(&text), Ok(Some(texts.iter().map(|text| &text[..]).collect())));
            prop_assert_eq!(oracle(&text), Some(texts));
            let mut damaged = text.into_bytes();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            if let Ok(damaged) = String::from_utf8(damaged) {
                let ours = decoded(&damaged).ok().flatten();
                let expected = oracle(&damaged);
                let expected = expected.as_ref().map(|messages| {
                    messages.iter().map(|message| &message[..]).collect()
                });
                prop_assert_eq!(ours, expected, "{}", damaged);
            }
        }
    }
}
