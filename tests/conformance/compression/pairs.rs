//! §7.1: clients and servers that agree on every combination of parameters, and then talk.

use corewire::opening::Agreement;

use super::super::support::agreed::agree;
use super::super::support::deflated::{Bfinal, Bits, Decompressor, literally};
use super::*;

/// What both ends may be set to, as far as it shows in what they agree on.
fn settings() -> Vec<Compression> {
    let mut settings = Vec::new();
    for peer_window_bits in 8..=15 {
        let own = [shared()].into_iter().chain((9..=15).map(dedicated));
        settings.extend(own.map(|own| own.peer_window_bits(peer_window_bits).expect("8 to 15")));
    }
    settings
}

/// Rounds of messages each way, of all sorts, and every one inflated a second time by another
/// implementation with the window that was agreed on: once for all settings that come to the same.
#[test]
fn every_pair_that_agrees_understands_each_other() {
    let (mut agreed, mut declined) = (0, 0);
    let mut conversed = Vec::new();
    for client in settings() {
        for server in settings() {
            match agree(&client, &server) {
                None => declined += 1,
                Some(agreements) => {
                    agreed += 1;
                    let [ours, _] = agreements;
                    if !conversed.contains(&[ours.client, ours.server]) {
                        conversed.push([ours.client, ours.server]);
                        converse(&client, &server, agreements);
                    }
                }
            }
        }
    }
    // A window of 8 bits is nothing that we can compress with, so whoever asks for it gets none.
    let with_8 = 64 * 64 - 56 * 56;
    assert_eq!((agreed, declined), (64 * 64 - with_8, with_8));
}

fn converse(client: &Compression, server: &Compression, agreements: [Agreement; 2]) {
    let [ours, theirs] = agreements;
    let mut ends = [(Role::Client, client, ours), (Role::Server, server, theirs)].map(
        |(role, compression, agreement)| {
            let mut config = Config::new(role);
            config.compression = compression.clone();
            agreed::agreed(Endpoint::new(config), &agreement)
        },
    );
    let directions = [ours.client, ours.server];
    let mut windows = directions.map(|direction| Decompressor::new(direction.window_bits));
    for round in 0..3 {
        for from in 0..2 {
            for message in [json(900 + round), json(300), "x".repeat(50), json(1500)] {
                let wire = {
                    assert!(ends[from].act(|transmit| transmit.send_text(&message)).is_taken());
                    ends[from].write_all()
                };
                let [frame] = &super::super::support::naive::parse_all(&wire)[..] else {
                    panic!("one message is one frame")
                };
                assert_eq!(frame.rsv == RSV1, message.len() >= 128);
                if frame.rsv == RSV1 {
                    if !directions[from].context_takeover {
                        windows[from] = Decompressor::new(directions[from].window_bits);
                    }
                    let inflated = windows[from].message(&frame.payload);
                    assert_eq!(inflated, message.as_bytes(), "{:?}", directions[from]);
                }
                assert_eq!(ends[1 - from].receive(&wire), [Seen::Text(message)]);
            }
        }
    }
    let takeovers = directions.map(|direction| usize::from(direction.context_takeover));
    for (from, end) in ends.into_iter().enumerate() {
        let in_use = end.pools.in_use();
        assert_eq!((in_use.takeovers, in_use.windows), (takeovers[from], takeovers[1 - from]));
        assert_eq!((in_use.inflaters, in_use.assemblies), (0, 0));
        end.finish();
    }
}

