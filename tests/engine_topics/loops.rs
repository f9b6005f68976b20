//! Several loops: what is published on one reaches the subscribers of the others.

use std::time::Duration;

use corewire::{Loop, LoopLimits, PreparedMessage, PublishError, TopicChange};

use crate::bed::{Bed, Occasion, texts};
use crate::sim_errno::EPIPE;
use crate::sim_peer::close;
use crate::sim_world::Call;

fn say(at: &mut Loop<'_, ()>, text: &str) {
    at.publish("all", &PreparedMessage::text(text)).expect("a good name, and there is room");
}

/// A loop, and one beside it whose mailbox holds so many commands.
fn loops(commands_max: usize) -> (Bed, Bed) {
    let mut one = Bed::new(|_| {});
    let mut limits = LoopLimits::default();
    limits.mailbox_commands_max = commands_max;
    let mut other = Bed::with_limits(limits, |_| {});
    one.reactor.set_siblings([other.reactor.handle()]);
    other.turn();
    (one, other)
}

fn end(bed: &mut Bed) {
    bed.reactor.handle().shutdown(Duration::from_secs(1)).unwrap();
    bed.turn();
}

#[test]
fn last_words_of_a_loop_reach_the_others() {
    for errors in [&[][..], &[EPIPE]] {
        let (mut one, mut other) = loops(100);
        let listener = other.subscriber("all");
        let member = one.subscriber("all");
        one.app().habit = Some(|at, occasion, _| match occasion {
            Occasion::Topic | Occasion::Close | Occasion::Gone | Occasion::Drained => {
                say(at, &format!("{occasion:?}"));
            }
            _ => {}
        });
        // Who cannot be told is closed and gone in the last turn.
        one.sim.fail(Call::Send, errors);
        end(&mut one);
        if errors.is_empty() {
            member.peer.write_all(&close(1001));
            member.peer.fin();
        }
        while !one.reactor.is_finished() {
            one.turn();
        }
        other.turn();
        let mut words = texts(&listener.peer);
        assert_eq!(words.pop().as_deref(), Some("Drained"));
        words.sort_unstable();
        assert_eq!(words, ["Close", "Gone", "Topic"]);
        let last = ("all".to_owned(), TopicChange::Last);
        assert_eq!(one.app().topics.last(), Some(&last));
    }
}

#[test]
fn loop_that_ends_waits_for_the_mailboxes_of_the_others_until_its_deadline() {
    for is_read_in_time in [true, false] {
        let (mut one, mut other) = loops(2);
        let listener = other.subscriber("all");
        (0..2).for_each(|_| other.reactor.handle().notify(()).unwrap());
        one.act(|at| say(at, "last words"));
        end(&mut one);
        (0..10).for_each(|_| one.turn());
        assert!(!one.reactor.is_finished());
        if is_read_in_time {
            other.turn();
            one.sim.advance(Duration::from_millis(2));
        } else {
            one.sim.advance(Duration::from_millis(1100));
        }
        (0..3).for_each(|_| one.turn());
        assert!(one.reactor.is_finished());
        assert_eq!(one.reactor.counters().sends_dropped, u64::from(!is_read_in_time));
        (0..2).for_each(|_| other.turn());
        let expected: &[&str] = if is_read_in_time { &["last words"] } else { &[] };
        assert_eq!(texts(&listener.peer), expected);
    }
}

/// Publishes `count` messages of `bytes` while the other loop stands still, and then one too many.
fn congest(one: &mut Bed, other: &Bed, count: usize, bytes: usize) {
    other.reactor.handle().notify(()).unwrap();
    one.act(move |at| {
        let padding = "x".repeat(bytes - 6);
        (0..count).for_each(|number| say(at, &format!("{number:06}{padding}")));
    });
    one.act(|at| {
        let refused = at.publish("all", &PreparedMessage::text("refused"));
        assert!(matches!(refused, Err(PublishError::Congested)), "{refused:?}");
    });
    assert_eq!(one.reactor.counters().published, count as u64);
    assert!(one.reactor.usage().pinned_bytes >= count * bytes, "what waits is charged");
}

#[test]
fn publishing_is_refused_while_too_much_waits_for_another_loop_and_nothing_is_lost() {
    let (mut one, mut other) = loops(1);
    let (near, far) = (one.subscriber("all"), other.subscriber("all"));
    congest(&mut one, &other, 65_536, 6);
    other.turn();
    assert!(texts(&far.peer).is_empty());
    one.sim.advance(Duration::from_millis(2));
    one.turn();
    // This one waits in its turn.
    one.act(|at| say(at, "one more"));
    other.turn();
    one.sim.advance(Duration::from_millis(2));
    one.turn();
    other.turn();
    let sent: Vec<_> = (0..65_536).map(|number| format!("{number:06}")).collect();
    for heard in [texts(&near.peer), texts(&far.peer)] {
        assert!(heard[..65_536] == sent && heard[65_536..] == ["one more"], "{}", heard.len());
    }
}

#[test]
fn publishing_is_refused_while_too_many_bytes_wait_for_another_loop() {
    let (mut one, mut other) = loops(1);
    congest(&mut one, &other, 64, 1 << 20);
    other.turn();
    one.sim.advance(Duration::from_millis(2));
    one.turn();
    one.act(|at| say(at, "there is room"));
    assert!(one.reactor.usage().pinned_bytes < 1 << 20);
}

#[test]
fn a_message_is_counted_where_it_was_published() {
    let (mut one, mut other) = loops(10);
    one.act(|at| say(at, "hello"));
    let hello = PreparedMessage::text("hello");
    other.turn();
    assert_eq!(one.reactor.counters().published, 1);
    assert_eq!(other.reactor.counters().published, 0);
    other.reactor.handle().publish("all", &hello).unwrap();
    other.turn();
    assert_eq!(other.reactor.counters().published, 1);
}
