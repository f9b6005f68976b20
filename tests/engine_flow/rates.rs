//! What a rate lets pass, and when.

use std::time::Duration;

use corewire::{
    Batch, BatchForm, Opcode, Part, PayloadError, Rate, RatePolicy, Submitted, UnsentReason,
};

use crate::bed::{Bed, arrivals, millis, number, numbered};
use crate::naive::TEXT;
use crate::sim_server::SimServer;

fn messages(per_second: u64, burst: u64) -> Rate {
    let mut rate = Rate::default();
    (rate.messages_per_second, rate.messages_burst) = (Some(per_second), Some(burst));
    rate
}

fn bytes(per_second: u64, burst: u64) -> Rate {
    let mut rate = Rate::default();
    (rate.bytes_per_second, rate.bytes_burst) = (Some(per_second), Some(burst));
    rate
}

/// Turns for so long; the messages that came, with their times.
fn watch(bed: &mut Bed, server: &mut SimServer, time: Duration) -> Vec<(Duration, String)> {
    let mut come: Vec<_> = arrivals(server).into_iter().map(|text| (bed.now(), text)).collect();
    bed.run_until(bed.now() + time, |at| {
        come.extend(arrivals(server).into_iter().map(|text| (at, text)));
    });
    come
}

const TICK: Duration = millis(1);

/// Timers have ticks: a message may leave so much later than it might.
fn assert_at(at: Duration, due: Duration) {
    assert!(at >= due && at <= due + TICK, "due at {due:?}, left at {at:?}");
}

#[test]
fn messages_leave_in_a_burst_and_then_at_their_rate() {
    let (mut bed, mut server) = Bed::opened(|client| client.rate(|it| *it = messages(40, 10)));
    let start = bed.now();
    let submitted = bed.send_all((0..50).map(|number| numbered(number, 20)).collect());
    assert!(submitted[..10].iter().all(|given| matches!(given, Submitted::Given(_))));
    assert!(submitted[10..].iter().all(|given| *given == Submitted::Held));
    let come = watch(&mut bed, &mut server, Duration::from_secs(2));
    assert_eq!(come.len(), 50);
    for (index, (at, text)) in come.iter().enumerate() {
        assert_eq!(number(text), index);
        // One more each 25 ms, counted from when the bucket was emptied.
        let after_burst = index.saturating_sub(9) as u32;
        assert_at(*at - start, millis(25) * after_burst);
    }
    let stats = bed.flow().rate.expect("it has a rate");
    assert_eq!((stats.passed, stats.waited, stats.waiting), (50, 40, 0));
    assert_eq!((stats.dropped, stats.refused), (0, 0));
}

#[test]
fn bytes_leave_in_a_burst_and_then_at_their_rate() {
    // 100 kB/s; a large one goes into debt, and the next waits until that is paid.
    let (mut bed, mut server) =
        Bed::opened(|client| client.rate(|it| *it = bytes(100_000, 20_000)));
    let start = bed.now();
    let sizes = [5000, 5000, 10_000, 1000, 50_000, 1000, 20_000];
    bed.send_all(sizes.iter().enumerate().map(|(at, bytes)| numbered(at, *bytes)).collect());
    let come = watch(&mut bed, &mut server, Duration::from_secs(2));
    // The fifth finds a full bucket 200 ms after the fourth has left it empty.
    let due = [0, 0, 0, 10, 210, 520, 720].map(millis);
    assert_eq!(come.len(), due.len());
    for (index, ((at, text), due)) in come.iter().zip(due).enumerate() {
        assert_eq!(number(text), index);
        assert!(*at - start >= due && *at - start <= due + TICK * 3, "{index}: {:?}", *at - start);
    }
}

#[test]
fn in_no_time_more_leaves_than_the_rate_and_one_burst() {
    let (mut bed, mut server) = Bed::opened(|client| client.rate(|it| *it = messages(1000, 20)));
    let mut come = Vec::new();
    let mut next = 0;
    for burst in [300, 1, 50, 200] {
        bed.send_all((next..next + burst).map(|number| numbered(number, 20)).collect());
        next += burst;
        come.extend(watch(&mut bed, &mut server, millis(137)));
    }
    come.extend(watch(&mut bed, &mut server, Duration::from_secs(1)));
    assert!(come.iter().map(|(_, text)| number(text)).eq(0..next));
    for first in 0..come.len() {
        for last in first..come.len() {
            let time = come[last].0 - come[first].0;
            let most = 20 + time.as_nanos() / 1_000_000;
            assert!((last - first + 1) as u128 <= most, "{first} to {last} in {time:?}");
        }
    }
    // Nor much less: 551 of them take 531 ms, and a tick for each that finds nothing.
    let all = come.last().expect("they came").0 - come[0].0;
    assert!(all <= millis(600), "{all:?}");
}

