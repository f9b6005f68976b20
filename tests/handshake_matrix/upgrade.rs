//! Requests for a WebSocket whose head is well-formed: who is let in, and who is told what.

use corewire::{InvalidHeader, PanicPolicy};

use super::bed::*;

// RFC 6455 §4.2.1 item 5
#[test]
fn key_that_is_not_the_base64_of_sixteen_bytes_gets_400() {
    let mut bed = Bed::new();
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    bed.refuse_unasked(upgrade(&["Sec-WebSocket-Key"]), BAD_REQUEST);
    bed.refuse_unasked(upgrade(&[KEY, KEY]), BAD_REQUEST);
    bed.refuse_unasked(upgrade(&[KEY, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]), BAD_REQUEST);
    for key in [
        "",
        "=",
        "====",
        "secret",
        // 15 and 17 bytes.
        "dGhlIHNhbXBsZSBub25j",
        "dGhlIHNhbXBsZSBub25jZTE=",
        // Without padding, with half of it, with too much.
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        // A tail behind it, or space within.
        "dGhlIHNhbXBsZSBub25jZQ==x",
        "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==",
        "dGhlIHNhbXBs ZSBub25jZQ==",
        // The alphabet for URLs.
        "__________________-_-w==",
        "\u{e4}GhlIHNhbXBsZSBub25jZ==",
    ] {
        bed.refuse_unasked(upgrade(&[&format!("Sec-WebSocket-Key: {key}")]), BAD_REQUEST);
    }
    bed.expect_empty();
}

// RFC 6455 §4.4
#[test]
fn version_other_than_13_gets_426_and_is_told_ours() {
    let mut bed = Bed::new();
    for version in ["8", "12", "14", "013", "0x0d", "13x", "+13", "13.0", "", "13, 8", "8, 13"] {
        let line = format!("Sec-WebSocket-Version: {version}");
        let answer = bed.refuse_unasked(upgrade(&[&line]), UPGRADE_REQUIRED);
        assert_eq!(answer.field("Sec-WebSocket-Version"), Some("13"), "{version}");
        assert_eq!(answer.field("Upgrade"), Some("websocket"), "{version}");
        assert_eq!(answer.field("Connection"), Some("close, upgrade"), "{version}");
    }
    let twice = ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"];
    bed.refuse_unasked(upgrade(&twice), UPGRADE_REQUIRED);
    // Another version may well have another kind of key: the version is what it has to be told.
    let hybi = ["Sec-WebSocket-Version: 7", "Sec-WebSocket-Key: x"];
    bed.refuse_unasked(upgrade(&hybi), UPGRADE_REQUIRED);
    bed.expect_empty();
}

// RFC 6455 §4.2.1 item 6, §4.4
#[test]
fn missing_version_gets_400_and_is_told_ours() {
    let mut bed = Bed::new();
    let answer = bed.refuse_unasked(upgrade(&["Sec-WebSocket-Version"]), BAD_REQUEST);
    assert_eq!(answer.field("Sec-WebSocket-Version"), Some("13"));
    bed.expect_empty();
}

// RFC 6455 §4.2.1 item 4
#[test]
fn connection_without_the_token_upgrade_gets_400() {
    let mut bed = Bed::new();
    for line in [
        "Connection",
        "Connection:",
        "Connection: keep-alive",
        "Connection: xupgrade",
        "Connection: upgrad",
        "Connection: upgrade/1",
        "Connection: up grade",
        "Connection: \"upgrade\"",
    ] {
        bed.refuse_unasked(upgrade(&[line]), BAD_REQUEST);
    }
    bed.expect_empty();
}

// RFC 6455 §4.2.1 item 1
#[test]
fn upgrade_by_another_method_than_get_gets_405() {
    let mut bed = Bed::new();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "get", "Get", "GETT", "SECRET"] {
        let request = upgrade(&[]).replacen("GET", method, 1);
        let answer = bed.refuse_unasked(request, METHOD_NOT_ALLOWED);
        assert_eq!(answer.field("Allow"), Some("GET"), "{method}");
    }
    bed.expect_empty();
}

