//! Connections that were dialled are subscribers as others are, but for their masks.

use corewire::{PreparedMessage, SlowPolicy, TopicSettings};

use crate::client_bed::Bed;

fn bed(slow: SlowPolicy) -> Bed {
    Bed::new(|settings| {
        let config = std::sync::Arc::make_mut(&mut settings.dial.config);
        config.heartbeat = None;
        config.published = TopicSettings::new(4 << 10, slow);
    })
}

#[test]
fn what_is_published_to_a_server_is_masked_for_it_alone() {
    let mut bed = bed(SlowPolicy::Close);
    let mut ends = [bed.open(), bed.open()];
    let ids = [ends[0].0, ends[1].0];
    bed.order(move |at| {
        for id in ids {
            assert!(at.peer(id).subscribe("news").unwrap());
        }
        for text in ["", "one", &"x".repeat(40_000)] {
            let published = at.publish("news", &PreparedMessage::text(text)).unwrap();
            assert_eq!((published.taken, published.skipped), (2, 0));
        }
    });
    bed.turns(3);
    let [one, other] = &mut ends;
    let (one, other) = (one.1.frames(), other.1.frames());
    assert_eq!([one.len(), other.len()], [3, 3]);
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one.payload, other.payload);
        assert_ne!(one.key, other.key, "each frame has a key of its own");
    }
    assert_eq!(one[1].payload, b"one");
}

#[test]
fn slow_servers_are_skipped_where_servers_of_ours_would_take_back() {
    for slow in [SlowPolicy::SkipNew, SlowPolicy::DropOldest, SlowPolicy::Conflate] {
        let mut bed = bed(slow);
        let (id, mut server) = bed.open();
        server.peer.set_buffers(1000, 1000);
        bed.order(move |at| assert!(at.peer(id).subscribe("news").unwrap()));
        for number in 0..30 {
            bed.order(move |at| {
                let text = format!("{number:0300}");
                at.publish("news", &PreparedMessage::text(&text)).unwrap();
            });
            bed.turn();
        }
        let mut numbers: Vec<u32> = Vec::new();
        for _ in 0..40 {
            let texts =
                server.frames().into_iter().map(|it| String::from_utf8(it.payload).unwrap());
            numbers.extend(texts.map(|text| text.parse::<u32>().unwrap()));
            bed.turn();
        }
        let count = numbers.len() as u32;
        assert!((14..20).contains(&count), "{slow:?}: {numbers:?}");
        assert!(numbers.into_iter().eq(0..count), "{slow:?}");
        assert_eq!(bed.reactor.counters().published_skipped, u64::from(30 - count));
        let proof = bed.heard(id);
        assert_eq!(proof.len(), 2, "it lives: {proof:?}");
    }
}
