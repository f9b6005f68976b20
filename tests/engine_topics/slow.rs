//! Subscribers that do not keep up.

use corewire::{CloseCode, PreparedMessage, SlowPolicy, TopicSettings};

use crate::bed::{Bed, Member, drain, numbered, texts};
use crate::sim_peer::{CLOSE, Frame, TEXT};

/// A loop whose topics have this policy at 4 KiB, a subscriber who does not read and takes little,
/// and one who keeps up.
fn stuck(policy: SlowPolicy) -> (Bed, Member, Member) {
    let mut bed = Bed::new(|config| {
        config.published = settings(policy);
        config.on_overflow = corewire::OverflowPolicy::Refuse;
    });
    let (slow, quick) = (bed.subscriber("news"), bed.subscriber("news"));
    slow.peer.set_buffers(1 << 20, 1000);
    (bed, slow, quick)
}

fn settings(policy: SlowPolicy) -> TopicSettings {
    let mut settings = TopicSettings::default();
    (settings.backpressure_bytes_max, settings.slow) = (4 << 10, policy);
    settings
}

fn texts_of(frames: &[Frame]) -> Vec<String> {
    let texts = frames.iter().filter(|frame| frame.opcode == TEXT);
    texts.map(|frame| String::from_utf8(frame.payload.clone()).unwrap()).collect()
}

/// One message a turn.
fn publish_each(bed: &mut Bed, sent: &[String], quick: &Member) {
    for text in sent {
        bed.publish("news", std::slice::from_ref(text));
        assert_eq!(texts(&quick.peer), std::slice::from_ref(text), "a neighbour is not held up");
    }
}

#[test]
fn slow_subscriber_is_closed_with_1013() {
    let (mut bed, slow, quick) = stuck(SlowPolicy::Close);
    let sent = numbered(0..30, 300);
    publish_each(&mut bed, &sent, &quick);
    let frames = drain(&mut bed, &slow);
    let got = texts_of(&frames);
    assert_eq!(got, sent[..got.len()]);
    // A thousand bytes are the kernel's, and at most one message more than 4 KiB waits.
    assert!((16..=18).contains(&got.len()), "{}", got.len());
    let last = frames.last().unwrap();
    assert_eq!((last.opcode, last.close_code()), (CLOSE, Some(1013)));
    assert!(last.payload.len() > 2, "it says why");
    bed.turn();
    let code = bed.app().closes.iter().find(|(id, _)| *id == slow.id).unwrap().1.code;
    assert_eq!(code, CloseCode::TRY_AGAIN_LATER);
    assert_eq!(bed.app().dropped, [], "its end is what it is told");
    assert_eq!(bed.reactor.counters().published_skipped, 1);
}

#[test]
fn slow_subscriber_misses_what_is_newest() {
    let (mut bed, slow, quick) = stuck(SlowPolicy::SkipNew);
    let sent = numbered(0..30, 300);
    publish_each(&mut bed, &sent, &quick);
    let got = texts_of(&drain(&mut bed, &slow));
    assert_eq!(got, sent[..got.len()]);
    assert!((16..=18).contains(&got.len()), "{}", got.len());
    let skipped: u64 = bed.app().dropped.iter().map(|(_, _, dropped)| dropped.skipped).sum();
    assert_eq!(skipped as usize, sent.len() - got.len());
    assert!(bed.app().dropped.iter().all(|(id, topic, _)| (*id, &**topic) == (slow.id, "news")));
    assert_eq!(bed.reactor.counters().published_skipped, skipped);
    assert_eq!(bed.app().drains, [slow.id]);
    publish_each(&mut bed, &numbered(30..31, 300), &quick);
    assert_eq!(texts_of(&drain(&mut bed, &slow)), numbered(30..31, 300));
}

