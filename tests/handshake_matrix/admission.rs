//! Who is let in: origins, capacity, a server that is about to stop.

use std::net::Ipv4Addr;
use std::time::Duration;

use corewire::{CloseCode, Origins};

use super::bed::*;

fn from(origin: &str) -> String {
    format!("Origin: {origin}")
}

fn bed_for(origins: Origins) -> Bed {
    Bed::with(|setup| setup.settings.origins = origins)
}

// RFC 6455 §10.2
#[test]
fn page_of_another_origin_gets_403_by_default() {
    let mut bed = Bed::new();
    for origin in [
        "http://elsewhere.example",
        "http://server.example.com.elsewhere.example",
        "http://sub.server.example.com",
        "http://server.example.com:8080",
        "https://server.example.com:80",
        "http://server.example.com/",
        "http://server.example.com http://server.example.com",
        "server.example.com",
        "null",
        "",
        "file://",
        "\u{e4}",
    ] {
        // A name that is not ASCII breaks the grammar, and is told so.
        let status_line = if origin.is_ascii() { FORBIDDEN } else { BAD_REQUEST };
        bed.refuse_unasked(upgrade(&[&from(origin)]), status_line);
    }
    bed.refuse_unasked(upgrade(&["Host: a:9001", "Origin: http://a"]), FORBIDDEN);
    // RFC 6454 §7.3
    bed.refuse_unasked(upgrade(&["Origin: http://a", "Origin: http://a"]), BAD_REQUEST);
    bed.expect_empty();
}

// RFC 6455 §10.2. TLS may have ended before us, so that the scheme says nothing.
#[test]
fn page_of_the_same_origin_is_accepted_by_default_whatever_its_scheme() {
    let mut bed = Bed::new();
    let same: &[&[&str]] = &[
        &["Origin"],
        &["Origin: http://server.example.com"],
        &["Origin: https://server.example.com"],
        &["Origin: HTTP://SERVER.example.com:80"],
        &["Origin: https://server.example.com:443"],
        &["Host: server.example.com:80", "Origin: http://server.example.com"],
        &["Host: server.example.com:443", "Origin: https://server.example.com"],
        &["Host: 127.0.0.1:9001", "Origin: http://127.0.0.1:9001"],
        &["Host: [::1]:9001", "Origin: http://[::1]:9001"],
    ];
    for lines in same {
        bed.accept(upgrade(lines));
    }
    // The authority of an absolute target takes the place of Host.
    let target = "http://proxied.example:8080/";
    bed.accept(upgrade_at(target, &["Origin: http://proxied.example:8080"]));
    bed.refuse_unasked(upgrade_at(target, &["Origin: http://server.example.com"]), FORBIDDEN);
    bed.expect_empty();
}

// RFC 6454 §5
#[test]
fn list_of_origins_lets_in_who_stands_there_and_nobody_else() {
    let list = ["https://a.example", "http://b.example:8080", "app://c"];
    let mut bed = bed_for(Origins::allow(list).unwrap());
    for origin in ["https://a.example", "https://A.EXAMPLE:443", "http://b.example:8080", "app://c"]
    {
        bed.accept(upgrade(&[&from(origin)]));
    }
    // Its own pages have to be listed too.
    for origin in [
        "http://a.example",
        "https://a.example:444",
        "https://a.example.elsewhere.example",
        "http://b.example",
        "http://server.example.com",
        "null",
        "",
    ] {
        bed.refuse_unasked(upgrade(&[&from(origin)]), FORBIDDEN);
    }
    // Programs send no Origin.
    bed.accept(upgrade(&[]));
    bed.expect_empty();
    let mut bed = bed_for(Origins::allow([]).unwrap());
    bed.refuse_unasked(upgrade(&["Origin: http://server.example.com"]), FORBIDDEN);
}

#[test]
fn any_origin_is_accepted_when_that_is_written_down() {
    let mut bed = bed_for(Origins::Any);
    for origin in ["null", "", "http://elsewhere.example", "garbage", "a b"] {
        bed.accept(upgrade(&[&from(origin)]));
    }
    bed.expect_empty();
}

/// What browsers may ask of plain HTTP is CORS's affair, not the engine's.
#[test]
fn origin_is_not_asked_of_plain_http() {
    let mut bed = Bed::new();
    let (_, answer) = bed.ask(plain("GET /page", &["Origin: http://elsewhere.example"]));
    assert_eq!(answer.status_line, OK);
}

