//! Topics: connections that subscribe, that publish, and that do both by requests.
//!
//! A message is published twice: as it is, for those of `/sub/TOPIC`, and in an envelope that names
//! its topic, for those of `/topics`. The second goes to another topic, that of the name behind
//! [`ENVELOPED`], so that each form is encoded once whoever gets it. Names that begin with `$` are
//! ours: wildcards do not match them in front (MQTT 5.0 §4.7.2).

use std::hash::{BuildHasher, RandomState};

use corewire::{
    CloseCode, Context, Dropped, LoopLimits, Message, NameError, PreparedMessage, PublishError,
    Response, SubscribeError, TopicLimits,
};

use super::requests::{Answer, Code, Error, Job, Request};
use crate::settings::Service;

/// What a connection is for.
#[derive(Debug, Default)]
pub enum Role {
    #[default]
    Echo,
    /// Gets all of one topic or filter.
    Subscriber { topic: Box<str> },
    /// Publishes all that it sends to one topic.
    Publisher { topic: Box<str> },
    /// Says by requests what it wants.
    Speaker {
        /// Messages that it has missed and not been told of.
        dropped: u64,
    },
}

/// Makes numbers of the keys by which messages conflate, the same on all loops.
pub type Keys = RandomState;

/// In front of the names to which messages are published in envelopes.
const ENVELOPED: &str = "$json/";

/// What the names of clients are held to: the loops' bounds, without what we put in front.
fn names() -> TopicLimits {
    TopicLimits::default()
}

/// Makes room for what we put in front of names.
pub fn widen(limits: &mut LoopLimits) {
    limits.topics.name_bytes_max = names().name_bytes_max + ENVELOPED.len() as u16;
    limits.topics.levels_max = names().levels_max + 1;
}

impl Role {
    /// Of a connection that comes to `service`; `topic` is what its path says behind it.
    ///
    /// # Errors
    /// The answer to a name that is none.
    pub fn new(service: Service, topic: Option<&str>) -> Result<Self, Response> {
        let topic = topic.unwrap_or_default();
        let checked = |check: fn(&str) -> Result<(), Error>| match check(topic) {
            Ok(()) => Ok(topic.into()),
            Err(error) => Err(refusal(error.reason)),
        };
        Ok(match service {
            Service::Echo => Self::Echo,
            Service::Subscribe => Self::Subscriber { topic: checked(check_pattern)? },
            Service::Publish => Self::Publisher { topic: checked(check_name)? },
            Service::Topics => Self::Speaker { dropped: 0 },
        })
    }
}

fn refusal(reason: String) -> Response {
    let response = Response::new(400)
        .and_then(|it| it.header("Content-Type", "text/plain; charset=utf-8"))
        .expect("a legal status and header");
    response.body((reason + "\n").into_bytes())
}

fn check_name(name: &str) -> Result<(), Error> {
    check(name, names().check_name(name))
}

fn check_pattern(pattern: &str) -> Result<(), Error> {
    check(pattern, names().check_pattern(pattern))
}

fn check(text: &str, checked: Result<(), NameError>) -> Result<(), Error> {
    checked?;
    match text.starts_with('$') {
        true => Err(Error::new(Code::BadTopic, "names that begin with $ are reserved")),
        false => Ok(()),
    }
}

/// The connection has opened: whoever came for a topic gets it from now on.
pub fn open(ctx: &mut Context<'_, Role>) {
    let Role::Subscriber { topic } = ctx.data() else { return };
    let topic = topic.clone();
    if let Err(error) = ctx.here().subscribe(&topic) {
        // The name was checked with the request, so it is for want of room.
        close(ctx, CloseCode::TRY_AGAIN_LATER, &error.to_string());
    }
}

/// A message has come from a connection that is no echo's.
pub fn take(ctx: &mut Context<'_, Role>, message: Message<'_>, keys: &Keys) {
    match ctx.data() {
        Role::Echo => {}
        Role::Subscriber { .. } => {
            let reason = "nothing is taken here: publish at /pub/TOPIC or /topics";
            close(ctx, CloseCode::UNSUPPORTED_DATA, reason);
        }
        Role::Publisher { topic } => {
            let topic = topic.clone();
            if let Err(error) = publish(ctx, &topic, None, message) {
                answer(ctx, &Answer::error(None, &error));
            }
        }
        Role::Speaker { .. } => serve(ctx, message, keys),
    }
}