#[test]
fn slow_subscriber_misses_what_is_oldest_and_no_frame_is_torn() {
    let (mut bed, slow, quick) = stuck(SlowPolicy::DropOldest);
    let sent = numbered(0..60, 300);
    publish_each(&mut bed, &sent, &quick);
    let got = texts_of(&drain(&mut bed, &slow));
    let displaced: u64 = bed.app().dropped.iter().map(|(_, _, dropped)| dropped.displaced).sum();
    assert_eq!(displaced as usize, sent.len() - got.len());
    // What the kernel had begun comes first, then the newest without a gap.
    let begun = got.iter().zip(&sent).take_while(|(got, sent)| got == sent).count();
    assert!((3..=5).contains(&begun), "{begun}");
    assert_eq!(got[begun..], sent[sent.len() - (got.len() - begun)..]);
    assert!((16..=18).contains(&got.len()), "{}", got.len());
    assert_eq!(bed.reactor.counters().published_displaced, displaced);
}

#[test]
fn newest_of_each_key_survives_in_its_place() {
    let (mut bed, slow, quick) = stuck(SlowPolicy::Conflate);
    let other = quick.id;
    let keyed = |bed: &mut Bed, key: u64, text: String| {
        bed.act(move |at| {
            let message = PreparedMessage::text(&text);
            // One of them by a connection.
            let _ = match key {
                4 => at.peer(other).publish_keyed("news", key, &message).unwrap(),
                _ => at.publish_keyed("news", key, &message).unwrap(),
            };
        });
    };
    for round in 0..50 {
        for key in 0..5 {
            keyed(&mut bed, key, format!("{key} {round:0300}"));
        }
    }
    let got = texts_of(&drain(&mut bed, &slow));
    let of = |text: &str| {
        let (key, round) = text.split_once(' ').unwrap();
        (key.parse::<u64>().unwrap(), round.parse::<u64>().unwrap())
    };
    let got: Vec<_> = got.iter().map(|text| of(text)).collect();
    let (begun, kept) = got.split_at(got.len() - 5);
    let expected = (0..50).flat_map(|round| (0..5).map(move |key| (key, round)));
    assert!(begun.iter().copied().eq(expected.take(begun.len())), "{got:?}");
    assert!((3..=5).contains(&begun.len()), "{begun:?}");
    assert!(kept.iter().all(|(_, round)| *round == 49), "{got:?}");
    // In the place of the first that waited with that key.
    let first = begun.len() as u64 % 5;
    assert!(kept.iter().map(|(key, _)| *key).eq((first..5).chain(0..first)), "{got:?}");
    assert!(bed.app().closes.is_empty());
    let conflated = bed.reactor.counters().published_conflated;
    assert_eq!(conflated as usize, 250 - got.len());
}

#[test]
fn more_keys_than_there_is_room_for_close_the_subscriber() {
    let (mut bed, slow, _quick) = stuck(SlowPolicy::Conflate);
    for key in 0..30 {
        bed.act(move |at| {
            let text = PreparedMessage::text(&format!("{key:0300}"));
            at.publish_keyed("news", key, &text).unwrap();
        });
    }
    let frames = drain(&mut bed, &slow);
    assert_eq!(frames.last().unwrap().close_code(), Some(1013));
}

#[test]
fn topics_have_settings_of_their_own_and_do_not_displace_each_other() {
    let (mut bed, slow, quick) = stuck(SlowPolicy::SkipNew);
    let id = slow.id;
    bed.act(move |at| {
        at.configure_topic("ticks", settings(SlowPolicy::DropOldest)).unwrap();
        assert!(at.peer(id).subscribe("ticks").unwrap());
    });
    publish_each(&mut bed, &numbered(0..10, 300), &quick);
    for text in numbered(100..130, 300) {
        bed.publish("ticks", &[text]);
    }
    publish_each(&mut bed, &numbered(10..12, 300), &quick);
    let got = texts_of(&drain(&mut bed, &slow));
    let news: Vec<_> = got.iter().filter(|text| text.starts_with("000")).collect();
    assert!(news.iter().copied().eq(&numbered(0..10, 300)), "{}", news.len());
    assert_eq!(got.last().unwrap(), &numbered(129..130, 300)[0]);
}