// RFC 9110 §9.3.2: an answer to HEAD has no body; its length is told nevertheless.
#[test]
fn upgrade_by_head_gets_405_without_a_body() {
    let mut bed = Bed::new();
    let mut client = bed.connect();
    bed.write(&mut client, upgrade(&[]).replacen("GET", "HEAD", 1));
    bed.until("the end", |_| client.has_ended());
    let answer = String::from_utf8(client.received().to_vec()).unwrap();
    assert!(answer.starts_with(METHOD_NOT_ALLOWED), "{answer}");
    assert!(answer.contains("\r\nAllow: GET\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(bed.app().requests.is_empty());
}

// §2.3, RFC 6455 §4.2.1 item 1
#[test]
fn upgrade_in_another_version_of_http_than_1_1_gets_400() {
    let mut bed = Bed::new();
    for version in [
        "HTTP/1.0",
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/2",
        "HTTP/1.1x",
        "HTTP/1.10",
        "HTTP/1.",
        "HTTP/11",
        "http/1.1",
        "HTTPS/1.1",
        "HTTP/1.1 ",
        " HTTP/1.1",
        "secret",
        "",
    ] {
        bed.refuse_unasked(upgrade(&[]).replacen("HTTP/1.1", version, 1), BAD_REQUEST);
    }
    bed.refuse_unasked(upgrade(&[]).replacen(" HTTP/1.1", "", 1), BAD_REQUEST);
    bed.expect_empty();
}

// §3.2
#[test]
fn host_that_is_missing_empty_repeated_or_malformed_gets_400() {
    let mut bed = Bed::new();
    let host_lines: &[&[&str]] = &[
        &["Host"],
        &["Host:"],
        &["Host: \t"],
        &["Host: a", "Host: a"],
        &["Host: a", "hOST: b"],
        &["Host: a, b"],
        &["Host: a b"],
        &["Host: secret/path"],
        &["Host: user@a"],
        &["Host: a:port"],
        &["Host: a:65536"],
        &["Host: [::1"],
        &["Host: ::1"],
        &["Host: \u{e4}"],
    ];
    for lines in host_lines {
        bed.refuse_unasked(upgrade(lines), BAD_REQUEST);
        bed.refuse_unasked(plain("GET /page", lines), BAD_REQUEST);
    }
    // A target in absolute-form frees nobody of the Host field.
    bed.refuse_unasked(upgrade_at("http://a/", &["Host"]), BAD_REQUEST);
    bed.refuse_unasked(upgrade_at("http://user@a/", &[]), BAD_REQUEST);
    bed.expect_empty();
}

// §3.2
#[test]
fn target_that_is_no_path_gets_400() {
    let mut bed = Bed::new();
    for target in ["*", "a", "a:80", "/a#secret", "ftp//a", "?", "", "/a b", "/\u{e4}", "/a\tb"] {
        bed.refuse_unasked(upgrade_at(target, &[]), BAD_REQUEST);
    }
    bed.expect_empty();
}

// §6.3: a body would be taken for frames.
#[test]
fn upgrade_that_declares_a_body_gets_400() {
    let mut bed = Bed::new();
    let body_lines: &[&[&str]] = &[
        &["Content-Length: 1"],
        &["Content-Length: +0"],
        &["Content-Length: -1"],
        &["Content-Length: 0x0"],
        &["Content-Length:"],
        &["Content-Length: 0, 0"],
        &["Content-Length: 0", "Content-Length: 0"],
        &["Content-Length: 99999999999999999999"],
        &["Transfer-Encoding: chunked"],
        &["Transfer-Encoding: identity"],
        &["Transfer-Encoding:"],
        &["Transfer-Encoding: secret"],
        &["Content-Length: 0", "Transfer-Encoding: chunked"],
    ];
    for lines in body_lines {
        bed.refuse_unasked(upgrade(lines), BAD_REQUEST);
    }
    bed.accept(upgrade(&["Content-Length: 0"]));
    bed.expect_empty();
}

// RFC 9110 §10.1.1
#[test]
fn upgrade_that_expects_something_gets_417() {
    let mut bed = Bed::new();
    bed.refuse_unasked(upgrade(&["Expect: 100-continue"]), EXPECTATION_FAILED);
    bed.refuse_unasked(upgrade(&["Expect: secret"]), EXPECTATION_FAILED);
    // What cannot be expected of an upgrade is judged first where it also declares a body.
    let lines = ["Expect: 100-continue", "Content-Length: 4"];
    bed.refuse_unasked(upgrade(&lines) + "ping", BAD_REQUEST);
    bed.expect_empty();
}

// RFC 6455 §1.3, §4.2.2 item 5
#[test]
fn request_of_the_rfc_gets_the_answer_of_the_rfc_and_nothing_more() {
    let mut bed = Bed::new();
    let mut client = bed.connect();
    bed.write(&mut client, upgrade(&[]));
    assert_eq!(bed.bytes(&mut client, ACCEPTED.len()), ACCEPTED.as_bytes());
    bed.expect_echo(&mut client);
    assert_eq!(bed.app().requests, ["GET /"]);
    drop(client);
    bed.expect_empty();
}

// RFC 6455 §4.2.1 items 3 and 4, RFC 9110 §5.6.1, §7.6.1
#[test]
fn upgrade_and_connection_are_lists_of_tokens_in_any_case() {
    let mut bed = Bed::new();
    let legal_lines: &[&[&str]] = &[
        &["Connection: keep-alive, Upgrade"],
        &["Connection: keep-alive", "Connection: upgrade"],
        &["Connection:upgrade", "Connection: close"],
        &["connection:\tkeep-alive\t,\tUPGRADE\t ", "UPGRADE:   WebSocket  "],
        &["Connection: ,, upgrade ,"],
        &["Upgrade: foo/2, websocket"],
        &["Upgrade: foo/2", "Upgrade: ,websocket,"],
        &["HOST: a:80", "SEC-WEBSOCKET-KEY: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-VERSION:13"],
        &["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"],
        &["Host: [::1]:9001"],
        &["X-Empty:", "X-Bytes: \u{e4}\u{f6}", "X-Tab: a\tb"],
    ];
    for lines in legal_lines {
        let (_, answer) = bed.accept(upgrade(lines));
        assert_eq!(answer.fields.len(), 3, "{lines:?}: {answer:?}");
    }
    assert_eq!(bed.app().opened, legal_lines.len());
    bed.expect_empty();
}

// §2.2
#[test]
fn one_empty_line_before_the_request_is_skipped_and_no_second_one() {
    let mut bed = Bed::new();
    bed.accept(format!("\r\n{}", upgrade(&[])));
    bed.refuse_unasked(format!("\r\n\r\n{}", upgrade(&[])), BAD_REQUEST);
    bed.expect_empty();
}

// §3.2.2
#[test]
fn absolute_target_is_accepted_and_its_path_is_the_path() {
    let mut bed = Bed::new();
    bed.accept(upgrade_at("http://proxied.example:8080/chat?a=b", &[]));
    bed.accept(upgrade_at("HTTPS://proxied.example", &[]));
    let answer = bed.refuse(upgrade_at("http://proxied.example/absent", &[]), NOT_FOUND);
    assert_eq!(answer.body, "there is nothing here\n");
    bed.expect_empty();
}

// RFC 6455 §4.2.2 item 4
#[test]
fn unknown_subprotocol_and_extension_are_left_out_of_the_answer() {
    let mut bed = Bed::new();
    let unknown: &[&[&str]] = &[
        &["Sec-WebSocket-Protocol: mqtt, soap"],
        &["Sec-WebSocket-Protocol: CHAT.V1"],
        &["Sec-WebSocket-Protocol: "],
        &["Sec-WebSocket-Protocol: \"chat.v1\", chat v1, ,"],
        &["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"],
        &["Sec-WebSocket-Extensions: foo; a=\"b\", bar", "Sec-WebSocket-Extensions: baz"],
    ];
    for lines in unknown {
        let (_, answer) = bed.accept(upgrade(lines));
        assert_eq!(answer.fields.len(), 3, "{lines:?}: {answer:?}");
    }
    bed.expect_empty();
}

// RFC 6455 §4.2.2 item 5.5, §11.3.4
#[test]
fn subprotocol_is_agreed_on_from_all_lines_of_the_offer() {
    let mut bed = Bed::new();
    let offers: &[(&[&str], &str)] = &[
        (&["Sec-WebSocket-Protocol: chat.v2, chat.v1"], "chat.v2"),
        (&["Sec-WebSocket-Protocol: mqtt", "sec-websocket-protocol: ,chat.v1,"], "chat.v1"),
        (&["Sec-WebSocket-Protocol: mqtt,\tchat.v1\t"], "chat.v1"),
    ];
    for (lines, expected) in offers {
        let (_, answer) = bed.accept(upgrade(lines));
        assert_eq!(answer.field("Sec-WebSocket-Protocol"), Some(*expected));
        assert_eq!(answer.fields.len(), 4, "{answer:?}");
    }
    bed.expect_empty();
}

// RFC 6455 §9.1
#[test]
fn malformed_offer_of_extensions_gets_400() {
    let mut bed = Bed::new();
    for offer in ["x;;y", ";", "x; =1", "x; a=\"b", "x y", "x; a=b c", "\u{e4}"] {
        let line = format!("Sec-WebSocket-Extensions: {offer}");
        bed.refuse_unasked(upgrade(&["Sec-WebSocket-Extensions: secret", &line]), BAD_REQUEST);
    }
    bed.expect_empty();
}

// RFC 9110 §5.5: a header that would break the answer apart is refused where it is given.
#[test]
fn h18_control_characters_given_by_the_application_never_reach_the_wire() {
    let mut bed = Bed::new();
    let (_, answer) = bed.accept(upgrade_at("/split", &[]));
    assert_eq!(answer.fields.len(), 3, "{answer:?}");
    let each = [InvalidHeader::Value, InvalidHeader::Name, InvalidHeader::Token];
    assert_eq!(bed.app().header_errors, each.repeat(splits().count()));
    bed.app().header_errors.clear();
    let (_, answer) = bed.ask(plain("GET /split", &[]));
    assert_eq!(answer.status_line, NOT_FOUND);
    assert_eq!((answer.field("Location"), answer.field("Y")), (None, None));
    let each = [InvalidHeader::Value, InvalidHeader::Name];
    assert_eq!(bed.app().header_errors, each.repeat(splits().count()));
    bed.expect_empty();
}

// RFC 6455 §4.1: the client would have to fail the connection.
#[test]
fn subprotocol_that_was_not_offered_is_the_applications_error() {
    let mut bed = Bed::new();
    for lines in [&[][..], &["Sec-WebSocket-Protocol: chat.v1"]] {
        let answer = bed.refuse(upgrade_at("/unoffered", lines), SERVER_ERROR);
        assert_eq!(answer.field("Sec-WebSocket-Protocol"), None);
    }
    bed.expect_empty();
}

#[test]
fn caught_panic_of_the_application_gets_500_and_the_loop_goes_on() {
    let mut bed = Bed::with(|setup| setup.reactor.panics = PanicPolicy::CloseConnection);
    let (mut client, _) = bed.accept(upgrade(&[]));
    bed.refuse(upgrade_at("/panic", &[]), SERVER_ERROR);
    bed.expect_echo(&mut client);
    drop(client);
    bed.expect_empty();
}

// RFC 6455 §4.2.2 item 4
#[test]
fn path_that_the_application_does_not_know_gets_404_with_its_words() {
    let mut bed = Bed::new();
    let answer = bed.refuse(upgrade_at("/absent", &[]), NOT_FOUND);
    assert_eq!(answer.body, "there is nothing here\n");
    assert_eq!(answer.field("Content-Length"), Some("22"));
    bed.expect_empty();
}
