//! What waits in a batch or for its turn when the connection is lost.

use std::time::Duration;

use corewire::{
    Batch, BatchForm, OutagePolicy, PayloadError, Rate, StopReason, Submitted, UnsentReason,
};

use crate::bed::{Bed, arrivals, millis, number, numbered};

fn slow() -> Rate {
    let mut rate = Rate::default();
    (rate.messages_per_second, rate.messages_burst) = (Some(20), Some(5));
    rate
}

#[test]
fn what_waits_for_its_batch_is_sent_over_the_next_connection() {
    let (mut bed, server) = Bed::opened(|client| client.batch(|_| {}));
    for number in 0..10 {
        assert_eq!(bed.send(numbered(number, 20)), Submitted::Held);
    }
    server.peer.reset();
    bed.turn();
    for number in 10..13 {
        assert!(matches!(bed.send(numbered(number, 20)), Submitted::Waiting { .. }));
    }
    let mut server = bed.accept();
    bed.run_for(millis(60));
    let come = arrivals(&mut server);
    assert!(come.iter().map(|text| number(text)).eq(0..13), "{come:?}");
    assert_eq!(bed.journal().unsent, []);
    let closes = &bed.journal().closes;
    assert_eq!(
        (closes.len(), closes[0].unsent_messages, closes[0].unconfirmed_messages),
        (1, 0, 0)
    );
}

#[test]
fn what_waits_for_its_turn_is_sent_over_the_next_connection() {
    for batch in [None, Some(Batch::default())] {
        let (mut bed, mut server) = Bed::opened(|client| match batch.clone() {
            Some(batch) => client.rate(|it| *it = slow()).batch(|it| *it = batch),
            None => client.rate(|it| *it = slow()),
        });
        bed.send_all((0..20).map(|number| numbered(number, 20)).collect());
        bed.run_for(millis(120));
        let mut come = arrivals(&mut server);
        assert!((5..=7).contains(&come.len()), "{come:?}");
        server.peer.reset();
        let mut server = bed.accept();
        bed.run_for(Duration::from_secs(2));
        come.extend(arrivals(&mut server));
        assert!(come.iter().map(|text| number(text)).eq(0..20), "{come:?}");
    }
}

#[test]
fn a_batch_is_written_in_front_of_the_close() {
    let (mut bed, mut server) = Bed::opened(|client| client.batch(|_| {}));
    bed.send_all((0..10).map(|number| numbered(number, 20)).collect());
    bed.stop();
    let frames = server.plain_frames();
    assert_eq!(frames.len(), 11);
    assert_eq!(frames[10].opcode, crate::naive::CLOSE);
    server.send(&crate::naive::Frame::close(1000, ""));
    bed.run_for(millis(10));
    assert_eq!(bed.journal().unsent, []);
    assert_eq!(bed.journal().stops, [StopReason::Stopped]);
    assert_eq!(bed.send(numbered(10, 20)), Submitted::Refused(UnsentReason::Stopped));
}

#[test]
fn what_waits_for_its_turn_is_reported_when_the_client_is_stopped() {
    let (mut bed, mut server) = Bed::opened(|client| client.rate(|it| *it = slow()).batch(|_| {}));
    bed.send_all((0..20).map(|number| numbered(number, 20)).collect());
    bed.stop();
    let come = arrivals(&mut server);
    assert!(come.iter().map(|text| number(text)).eq(0..5), "{come:?}");
    let unsent = std::mem::take(&mut bed.journal().unsent);
    assert!(unsent.iter().all(|unsent| unsent.reason == UnsentReason::Stopped));
    let texts = unsent.iter().map(|unsent| std::str::from_utf8(&unsent.payload).expect("a text"));
    assert!(texts.map(number).eq(5..20), "{unsent:?}");
    assert!(unsent.iter().all(|unsent| unsent.id.is_none()), "a number was never told");
}

#[test]
fn what_waits_while_the_server_closes_is_sent_over_the_next_connection_and_costs_no_turns() {
    let (mut bed, mut server) = Bed::opened(|client| client.batch(|_| {}));
    server.peer.set_buffers(1 << 20, 1024);
    bed.send_all((0..100).map(|number| numbered(number, 20)).collect());
    assert_eq!(bed.send(numbered(100, 20)), Submitted::Held);
    // What is queued keeps the closing handshake from its end.
    server.send(&crate::naive::Frame::close(1001, ""));
    let mut turns = 0;
    bed.run_until(bed.now() + millis(1000), |_| turns += 1);
    assert!(turns < 10, "{turns} turns");
    assert_eq!(bed.send(numbered(101, 20)), Submitted::Held);
    let mut come = Vec::new();
    for _ in 0..20 {
        come.extend(arrivals(&mut server));
        bed.turn();
    }
    server.peer.fin();
    let mut server = bed.accept();
    bed.run_for(millis(100));
    come.extend(arrivals(&mut server));
    assert!(come.iter().map(|text| number(text)).eq(0..102), "{come:?}");
}

#[test]
fn the_oldest_make_room_in_one_callback_and_are_reported() {
    let mut bed = Bed::new(1, |client| {
        client.outage(|outage| (outage.messages_max, outage.policy) = (3, OutagePolicy::DropOldest))
    });
    let submitted = bed.send_all((0..10).map(|number| numbered(number, 20)).collect());
    assert!(submitted.iter().all(|given| matches!(given, Submitted::Waiting { .. })));
    let unsent = std::mem::take(&mut bed.journal().unsent);
    assert!(unsent.iter().map(|unsent| unsent.id).eq((0..7).map(Some)), "{unsent:?}");
    let mut server = bed.accept();
    bed.turn();
    assert!(arrivals(&mut server).iter().map(|text| number(text)).eq(7..10));
}

#[test]
fn what_has_waited_for_a_connection_goes_into_envelopes_and_is_judged_at_once() {
    let mut batch = Batch::default();
    batch.form = BatchForm::Envelope;
    let mut bed = Bed::new(1, |client| client.batch(|it| *it = batch));
    assert!(matches!(bed.send("1"), Submitted::Waiting { .. }));
    let refused = bed.send("no JSON");
    assert!(matches!(refused, Submitted::NotJson(PayloadError::NotJson(_))), "{refused:?}");
    assert!(matches!(bed.send(" [2] "), Submitted::Waiting { .. }));
    let mut server = bed.accept();
    bed.run_for(millis(60));
    let come = arrivals(&mut server);
    assert_eq!(come, [r#"{"type":"batch","batch_size":2,"messages":[1,[2]]}"#]);
}
