//! The same bytes in any pieces give the same events and the same answers, for good and bad input,
//! in both roles, assembled and streamed.

#[cfg(feature = "deflate")]
#[path = "split_invariance/compressed.rs"]
mod compressed;
mod support;

use corewire::{Config, Delivery, Event, Role, SendOutcome, Transmit};
use proptest::collection::vec;
use proptest::prelude::*;
use support::endpoint::{Endpoint, KEY, Seen};
use support::naive::{self, CLOSE, CONTINUATION, Frame, LengthForm, PING, PONG};

/// What arrives: mostly right, at times wrong in one of the ways there are.
fn wire(role: Role) -> impl Strategy<Value = Vec<u8>> {
    vec(any_frames(), 0..12).prop_map(move |frames| {
        let frames = frames.into_iter().flatten();
        frames.flat_map(|frame| encode(role, &frame)).collect()
    })
}

/// A frame, and in which form its length stands.
type Formed = (Frame, Option<LengthForm>);

fn encode(role: Role, (frame, form): &Formed) -> Vec<u8> {
    let mut frame = frame.clone();
    if role == Role::Server {
        // A frame that already has a key is one that lacks it on this side.
        frame.key = if frame.key.is_none() { Some(KEY) } else { None };
    }
    form.map_or_else(|| frame.encode(), |form| frame.encode_as(form))
}

/// Frames that belong together: a message in one or more fragments, with controls in between.
fn any_frames() -> impl Strategy<Value = Vec<Formed>> {
    prop_oneof![
        8 => message(),
        3 => control().prop_map(|frame| vec![(frame, None)]),
        1 => close().prop_map(|frame| vec![(frame, None)]),
        2 => wrong().prop_map(|frame| vec![frame]),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => "[a-zé€𝄞]{0,40}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..8),
        1 => ("[é€𝄞]{1,9}", 1..4_usize).prop_map(|(text, cut)| {
            let mut text = text.into_bytes();
            text.truncate(text.len().saturating_sub(cut));
            text
        }),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => vec(any::<u8>(), 0..60),
        1 => (124..130_usize).prop_map(|bytes| vec![b'x'; bytes]),
        1 => (990..1010_usize).prop_map(|bytes| vec![b'x'; bytes]),
    ]
}

fn message() -> impl Strategy<Value = Vec<Formed>> {
    let whole = prop_oneof![text().prop_map(Frame::text), payload().prop_map(Frame::binary)];
    (whole, vec((any::<prop::sample::Index>(), proptest::option::of(control())), 0..4)).prop_map(
        |(whole, cuts)| {
            let mut frames = Vec::new();
            let mut rest = whole.payload.as_slice();
            let mut opcode = whole.opcode;
            for (cut, between) in cuts {
                let (first, second) = rest.split_at(cut.index(rest.len() + 1));
                frames.push((Frame::new(opcode, first).open(), None));
                frames.extend(between.map(|frame| (frame, None)));
                (rest, opcode) = (second, CONTINUATION);
            }
            frames.push((Frame::new(opcode, rest), None));
            frames
        },
    )
}

fn control() -> impl Strategy<Value = Frame> {
    let opcode = prop_oneof![Just(PING), Just(PONG)];
    (opcode, vec(any::<u8>(), 0..126)).prop_map(|(opcode, payload)| Frame::new(opcode, payload))
}

fn close() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![1000..1016_u16, 2990..3010_u16, any::<u16>()];
    prop_oneof![
        4 => (code, text()).prop_map(|(code, mut reason)| {
            reason.truncate(123);
            Frame::close(code, reason)
        }),
        1 => vec(any::<u8>(), 0..2).prop_map(|payload| Frame::new(CLOSE, payload)),
    ]
}

fn wrong() -> impl Strategy<Value = Formed> {
    let form =
        prop_oneof![Just(None), Just(Some(LengthForm::Bits16)), Just(Some(LengthForm::Bits64))];
    let key = prop_oneof![4 => Just(None), 1 => Just(Some(KEY))];
    let payload = vec(any::<u8>(), 0..126);
    (any::<bool>(), 0..8_u8, 0..16_u8, key, payload, form).prop_map(
        |(fin, rsv, opcode, key, payload, form)| {
            let rsv = if rsv < 5 { 0 } else { rsv };
            (Frame { fin, rsv, opcode, key, payload }, form)
        },
    )
}

/// How an endpoint is set up.
#[derive(Clone, Copy, Debug)]
struct Setting {
    role: Role,
    delivery: Delivery,
}

