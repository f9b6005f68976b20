//! Several JSON messages in one text message, both ways.

use corewire::{Batch, BatchForm, Message, PayloadError, Submitted};

use crate::bed::{Bed, RIDDLE, arrivals, millis};
use crate::naive::{Frame, TEXT};
use crate::sim_server::SimServer;

fn opened() -> (Bed, SimServer) {
    let mut batch = Batch::default();
    batch.form = BatchForm::Envelope;
    Bed::opened(|client| client.batch(|it| *it = batch))
}

fn envelope(messages: &[&str]) -> String {
    let (size, messages) = (messages.len(), messages.join(","));
    format!(r#"{{"type":"batch","batch_size":{size},"messages":[{messages}]}}"#)
}

#[test]
fn json_messages_leave_in_one_envelope() {
    let (mut bed, mut server) = opened();
    for text in [r#"{"id":1}"#, " \"two\"\n", "3"] {
        assert_eq!(bed.send(text), Submitted::Held);
    }
    bed.run_for(millis(51));
    assert_eq!(arrivals(&mut server), [envelope(&[r#"{"id":1}"#, "\"two\"", "3"])]);
    // A hundred fill one, and a large message ends one.
    let before = bed.writes();
    bed.send_all((0..100).map(|number| number.to_string()).collect());
    let come = arrivals(&mut server);
    assert_eq!((bed.writes() - before, come.len()), (1, 1));
    assert!(come[0].starts_with(r#"{"type":"batch","batch_size":100,"messages":[0,1,"#));
    assert_eq!(bed.send("1"), Submitted::Held);
    let large = format!("\"{}\"", "x".repeat(100 << 10));
    assert_eq!(bed.send(large.as_str()), Submitted::Held);
    let come = arrivals(&mut server);
    assert_eq!(come, [envelope(&["1"]), envelope(&[&large])]);
    assert_eq!(bed.send_now("4"), Submitted::Held);
    assert_eq!(arrivals(&mut server), [envelope(&["4"])]);
}

#[test]
fn what_is_no_json_text_is_refused() {
    let (mut bed, mut server) = opened();
    for text in ["", "hello", "1,2", "{", "[1]]"] {
        let refused = bed.send(text);
        assert!(matches!(refused, Submitted::NotJson(PayloadError::NotJson(_))), "{refused:?}");
    }
    let client = bed.client;
    let refused = bed.act(move |at, clients| clients.send(at, client, Message::Binary(b"1")));
    assert_eq!(refused, Some(Submitted::NotJson(PayloadError::NotText)));
    bed.run_for(millis(100));
    assert_eq!(arrivals(&mut server), [""; 0]);
    assert_eq!(bed.flow().batch.expect("it has batches").dropped, 6);
}

#[test]
fn an_envelope_arrives_as_its_messages() {
    let (mut bed, server) = opened();
    server.send(&Frame::text(envelope(&[r#"{"id":1}"#, "\"two\"", "[3]"])));
    // In fragments, with white space, and with an escape.
    let text = "{ \"messages\" : [ 4 , 5 ] ,\"type\":\"b\\u0061tch\",\"batch_size\":2}";
    server.send_fragmented(TEXT, text.as_bytes(), 7);
    server.send(&Frame::text(envelope(&[])));
    bed.turn();
    assert_eq!(bed.journal().received, [r#"{"id":1}"#, "\"two\"", "[3]", "4", "5"]);
    assert_eq!(bed.journal().undecodable, [""; 0]);
}

#[test]
fn what_is_no_envelope_arrives_as_it_is() {
    let (mut bed, server) = opened();
    let texts = ["hello", "{\"type\":\"chat\",\"messages\":[1]}", "{\"type\":\"batch", ""];
    texts.iter().for_each(|text| server.send(&Frame::text(text)));
    server.send(&Frame::binary(envelope(&["1"])));
    bed.turn();
    let mut expected: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    expected.push(envelope(&["1"]));
    assert_eq!(bed.journal().received, expected);
}

#[test]
fn a_broken_envelope_is_counted_and_told_and_none_of_its_messages_counts() {
    let (mut bed, server) = opened();
    let broken = r#"{"type":"batch","batch_size":3,"messages":[1,2]}"#;
    server.send(&Frame::text(broken));
    server.send(&Frame::text(envelope(&["1", RIDDLE, "2"])));
    bed.turn();
    // Of a whole one each message is by itself.
    assert_eq!(bed.journal().received, ["1", "2"]);
    let told = format!("{broken}: an envelope says that it has 3 messages and has 2");
    assert_eq!(bed.journal().undecodable, [told, format!("{RIDDLE}: a riddle")]);
    let client = bed.client;
    let undecodable = bed.act(move |_, clients| clients.stats(client).map(|it| it.undecodable));
    assert_eq!(undecodable, Some(2));
    server.send(&Frame::text("3"));
    bed.turn();
    assert_eq!(bed.journal().received, ["1", "2", "3"], "the connection lives");
}

#[test]
fn envelopes_are_left_whole_where_none_are_sent() {
    let (mut bed, server) = Bed::opened(|client| client.batch(|_| {}));
    server.send(&Frame::text(envelope(&["1", "2"])));
    bed.turn();
    assert_eq!(bed.journal().received, [envelope(&["1", "2"])]);
}

#[test]
fn envelopes_are_taken_apart_to_the_end_of_the_connection() {
    let (mut bed, mut server) = opened();
    let client = bed.client;
    bed.act(move |_, clients| clients.remove(client));
    server.send(&Frame::text(envelope(&["1", "2"])));
    bed.turn();
    assert_eq!(bed.journal().received, ["1", "2"]);
    assert_eq!(arrivals(&mut server), [""; 0]);
}
