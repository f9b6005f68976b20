//! Subscribers of topics behind TLS.

use corewire::{PreparedMessage, SlowPolicy, TopicSettings};
use rustls::SupportedProtocolVersion;

use crate::sim_bed::{Bed, Occasion};
use crate::sim_peer::{CLOSE, Frame};
use crate::tls_peer::{TlsPeer, VERSIONS, parties};

const MESSAGES: u32 = 400;

/// A bed whose connections subscribe when they open: one who reads a little, and one who reads.
fn bed(version: &'static SupportedProtocolVersion, slow: SlowPolicy) -> (Bed, TlsPeer, TlsPeer) {
    let (tls, client) = parties(version);
    let mut bed = Bed::new(
        |settings| {
            settings.config.heartbeat = None;
            settings.config.published = TopicSettings::new(4 << 10, slow);
            settings.tls = Some(tls);
        },
        |ctx, occasion| {
            if let Occasion::Open = occasion {
                assert!(ctx.here().subscribe("news").unwrap());
            }
        },
    );
    let stuck = TlsPeer::open(&mut bed, &client);
    stuck.socket.set_buffers(1 << 20, 1000);
    let quick = TlsPeer::open(&mut bed, &client);
    (bed, stuck, quick)
}

fn numbers(frames: &[Frame]) -> Vec<u32> {
    let text = |frame: &Frame| String::from_utf8(frame.payload.clone()).unwrap();
    let messages = frames.iter().filter(|frame| frame.opcode != CLOSE);
    messages.map(|frame| text(frame).parse().unwrap()).collect()
}

#[test]
fn slow_subscriber_gets_whole_messages_and_its_neighbour_all_of_them() {
    use SlowPolicy::{Close, Conflate, DropOldest, SkipNew};
    for version in VERSIONS {
        for slow in [Close, SkipNew, DropOldest, Conflate] {
            let (mut bed, mut stuck, mut quick) = bed(version, slow);
            let mut heard = Vec::new();
            for number in 0..MESSAGES {
                let message = PreparedMessage::text(&format!("{number:0300}"));
                bed.reactor.handle().publish("news", &message).unwrap();
                quick.turns(&mut bed, 1);
                heard.extend(numbers(&quick.take_frames()));
            }
            assert!(heard.into_iter().eq(0..MESSAGES), "{slow:?}");
            stuck.turns(&mut bed, 400);
            let frames = stuck.take_frames();
            let got = numbers(&frames);
            let begun = got.iter().zip(0..).take_while(|(got, at)| **got == *at).count();
            let rest = &got[begun..];
            let last = MESSAGES - 1;
            assert!(got.len() < 300 && begun > 2, "{slow:?}: {got:?}");
            match slow {
                DropOldest => {
                    assert!(rest.len() > 9 && rest.ends_with(&[last]) && rest.is_sorted())
                }
                Conflate => assert_eq!(rest, [last]),
                _ => assert_eq!(rest, [], "{slow:?}"),
            }
            let code = frames.last().unwrap().close_code();
            assert_eq!(code, (slow == Close).then_some(1013), "{slow:?}");
            let counters = bed.reactor.counters();
            let lost = counters.published_skipped
                + counters.published_displaced
                + counters.published_conflated;
            if slow != Close {
                assert_eq!(got.len() as u64 + lost, u64::from(MESSAGES), "{slow:?}");
            }
        }
    }
}