impl Setting {
    fn endpoint(self) -> Endpoint {
        let mut config = Config::new(self.role);
        config.delivery = self.delivery;
        config.limits.message_bytes_max = 1000;
        // Refused output has no part in this.
        config.limits.control_bytes_max = 1 << 20;
        Endpoint::new(config)
    }
}

/// An echo; pieces are not echoed, for their number depends on the split.
fn echo(event: &Event<'_>, transmit: &mut Transmit<'_>) {
    let outcome = match event {
        Event::Text(text) => transmit.send_text(text),
        Event::Binary(bytes) => transmit.send_binary(bytes),
        _ => return,
    };
    assert_eq!(outcome, SendOutcome::Sent);
}

/// Appends, joining a piece to the one before it.
fn join(seen: &mut Vec<Seen>, more: Vec<Seen>) {
    for event in more {
        let Seen::Chunk { payload: more, offset: at, fin: ends, .. } = &event else {
            seen.push(event);
            continue;
        };
        match seen.last_mut() {
            Some(Seen::Chunk { payload, offset, fin, .. }) if !*fin => {
                assert_eq!(*offset + payload.len() as u64, *at, "no gap between two pieces");
                payload.extend(more);
                *fin = *ends;
            }
            _ => seen.push(event),
        }
    }
}

/// What came of it: events, output, and whether the connection is still open.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    seen: Vec<Seen>,
    output: Vec<u8>,
    is_open: bool,
}

/// When output is written: the bytes must be the same either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    AtTheEnd,
    AfterEachPiece,
}

fn run(setting: Setting, pieces: &[&[u8]], write: Write) -> Outcome {
    run_on(setting.endpoint(), pieces, write)
}

fn run_on(mut endpoint: Endpoint, pieces: &[&[u8]], write: Write) -> Outcome {
    let mut seen = Vec::new();
    let mut output = Vec::new();
    for piece in pieces {
        join(&mut seen, endpoint.receive_with(piece, echo));
        if write == Write::AfterEachPiece {
            output.extend(endpoint.write_all());
        }
    }
    let is_open = endpoint.connection.is_open();
    output.extend(endpoint.write_all());
    naive::parse_all(&output);
    endpoint.finish();
    Outcome { seen, output, is_open }
}

fn pieces<'w>(wire: &'w [u8], cuts: &[prop::sample::Index]) -> Vec<&'w [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    cuts.extend([0, wire.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &wire[pair[0]..pair[1]]).collect()
}

fn setting() -> impl Strategy<Value = Setting> {
    let role = prop_oneof![Just(Role::Server), Just(Role::Client)];
    let delivery = prop_oneof![Just(Delivery::Whole), Just(Delivery::Streaming)];
    (role, delivery).prop_map(|(role, delivery)| Setting { role, delivery })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_events_and_answers(
        (setting, wire) in setting().prop_flat_map(|it| (Just(it), wire(it.role))),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let whole = run(setting, &[&wire], Write::AtTheEnd);
        let bytewise: Vec<_> = wire.chunks(1).collect();
        for write in [Write::AtTheEnd, Write::AfterEachPiece] {
            prop_assert_eq!(&run(setting, &pieces(&wire, &cuts), write), &whole);
            prop_assert_eq!(&run(setting, &bytewise, write), &whole);
        }
    }

    #[test]
    fn any_bytes_at_all_give_the_same_in_any_split(
        setting in setting(),
        wire in vec(any::<u8>(), 0..200),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let whole = run(setting, &[&wire], Write::AtTheEnd);
        prop_assert_eq!(run(setting, &pieces(&wire, &cuts), Write::AfterEachPiece), whole);
    }
}

/// The generator is no good if it only ever fails: it must also give what is right.
#[test]
fn good_input_is_among_what_is_generated() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let setting = Setting { role: Role::Server, delivery: Delivery::Whole };
    let (mut open, mut closed, mut failed, mut texts) = (0, 0, 0, 0);
    for _ in 0..400 {
        let tree = wire(Role::Server).new_tree(&mut runner).expect("a value");
        let outcome =
            run(setting, &[&proptest::strategy::ValueTree::current(&tree)], Write::AtTheEnd);
        match outcome.seen.last() {
            Some(Seen::Failed(_)) => failed += 1,
            Some(Seen::Close(_)) => closed += 1,
            _ => open += 1,
        }
        texts += outcome.seen.iter().filter(|seen| matches!(seen, Seen::Text(_))).count();
    }
    assert!(
        open > 40 && closed > 15 && failed > 40,
        "{open} open, {closed} closed, {failed} failed"
    );
    assert!(texts > 100);
}