// RFC 9110 §15.6.4
#[test]
fn connection_over_capacity_gets_503_and_room_is_given_again() {
    let mut bed = Bed::with(|setup| setup.reactor.limits.connections_max = 2);
    let (mut first, _) = bed.accept(upgrade(&[]));
    let (_second, _) = bed.accept(upgrade(&[]));
    for _ in 0..5 {
        let answer = bed.refuse_unasked(upgrade(&[]), UNAVAILABLE);
        assert_eq!(answer.field("Retry-After"), Some("5"));
    }
    // Health is not a question of capacity.
    let (_, answer) = bed.ask(plain("GET /health", &[]));
    assert_eq!(answer.status_line, OK);
    assert_eq!(bed.reactor.counters().refused_over_capacity, 5);
    // Those who are in do not notice, and one who goes makes room for one.
    bed.expect_echo(&mut first);
    drop(first);
    bed.until("the first to go", |bed| bed.reactor.usage().open == 1);
    let (_third, _) = bed.accept(upgrade(&[]));
    bed.refuse_unasked(upgrade(&[]), UNAVAILABLE);
    drop((_second, _third));
    bed.expect_empty();
}

#[test]
fn connections_of_one_address_are_bounded_apart_from_those_of_others() {
    let mut bed = Bed::with(|setup| setup.reactor.limits.connections_per_address_max = Some(2));
    let enter = |bed: &mut Bed, address: Ipv4Addr| {
        let mut client = bed.connect_from(address);
        bed.write(&mut client, upgrade(&[]));
        let answer = bed.answer(&mut client);
        (client, answer)
    };
    let here = Ipv4Addr::new(127, 0, 0, 1);
    let (mut first, answer) = enter(&mut bed, here);
    assert_eq!(answer.status_line, SWITCHING);
    let (_second, answer) = enter(&mut bed, here);
    assert_eq!(answer.status_line, SWITCHING);
    let (mut third, answer) = enter(&mut bed, here);
    assert_eq!(answer.status_line, UNAVAILABLE);
    assert_eq!(answer.field("Retry-After"), Some("5"));
    bed.expect_end(&mut third);
    let (_elsewhere, answer) = enter(&mut bed, Ipv4Addr::new(127, 0, 0, 2));
    assert_eq!(answer.status_line, SWITCHING);
    bed.expect_echo(&mut first);
    drop(first);
    bed.until("the first to go", |bed| bed.reactor.usage().open == 2);
    let (_fourth, answer) = enter(&mut bed, here);
    assert_eq!(answer.status_line, SWITCHING);
}

#[test]
fn server_that_is_about_to_stop_gives_503_and_closes() {
    let mut bed = Bed::new();
    let (mut open, _) = bed.accept(upgrade(&[]));
    let mut late = bed.connect();
    let request = upgrade(&[]);
    bed.write(&mut late, &request[..20]);
    let mut plain_late = bed.connect();
    bed.write(&mut plain_late, "GET /page HT");
    let mut idle = bed.connect();
    bed.write(&mut idle, plain("GET /page", &[]));
    bed.answer(&mut idle);
    bed.rest();
    bed.reactor.handle().shutdown(Duration::from_secs(10)).unwrap();
    bed.rest();
    // Who waits for nothing is let go, who has begun to ask is answered.
    bed.expect_end(&mut idle);
    bed.write(&mut late, &request[20..]);
    let answer = bed.answer(&mut late);
    assert_eq!(answer.status_line, UNAVAILABLE);
    assert_eq!(answer.field("Retry-After"), Some("5"));
    bed.expect_end(&mut late);
    bed.write(&mut plain_late, "TP/1.1\r\nHost: a\r\n\r\n");
    let answer = bed.answer(&mut plain_late);
    assert_eq!((&*answer.status_line, answer.field("Connection")), (OK, Some("close")));
    bed.expect_end(&mut plain_late);
    // Who is in is told to go.
    bed.write(&mut open, masked(0x88, &1001_u16.to_be_bytes()));
    bed.expect_fail(&mut open, CloseCode::GOING_AWAY);
    drop((late, plain_late));
    bed.until("the loop to end", |bed| bed.reactor.is_finished());
    bed.expect_empty();
}
