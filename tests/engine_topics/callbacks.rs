//! Callbacks that publish, subscribe and close while messages are on their way.

use corewire::{CloseCode, PreparedMessage, SlowPolicy, TopicSettings};

use crate::bed::{Bed, Occasion, drain, numbered, texts};
use crate::sim_peer::{close, frames};

#[test]
fn every_callback_publishes_and_each_message_comes_once() {
    let mut bed = Bed::new(|config| {
        config.published = TopicSettings::new(4 << 10, SlowPolicy::SkipNew);
    });
    let listener = bed.subscriber("callbacks");
    bed.app().habit = Some(|at, occasion, _| {
        at.publish("callbacks", &PreparedMessage::text(&format!("{occasion:?}"))).unwrap();
    });
    let slow = bed.subscriber("news");
    slow.peer.set_buffers(1 << 20, 1000);
    bed.turn();
    assert_eq!(texts(&listener.peer), ["Open", "Topic"]);
    bed.publish("news", &numbered(0..30, 300));
    bed.turn();
    assert_eq!(texts(&listener.peer), ["Dropped"]);
    drain(&mut bed, &slow);
    assert_eq!(texts(&listener.peer), ["Drain"]);
    slow.peer.write_all(&close(1000));
    slow.peer.fin();
    (0..3).for_each(|_| bed.turn());
    assert_eq!(texts(&listener.peer), ["Close", "Topic", "Gone"]);
}

#[test]
fn who_closes_in_a_callback_about_lost_messages_gets_nothing_more() {
    let mut bed = Bed::new(|config| {
        config.published = TopicSettings::new(4 << 10, SlowPolicy::SkipNew);
    });
    let (slow, quick) = (bed.subscriber("news"), bed.subscriber("news"));
    slow.peer.set_buffers(1 << 20, 1000);
    bed.app().habit = Some(|at, occasion, id| {
        if occasion == Occasion::Dropped {
            let mut peer = at.peer(id.unwrap());
            peer.close(CloseCode::TRY_AGAIN_LATER, "slow").unwrap();
            assert!(!peer.subscribe("more").unwrap());
            let told = at.publish("news", &PreparedMessage::text("late")).unwrap();
            assert_eq!((told.taken, told.skipped), (1, 1));
        }
    });
    bed.publish("news", &numbered(0..30, 300));
    assert_eq!(texts(&quick.peer).last().unwrap(), "late");
    bed.publish("news", &numbered(30..31, 300));
    let frames = drain(&mut bed, &slow);
    assert_eq!(frames.last().unwrap().close_code(), Some(1013));
    assert!(frames.iter().all(|frame| frame.payload != b"late"));
    assert_eq!(bed.app().dropped.len(), 1);
}

#[test]
fn subscriptions_that_change_between_messages_of_a_turn_count_from_then_on() {
    let mut bed = Bed::new(|_| {});
    let (one, two) = (bed.subscriber("a"), bed.open_with(""));
    let (first, second) = (one.id, two.id);
    bed.act(move |at| {
        let say = |at: &mut corewire::Loop<'_, ()>, text| {
            at.publish("a", &PreparedMessage::text(text)).unwrap();
        };
        say(at, "1");
        assert!(at.peer(second).subscribe("+").unwrap());
        assert!(at.peer(second).subscribe("a/#").unwrap());
        say(at, "2");
        assert!(at.peer(first).unsubscribe("a"));
        say(at, "3");
        at.peer(second).abort();
        say(at, "4");
    });
    assert_eq!(texts(&one.peer), ["1", "2"]);
    let (frames, _) = frames(&two.peer.read_all());
    assert!(frames.is_empty(), "what was queued is lost with the connection");
    bed.act(|at| assert_eq!((at.subscribers("a"), at.subscribers("+")), (0, 0)));
}
