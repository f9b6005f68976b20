//! Heads at their limits and beyond.

use std::time::{Duration, Instant};

use super::bed::*;

/// An upgrade whose head has exactly so many bytes.
fn head_of(bytes: usize) -> String {
    let filled = |count: usize| upgrade(&[&format!("X: {}", "x".repeat(count))]);
    let request = filled(bytes - filled(0).len());
    assert_eq!(request.len(), bytes);
    request
}

// RFC 6585 §5
#[test]
fn head_is_accepted_up_to_its_limit_in_bytes_and_gets_431_above() {
    let mut bed = Bed::new();
    for bytes in [(16 << 10) - 1, 16 << 10] {
        bed.accept(head_of(bytes));
    }
    bed.refuse_unasked(head_of((16 << 10) + 1), FIELDS_TOO_LARGE);
    bed.expect_empty();

    let mut bed = Bed::with(|setup| setup.settings.handshake.head_bytes_max = 300);
    for bytes in [299, 300] {
        bed.accept(head_of(bytes));
        // In pieces it is the same, and what is behind the head does not count.
        let mut client = bed.connect();
        let request = head_of(bytes).into_bytes();
        let behind = masked(0x82, &[b'x'; 100]);
        bed.write_pieces(&mut client, [&request[..290], &[&request[290..], &behind].concat()]);
        assert_eq!(bed.answer(&mut client).status_line, SWITCHING);
        assert_eq!(bed.bytes(&mut client, 102)[..2], *b"\x82\x64");
    }
    bed.refuse_unasked(head_of(301), FIELDS_TOO_LARGE);
    // It is refused at the last byte that could have been the head's, not at the next one.
    bed.refuse_unasked(&head_of(301)[..300], FIELDS_TOO_LARGE);
    bed.expect_empty();
}

// RFC 6585 §5
#[test]
fn head_is_accepted_up_to_its_limit_in_fields_and_gets_431_above() {
    let mut bed = Bed::new();
    let with_fields = |count: usize| {
        let lines: Vec<String> = (5..count).map(|index| format!("X-{index}: secret")).collect();
        upgrade(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    for count in [99, 100] {
        bed.accept(with_fields(count));
    }
    bed.refuse_unasked(with_fields(101), FIELDS_TOO_LARGE);
    bed.expect_empty();
}

// §3
#[test]
fn target_is_accepted_up_to_its_limit_and_gets_414_above() {
    let mut bed = Bed::new();
    let target_of = |bytes: usize| format!("/{}", "t".repeat(bytes - 1));
    for bytes in [(8 << 10) - 1, 8 << 10] {
        bed.accept(upgrade_at(&target_of(bytes), &[]));
    }
    bed.refuse_unasked(upgrade_at(&target_of((8 << 10) + 1), &[]), URI_TOO_LONG);
    // It is refused before anything says that the target ends.
    bed.refuse_unasked(format!("GET {}", target_of((8 << 10) + 1)), URI_TOO_LONG);
    bed.expect_empty();
}

/// What a client that never stops gets for `begin` and then `forever` again and again.
fn endless(begin: &str, forever: &str, status_line: &str) {
    const BUFFER: usize = 4 << 10;
    const PARTING: usize = 8 << 10;
    let mut bed = Bed::with(|setup| {
        setup.reactor.limits.receive_buffer_bytes = BUFFER;
        setup.reactor.limits.parting_bytes_max = PARTING;
        setup.listen.sockets.receive_buffer_bytes = Some(BUFFER);
    });
    let mut client = bed.connect();
    bed.write(&mut client, begin);
    let chunk = forever.repeat(1024 / forever.len());
    bed.until("an answer", |_| {
        if client.received().is_empty() {
            client.write_some(chunk.as_bytes());
        }
        client.has_ended()
    });
    let answer = bed.answer(&mut client);
    assert_eq!(answer.status_line, status_line);
    bed.expect_end(&mut client);
    // The head's limit and one read, and what is thrown away so that the answer is seen.
    let bound = (16 << 10) + BUFFER + PARTING + BUFFER;
    assert!(bed.reactor.counters().bytes_received <= bound as u64);
    assert!(bed.app().requests.is_empty());
    drop(client);
    bed.expect_empty();
}

#[test]
fn endless_head_is_cut_off_at_its_limit() {
    endless("GET / HTTP/1.1\r\nX: ", "x", FIELDS_TOO_LARGE);
    endless("GET / HTTP/1.1\r\n", "X: y\r\n", FIELDS_TOO_LARGE);
    endless("GET / HTTP/1.1\r\nX", "x", FIELDS_TOO_LARGE);
    endless("GET ", "x", URI_TOO_LONG);
    endless("GET", "X", FIELDS_TOO_LARGE);
}

/// Each byte of a head is looked at once, however it is torn: the last pieces of a long head cost
/// what its first ones cost. Were the whole head looked at for each, they would cost 15 times as
/// much.
#[test]
fn dripped_head_costs_the_same_for_each_piece() {
    const PIECE: usize = 16;
    const BATCH: usize = 256;
    const BATCHES: usize = 128;
    let mut bed = Bed::with(|setup| setup.settings.handshake.head_bytes_max = 1 << 20);
    let mut client = bed.connect();
    bed.write(&mut client, &upgrade(&[])[..upgrade(&[]).len() - 2]);
    bed.write(&mut client, "X: ");
    let costs: Vec<Duration> = (0..BATCHES)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..BATCH {
                bed.write_pieces(&mut client, [&[b'x'; PIECE][..]]);
            }
            began.elapsed()
        })
        .collect();
    bed.write(&mut client, "\r\n\r\n");
    assert_eq!(bed.answer(&mut client).status_line, SWITCHING);
    // The quietest batch of each end, since others use this machine too.
    let quietest = |costs: &[Duration]| costs.iter().min().copied().unwrap();
    let (first, last) = (quietest(&costs[..16]), quietest(&costs[BATCHES - 16..]));
    assert!(last < first * 4, "{first:?} at first, {last:?} at last");
}