#[test]
fn what_comes_too_fast_is_dropped_where_that_is_wanted() {
    let mut rate = messages(100, 5);
    rate.policy = RatePolicy::Drop;
    let (mut bed, mut server) = Bed::opened(|client| client.rate(|it| *it = rate));
    let submitted = bed.send_all((0..8).map(|number| numbered(number, 20)).collect());
    assert!(submitted[..5].iter().all(|given| matches!(given, Submitted::Given(_))));
    assert_eq!(submitted[5..], [Submitted::Dropped; 3]);
    assert_eq!(watch(&mut bed, &mut server, millis(10)).len(), 5);
    // The bucket has one again, and what was dropped is not in the way.
    assert!(matches!(bed.send(numbered(8, 20)), Submitted::Given(_)));
    assert_eq!(bed.send(numbered(9, 20)), Submitted::Dropped);
    let come = watch(&mut bed, &mut server, Duration::from_secs(1));
    assert!(come.iter().map(|(_, text)| number(text)).eq([8]), "{come:?}");
    let stats = bed.flow().rate.expect("it has a rate");
    assert_eq!((stats.passed, stats.dropped, stats.waited), (6, 4, 0));
}

#[test]
fn what_comes_too_fast_is_refused_where_that_is_wanted() {
    let mut rate = messages(100, 5);
    rate.policy = RatePolicy::Refuse;
    let (mut bed, mut server) = Bed::opened(|client| client.rate(|it| *it = rate));
    let submitted = bed.send_all((0..8).map(|number| numbered(number, 20)).collect());
    assert_eq!(submitted[5..], [Submitted::Refused(UnsentReason::TooFast); 3]);
    assert_eq!(watch(&mut bed, &mut server, Duration::from_secs(1)).len(), 5);
    assert_eq!(bed.flow().rate.expect("it has a rate").refused, 3);
}

#[test]
fn so_much_waits_for_a_rate_and_the_rest_is_refused() {
    let mut rate = messages(10, 1);
    rate.waiting_bytes_max = 10_000;
    let (mut bed, mut server) = Bed::opened(|client| client.rate(|it| *it = rate));
    let submitted = bed.send_all((0..20).map(|number| numbered(number, 984)).collect());
    // Each counts 16 bytes more.
    assert!(matches!(submitted[0], Submitted::Given(_)));
    assert_eq!(submitted[1..11], [Submitted::Held; 10]);
    assert_eq!(submitted[11..], [Submitted::Refused(UnsentReason::TooFast); 9]);
    let come = watch(&mut bed, &mut server, Duration::from_secs(3));
    assert!(come.iter().map(|(_, text)| number(text)).eq(0..11));
}

#[test]
fn messages_pass_the_rate_before_they_are_put_into_batches() {
    let (mut bed, mut server) =
        Bed::opened(|client| client.rate(|it| *it = messages(1000, 50)).batch(|_| {}));
    let (start, before) = (bed.now(), bed.writes());
    assert_eq!(bed.send_all((0..300).map(|at| numbered(at, 20)).collect()), [Submitted::Held; 300]);
    let come = watch(&mut bed, &mut server, Duration::from_secs(1));
    assert!(come.iter().map(|(_, text)| number(text)).eq(0..300));
    for (index, (at, _)) in come.iter().enumerate() {
        let passed = millis(1) * index.saturating_sub(49) as u32;
        let late = (*at - start).saturating_sub(passed);
        assert!(late <= millis(50) + TICK * 2 && *at - start >= passed, "{index}: {late:?}");
    }
    // Batches of 50 ms at most: the burst fills one with what follows it.
    assert!((3..=7).contains(&(bed.writes() - before)), "{}", bed.writes() - before);
}

#[test]
fn a_critical_message_waits_for_its_turn_and_not_for_its_batch() {
    let (mut bed, mut server) =
        Bed::opened(|client| client.rate(|it| *it = messages(100, 1)).batch(|_| {}));
    let start = bed.now();
    assert_eq!(bed.send(numbered(0, 20)), Submitted::Held);
    assert_eq!(bed.send(numbered(1, 20)), Submitted::Held);
    assert_eq!(bed.send_now(numbered(2, 20)), Submitted::Held);
    assert_eq!(bed.send(numbered(3, 20)), Submitted::Held);
    let come = watch(&mut bed, &mut server, millis(200));
    assert!(come.iter().map(|(_, text)| number(text)).eq(0..4), "{come:?}");
    assert_at(come[2].0 - start, millis(20));
    // The one behind it waits for others as ever, from when the rate has let it pass.
    assert!(come[3].0 - start >= millis(80), "{come:?}");
}

#[test]
fn a_batch_is_not_too_full_for_what_the_rate_has_held_up() {
    // 1,000 messages wait for the rate; of what waits for a batch 20 messages are too many.
    let mut batch = Batch::default();
    (batch.max_messages, batch.max_buffered_bytes) = (10_000, 20 * 36);
    let (mut bed, mut server) =
        Bed::opened(|client| client.rate(|it| *it = messages(10_000, 1)).batch(|it| *it = batch));
    let submitted = bed.send_all((0..1000).map(|number| numbered(number, 20)).collect());
    assert_eq!(submitted, [Submitted::Held; 1000]);
    let come = watch(&mut bed, &mut server, Duration::from_secs(10));
    assert!(come.iter().map(|(_, text)| number(text)).eq(0..1000), "{} came", come.len());
}