/// Peers other than ourselves ask for what they like (§7.1.1, §7.1.2); what we then send keeps to
/// it, and the window that is kept for them is as large as they may use.
#[test]
fn every_offer_of_other_clients_is_kept_to() {
    let mut offers = vec![String::new()];
    for param in [
        &["server_no_context_takeover"][..],
        &["client_no_context_takeover"],
        &["server_max_window_bits=9", "server_max_window_bits=12", "server_max_window_bits=15"],
        &["client_max_window_bits", "client_max_window_bits=8", "client_max_window_bits=10"],
    ] {
        let with: Vec<_> = offers
            .iter()
            .flat_map(|offer| param.iter().map(move |param| format!("{offer}; {param}")))
            .collect();
        offers.extend(with);
    }
    let messages = [200, 9000, 201, 9000].map(json);
    for compression in [shared(), dedicated(15), dedicated(9), dedicated(12)] {
        for offer in &offers {
            let offer = format!("permessage-deflate{offer}");
            let agreement = agreed::answer(&compression, &offer).expect(&offer);
            let server = agreement.server;
            let asked = |param: &str| offer.contains(param);
            assert!(!(asked("server_no_context") && server.context_takeover), "{offer}");
            assert!(!(asked("server_max_window_bits=9") && server.window_bits > 9), "{offer}");
            assert!(!(asked("server_max_window_bits=12") && server.window_bits > 12), "{offer}");
            let mut config = Config::new(Role::Server);
            config.compression = compression.clone();
            let mut end = agreed::agreed(Endpoint::new(config), &agreement);
            let mut window = Decompressor::new(server.window_bits);
            for message in &messages {
                assert!(end.act(|transmit| transmit.send_text(message)).is_taken());
                let frames = end.write_frames();
                assert_eq!(frames[0].rsv, RSV1);
                if !server.context_takeover {
                    window = Decompressor::new(server.window_bits);
                }
                assert_eq!(window.message(&frames[0].payload), message.as_bytes(), "{offer}");
            }
            assert_eq!(end.pools.in_use().takeovers, usize::from(server.context_takeover));
            end.finish();
        }
    }
}

/// A client's window of 256 bytes, which others can compress with, is taken; a server's is declined.
#[test]
fn a_window_of_8_bits_is_taken_from_clients_and_declined_for_us() {
    let offer = "permessage-deflate; server_max_window_bits=8";
    assert_eq!(agreed::answer(&dedicated(15), offer), None);
    let agreement = agreed::answer(&dedicated(15), "permessage-deflate; client_max_window_bits=8");
    let agreement = agreement.expect("taken");
    assert_eq!(agreement.client.window_bits, 8);
    let mut config = Config::new(Role::Server);
    config.compression = dedicated(15);
    let mut server = agreed::agreed(Endpoint::new(config), &agreement);
    let first = noise(1, 300);
    let far = |distance| {
        let block = Bits::new().fixed(Bfinal::No).copy(3, distance);
        binary(block.end_of_block().message())
    };
    let seen = server.receive_frames(&[binary(literally(&first)), far(256), far(257)]);
    let expected = [
        Seen::Binary(first.clone()),
        Seen::Binary(first[44..47].to_vec()),
        failed(ProtocolError::CorruptCompression),
    ];
    assert_eq!(seen, expected);
    server.finish();
}

/// F9: what our own end compresses fits the other's limit as long as the message does, at every level
/// and however badly it compresses.
#[test]
fn what_grows_by_compressing_fits_the_limit_of_the_message() {
    let limit_bytes = 1 << 17;
    for level in [1, 2, 6, 9] {
        for window_bits in [9, 15] {
            let compression = dedicated(window_bits).level(level).expect("1 to 9");
            let mut client = agreed::endpoint(Role::Client, compression.clone(), |_| {});
            let mut server = agreed::endpoint(Role::Server, compression, bounded(limit_bytes));
            for message in [noise(3, limit_bytes as usize), vec![0xFF; limit_bytes as usize]] {
                assert!(client.act(|transmit| transmit.send_binary(&message)).is_taken());
                let wire = client.write_all();
                let seen = server.receive(&wire);
                assert!(seen == [Seen::Binary(message)], "level {level}: {} bytes", wire.len());
            }
        }
    }
}

/// The same of another compressor that has fixed codes alone, of which most have nine bits.
#[test]
fn a_message_of_fixed_codes_fits_the_limit() {
    let message = vec![0xFF; 100_000];
    let mut server = agreed::endpoint(Role::Server, shared(), bounded(100_000));
    let payload = literally(&message);
    assert!(payload.len() > 112_500);
    assert!(server.receive_frames(&[binary(payload)]) == [Seen::Binary(message)]);
}