#[test]
fn messages_to_ten_thousand_that_are_stuck_are_one_copy() {
    let mut bed = Bed::new(|_| {});
    let members: Vec<_> = (0..300).map(|_| bed.subscriber("news")).collect();
    for member in &members {
        member.peer.set_buffers(1 << 20, 100);
    }
    bed.publish("news", &numbered(0..1, 1024));
    let before = bed.reactor.usage();
    bed.publish("news", &numbered(1..2, 1024));
    let after = bed.reactor.usage();
    let grown = after.pinned_bytes - before.pinned_bytes;
    assert!(grown <= 300 * 64 * 2 + 2048, "{grown}");
    drop(members);
}

/// What one turn publishes lies in one place; who keeps a little of it does not keep all of that.
#[test]
fn readers_who_fall_behind_one_after_the_other_keep_what_they_wait_for_and_little_more() {
    const MEMBERS: usize = 50;
    let mut bed = Bed::new(|_| {});
    let members: Vec<_> = (0..MEMBERS).map(|_| bed.open_with("")).collect();
    let before = bed.reactor.usage().pinned_bytes;
    for member in &members {
        let id = member.id;
        member.peer.set_buffers(1 << 20, 100);
        bed.act(move |at| {
            assert!(at.peer(id).subscribe("news").unwrap());
            at.publish("news", &PreparedMessage::text(&"x".repeat(1000))).unwrap();
            assert!(at.peer(id).unsubscribe("news"));
        });
    }
    let each = (bed.reactor.usage().pinned_bytes - before) / MEMBERS;
    // 904 bytes wait for each, the rest of a frame of 1,004.
    assert!(each <= 2 << 10, "{each} bytes each");
}

#[test]
fn messages_without_a_key_and_those_of_any_key_do_not_take_each_others_places() {
    let (mut bed, slow, _quick) = stuck(SlowPolicy::Conflate);
    bed.publish("news", &numbered(0..10, 300));
    let begun = bed.reactor.counters().published_conflated;
    bed.act(|at| {
        for round in 0..3 {
            let text = |what: &str| PreparedMessage::text(&format!("{what} {round}"));
            at.publish("news", &text("none")).unwrap();
            at.publish_keyed("news", 0, &text("zero")).unwrap();
        }
    });
    assert_eq!(bed.reactor.counters().published_conflated - begun, 4);
    let got = texts_of(&drain(&mut bed, &slow));
    assert_eq!(got[got.len() - 2..], ["none 2", "zero 2"]);
}

/// They are written to in front of those who do read, when all still refer to the same place.
#[test]
fn readers_who_fall_behind_beside_many_who_do_not_keep_little_more_than_they_wait_for() {
    const STUCK: usize = 20;
    let mut bed = Bed::new(|_| {});
    let members: Vec<_> = (0..STUCK).map(|_| bed.open_with("")).collect();
    let quick: Vec<_> = (0..30).map(|_| bed.subscriber("all")).collect();
    // An emptied log is kept for the next turn.
    bed.publish("all", &numbered(0..60, 1000));
    quick.iter().for_each(|member| drop(texts(&member.peer)));
    let before = bed.reactor.usage().pinned_bytes;
    for member in &members {
        let id = member.id;
        member.peer.set_buffers(1 << 20, 100);
        bed.act(move |at| {
            assert!(at.peer(id).subscribe("news").unwrap());
            at.publish("news", &PreparedMessage::text(&"x".repeat(1000))).unwrap();
            assert!(at.peer(id).unsubscribe("news"));
            for text in numbered(0..60, 1000) {
                at.publish("all", &PreparedMessage::text(&text)).unwrap();
            }
        });
        assert!(quick.iter().all(|member| texts(&member.peer).len() == 60));
    }
    let each = (bed.reactor.usage().pinned_bytes - before) / STUCK;
    assert!(each <= 2 << 10, "{each} bytes each");
}