#[test]
fn what_cannot_stand_in_an_envelope_is_refused_before_it_waits_for_the_rate() {
    let mut batch = Batch::default();
    batch.form = BatchForm::Envelope;
    let (mut bed, mut server) =
        Bed::opened(|client| client.rate(|it| *it = messages(100, 1)).batch(|it| *it = batch));
    assert_eq!(bed.send("1"), Submitted::Held);
    assert_eq!(bed.send("2"), Submitted::Held);
    let refused = bed.send("no JSON");
    assert!(matches!(refused, Submitted::NotJson(PayloadError::NotJson(_))), "{refused:?}");
    let come = watch(&mut bed, &mut server, millis(200));
    let texts: Vec<_> = come.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, [r#"{"type":"batch","batch_size":2,"messages":[1,2]}"#]);
}

#[test]
fn a_rate_that_waits_for_room_lets_the_loop_rest() {
    let (mut bed, mut server) = Bed::opened(|client| client.rate(|it| *it = messages(10_000, 10)));
    server.peer.set_buffers(1 << 20, 4096);
    // Nobody reads, and more waits than may be queued.
    let submitted = bed.send_all((0..100).map(|number| numbered(number, 9000)).collect());
    assert_eq!(submitted.iter().filter(|given| **given == Submitted::Held).count(), 90);
    bed.run_for(millis(500));
    let mut turns = 0;
    bed.run_until(bed.now() + Duration::from_secs(10), |_| turns += 1);
    assert!(turns < 10, "{turns} turns");
    let mut come = Vec::new();
    for _ in 0..2000 {
        come.extend(arrivals(&mut server));
        bed.run_for(millis(1));
    }
    assert!(come.iter().map(|text| number(text)).eq(0..100), "{} came", come.len());
}

#[test]
fn what_has_waited_for_a_connection_keeps_to_the_rate() {
    let mut bed = Bed::new(1, |client| client.rate(|it| *it = messages(100, 5)));
    for number in 0..30 {
        assert!(matches!(bed.send(numbered(number, 20)), Submitted::Waiting { .. }));
    }
    let mut server = bed.accept();
    let start = bed.now();
    let mut come = watch(&mut bed, &mut server, millis(100));
    // What is new waits behind it.
    assert!(matches!(bed.send(numbered(30, 20)), Submitted::Waiting { .. }));
    come.extend(watch(&mut bed, &mut server, Duration::from_secs(1)));
    assert!(come.iter().map(|(_, text)| number(text)).eq(0..31), "{come:?}");
    for (index, (at, _)) in come.iter().enumerate() {
        assert_at(*at - start, millis(10) * index.saturating_sub(4) as u32);
    }
}

/// Sends a part of a message, not by the client but by its connection.
fn send_part(bed: &mut Bed, part: Part) {
    let client = bed.client;
    let outcome = bed.act(move |at, clients| {
        let connection = clients.connection(client).expect("it is connected");
        at.peer(connection).send_part(Opcode::Binary, b"part", part)
    });
    assert!(outcome.is_taken(), "{outcome:?}");
}

/// The texts among what has come.
fn texts(server: &mut SimServer) -> Vec<String> {
    let frames = server.plain_frames().into_iter().filter(|frame| frame.opcode == TEXT);
    frames.map(|frame| String::from_utf8(frame.payload).expect("a text")).collect()
}

#[test]
fn what_waits_for_the_rate_lets_a_message_in_parts_end_and_loses_no_turn_by_it() {
    for (rate, is_batched) in [(messages(10, 10), false), (bytes(100, 100), true)] {
        // An empty message costs no bytes, so that none can run out.
        for late in ["late", ""] {
            let (mut bed, mut server) = Bed::opened(|client| {
                let client = client.rate(|it| *it = rate.clone());
                if is_batched { client.batch(|_| {}) } else { client }
            });
            let first = vec![numbered(0, 10); 10];
            bed.send_all(first.clone());
            bed.run_for(millis(60));
            assert_eq!(texts(&mut server), first);
            send_part(&mut bed, Part::First);
            let held = bed.send_all(vec![numbered(1, 10), late.to_owned()]);
            assert_eq!(held, [Submitted::Held; 2]);
            bed.run_for(Duration::from_secs(3));
            assert_eq!(texts(&mut server), [""; 0]);
            send_part(&mut bed, Part::Last);
            bed.run_for(millis(55));
            assert_eq!(texts(&mut server), [&numbered(1, 10), late]);
            let stats = bed.flow().rate.expect("it has a rate");
            assert_eq!((stats.passed, stats.waiting), (12, 0));
        }
    }
}

#[test]
fn batch_leaves_once_a_message_in_parts_is_complete() {
    let (mut bed, mut server) = Bed::opened(|client| client.batch(|_| {}));
    send_part(&mut bed, Part::First);
    assert_eq!(bed.send("batched"), Submitted::Held);
    bed.run_for(millis(100));
    assert_eq!(texts(&mut server), [""; 0]);
    send_part(&mut bed, Part::Last);
    bed.run_for(2 * TICK);
    assert_eq!(texts(&mut server), ["batched"]);
}