fn serve(ctx: &mut Context<'_, Role>, message: Message<'_>, keys: &Keys) {
    let Message::Text(text) = message else {
        let error = Error::new(Code::NotText, "requests are text messages");
        return answer(ctx, &Answer::error(None, &error));
    };
    let Request { id, topic, job } = match Request::parse(text) {
        Ok(request) => request,
        Err((id, error)) => return answer(ctx, &Answer::error(id, &error)),
    };
    let done = match &job {
        Job::Subscribe => check_pattern(&topic)
            .and_then(|()| Ok(ctx.here().subscribe(&format!("{ENVELOPED}{topic}")).map(|_| ())?)),
        Job::Unsubscribe => check_pattern(&topic).map(|()| {
            ctx.here().unsubscribe(&format!("{ENVELOPED}{topic}"));
        }),
        Job::Publish { data, key } => {
            let key = key.as_ref().map(|key| keys.hash_one(key));
            publish(ctx, &topic, key, data.as_message())
        }
    };
    match (done, id) {
        (Err(error), id) => answer(ctx, &Answer::error(id, &error)),
        (Ok(()), Some(id)) => answer(ctx, &Answer::Ack { id, topic: &topic }),
        // Who gives no id wants to hear of failures alone.
        (Ok(()), None) => {}
    }
}

fn publish(
    ctx: &mut Context<'_, Role>,
    topic: &str,
    key: Option<u64>,
    message: Message<'_>,
) -> Result<(), Error> {
    check_name(topic)?;
    let bare = match message {
        Message::Text(text) => PreparedMessage::text(text),
        Message::Binary(bytes) => PreparedMessage::binary(bytes),
    };
    let enveloped = PreparedMessage::text(&Answer::message(topic, message).to_json());
    // Other loops are congested for the rest of a turn or not at all: both go out or none.
    for (name, message) in [(topic, &bare), (&format!("{ENVELOPED}{topic}"), &enveloped)] {
        ctx.publish_keyed(name, key.unwrap_or_default(), message)?;
    }
    Ok(())
}

/// Messages were not sent to the connection because it is too slow.
pub fn note_dropped(ctx: &mut Context<'_, Role>, dropped: &Dropped) {
    let Role::Speaker { dropped: count } = ctx.data() else { return };
    *count += dropped.skipped + dropped.displaced;
    // Only of what the kernel has refused is it sure to be told that there is room again.
    if ctx.here().flush() == 0 {
        tell_dropped(ctx);
    }
}

/// There is room again, for a word about what was missed too.
pub fn tell_dropped(ctx: &mut Context<'_, Role>) {
    if let Role::Speaker { dropped } = ctx.data()
        && *dropped > 0
    {
        let messages = std::mem::take(dropped);
        answer(ctx, &Answer::Dropped { messages });
    }
}

fn answer(ctx: &mut Context<'_, Role>, answer: &Answer<'_>) {
    // Who does not read its answers is closed by the engine.
    let _ = ctx.send_text(&answer.to_json());
}

fn close(ctx: &mut Context<'_, Role>, code: CloseCode, reason: &str) {
    ctx.close(code, reason).expect("a legal code and a short reason");
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::new(Code::BadTopic, error)
    }
}

impl From<SubscribeError> for Error {
    fn from(error: SubscribeError) -> Self {
        let code = match error {
            SubscribeError::Pattern(_) => Code::BadTopic,
            SubscribeError::TooManyOfConnection => Code::TooManySubscriptions,
            _ => Code::Full,
        };
        Self::new(code, error)
    }
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        let code = match error {
            PublishError::Name(_) => Code::BadTopic,
            _ => Code::Congested,
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_engine_have_their_codes() {
        let code = |error: Error| error.code;
        assert_eq!(code(NameError::Nul.into()), Code::BadTopic);
        assert_eq!(code(SubscribeError::Pattern(NameError::Nul).into()), Code::BadTopic);
        assert_eq!(code(SubscribeError::TooManyOfConnection.into()), Code::TooManySubscriptions);
        assert_eq!(code(SubscribeError::TooManySubscriptions.into()), Code::Full);
        assert_eq!(code(SubscribeError::TooManyTopics.into()), Code::Full);
        assert_eq!(code(PublishError::Name(NameError::Nul).into()), Code::BadTopic);
        assert_eq!(code(PublishError::Congested.into()), Code::Congested);
    }

    #[test]
    fn longest_names_of_clients_fit_with_what_is_put_in_front() {
        let mut limits = LoopLimits::default();
        widen(&mut limits);
        let longest = format!("{}/{}", "+/".repeat(6) + "a", "x".repeat(242));
        assert_eq!(longest.len(), usize::from(names().name_bytes_max));
        for (name, is_good) in [(longest.clone(), true), (longest + "x", false)] {
            assert_eq!(check_pattern(&name).is_ok(), is_good);
            let enveloped = format!("{ENVELOPED}{name}");
            assert_eq!(limits.topics.check_pattern(&enveloped).is_ok(), is_good);
        }
        assert!(check_pattern(&"a/".repeat(7)).is_ok());
        assert!(check_pattern(&"a/".repeat(8)).is_err());
    }
}
