//! Who gets what is published, and in how many writes.

use corewire::{PreparedMessage, TopicChange};

use crate::bed::{Bed, numbered, texts};
use crate::sim_peer::{TEXT, message};
use crate::sim_world::Call;

#[test]
fn what_is_published_reaches_every_subscriber_and_nobody_else() {
    let mut bed = Bed::new(|_| {});
    let members: Vec<_> = (0..10).map(|_| bed.subscriber("news")).collect();
    let other = bed.subscriber("weather");
    let published = bed.publish("news", &["hello".into()]);
    assert_eq!((published.taken, published.skipped), (10, 0));
    assert!(members.iter().all(|member| texts(&member.peer) == ["hello"]));
    assert!(texts(&other.peer).is_empty());
    assert_eq!(bed.publish("nothing", &["hello".into()]).taken, 0);
}

#[test]
fn messages_of_one_turn_leave_in_one_write_each_and_in_order() {
    let mut bed = Bed::new(|_| {});
    let members: Vec<_> = (0..5).map(|_| bed.subscriber("news")).collect();
    let before = bed.sim.tries(Call::Send);
    let sent = numbered(0..16, 64);
    bed.publish("news", &sent);
    assert_eq!(bed.sim.tries(Call::Send) - before, 5);
    assert!(members.iter().all(|member| texts(&member.peer) == sent));
}

#[test]
fn subscribers_of_several_topics_get_all_in_the_order_of_publishing() {
    let mut bed = Bed::new(|_| {});
    let (a, b, both) = (bed.subscriber("a"), bed.subscriber("b"), bed.subscriber("a"));
    let id = both.id;
    bed.act(move |at| assert!(at.peer(id).subscribe("b").unwrap()));
    bed.act(|at| {
        for (topic, text) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
            at.publish(topic, &PreparedMessage::text(text)).unwrap();
        }
    });
    assert_eq!(texts(&a.peer), ["1", "3", "4"]);
    assert_eq!(texts(&b.peer), ["2", "5"]);
    assert_eq!(texts(&both.peer), ["1", "2", "3", "4", "5"]);
}

#[test]
fn what_is_sent_and_what_is_published_keep_their_order() {
    let mut bed = Bed::new(|_| {});
    let member = bed.subscriber("news");
    let id = member.id;
    bed.act(move |at| {
        for round in 0..3 {
            let _ = at.peer(id).send_text(&format!("own {round}"));
            at.publish("news", &PreparedMessage::text(&format!("news {round}"))).unwrap();
        }
    });
    let expected = ["own 0", "news 0", "own 1", "news 1", "own 2", "news 2"];
    assert_eq!(texts(&member.peer), expected);
}

#[test]
fn large_messages_are_shared_and_whole() {
    let mut bed = Bed::new(|_| {});
    let members: Vec<_> = (0..3).map(|_| bed.subscriber("news")).collect();
    for member in &members {
        member.peer.set_buffers(1 << 20, 1 << 20);
    }
    let sent = numbered(0..3, 100_000);
    bed.publish("news", &sent);
    bed.turn();
    assert!(members.iter().all(|member| texts(&member.peer) == sent));
}

#[test]
fn who_publishes_from_a_peer_does_not_get_it_himself() {
    let mut bed = Bed::new(|_| {});
    let (one, two) = (bed.subscriber("news"), bed.subscriber("news"));
    let id = one.id;
    bed.act(move |at| {
        let published = at.peer(id).publish("news", &PreparedMessage::text("mine")).unwrap();
        assert_eq!(published.taken, 1);
    });
    assert!(texts(&one.peer).is_empty());
    assert_eq!(texts(&two.peer), ["mine"]);
}

#[test]
fn callbacks_and_other_threads_publish() {
    let mut bed = Bed::new(|_| {});
    let (one, two) = (bed.subscriber("all"), bed.open_with(""));
    two.peer.write_all(&message(TEXT, b"subscribe all"));
    bed.turn();
    one.peer.write_all(&message(TEXT, b"from a callback"));
    bed.turn();
    bed.reactor.handle().publish("all", &PreparedMessage::text("from a thread")).unwrap();
    bed.turn();
    for member in [&one, &two] {
        assert_eq!(texts(&member.peer), ["from a callback", "from a thread"]);
    }
}

#[test]
fn subscriptions_end_with_their_connection_and_are_told() {
    let mut bed = Bed::new(|_| {});
    let (one, two) = (bed.subscriber("news"), bed.subscriber("news"));
    let first = ("news".to_owned(), TopicChange::First);
    assert_eq!(bed.app().topics, std::slice::from_ref(&first));
    one.peer.reset();
    bed.turn();
    assert_eq!(bed.publish("news", &["hello".into()]).taken, 1);
    let id = two.id;
    bed.act(move |at| {
        assert_eq!(at.subscribers("news"), 1);
        assert!(at.peer(id).subscriptions().eq(["news"]));
        assert!(!at.peer(id).subscribe("news").unwrap());
        assert!(at.peer(id).unsubscribe("news"));
        assert!(!at.peer(id).unsubscribe("news"));
        assert_eq!(at.subscribers("news"), 0);
    });
    bed.turn();
    assert_eq!(bed.app().topics, [first, ("news".to_owned(), TopicChange::Last)]);
    assert_eq!(bed.publish("news", &["hello".into()]).taken, 0);
    assert_eq!(texts(&two.peer), ["hello"]);
}
