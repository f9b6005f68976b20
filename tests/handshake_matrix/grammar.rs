//! Heads that break the grammar of HTTP, and heads in pieces.

use super::bed::*;

/// A plain request and an upgrade with `line` among their fields.
fn with_line(line: &[u8]) -> [Vec<u8>; 2] {
    let insert = |head: String| {
        let at = head.len() - 2;
        [&head.as_bytes()[..at], line, b"\r\n\r\n"].concat()
    };
    [insert(plain("GET /page", &[])), insert(upgrade(&[]))]
}

// §5, §5.1, §5.2, RFC 9110 §5.5
#[test]
fn malformed_field_line_gets_400() {
    let mut bed = Bed::new();
    let lines: &[&[u8]] = &[
        b"X-Secret : a",
        b"X-Secret\t: a",
        b"X-Secret",
        b"secret a",
        b": secret",
        b":",
        b" folded: secret",
        b"X: a\r\n secret",
        b"X: a\r\n\tsecret",
        b"X: a\0secret",
        b"X: a\rsecret",
        b"X: a\nsecret",
        b"X: a\x01",
        b"X: a\x1b[31m",
        b"X: a\x7f",
        b"X\0: a",
        b"X(Y): a",
        b"X/Y: a",
        b"\x80: a",
        b"\r: a",
    ];
    for line in lines {
        for request in with_line(line) {
            bed.refuse_unasked(request, BAD_REQUEST);
        }
    }
    bed.expect_empty();
}

// §2.2. We choose to refuse them: parsers that disagree on where a line ends let requests through.
#[test]
fn bare_line_feed_gets_400() {
    let mut bed = Bed::new();
    for request in [plain("GET /page", &[]), upgrade(&[])] {
        bed.refuse_unasked(request.replace("\r\n", "\n"), BAD_REQUEST);
        bed.refuse_unasked(request.replacen("\r\n", "\n", 1), BAD_REQUEST);
        bed.refuse_unasked(request.replacen("\r\n\r\n", "\r\n\n", 1), BAD_REQUEST);
        bed.refuse_unasked(request.replacen("\r\n\r\n", "\n\r\n", 1), BAD_REQUEST);
        bed.refuse_unasked(format!("\n{request}"), BAD_REQUEST);
    }
    bed.expect_empty();
}

#[test]
fn other_protocols_and_junk_get_400_at_their_first_bytes() {
    let mut bed = Bed::new();
    let junk: &[&[u8]] = &[
        // The beginning of a TLS ClientHello.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        // The preface of HTTP/2 (RFC 9113 §3.4), and what follows it.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x82\x84\x37\xfa\x21\x3dabcd",
        b"\0",
        b"\xff\xff\xff\xff",
        b" GET / HTTP/1.1\r\n",
        b"\r\r",
        b"{}",
    ];
    for bytes in junk {
        // The end of a head is never sent, so that nothing is waited for.
        bed.refuse_unasked(bytes, BAD_REQUEST);
    }
    bed.expect_empty();
}

#[test]
fn request_byte_by_byte_is_answered_as_if_whole() {
    let mut bed = Bed::new();
    let request = upgrade(&["Connection: keep-alive, Upgrade", "Sec-WebSocket-Protocol: chat.v1"]);
    let mut client = bed.connect();
    bed.write_pieces(&mut client, request.as_bytes().chunks(1));
    let answer = bed.answer(&mut client);
    assert_eq!(answer.status_line, SWITCHING);
    assert_eq!(answer.field("Sec-WebSocket-Protocol"), Some("chat.v1"));
    bed.expect_echo(&mut client);
    drop(client);

    let mut client = bed.connect();
    bed.write_pieces(&mut client, plain("GET /page", &[]).as_bytes().chunks(1));
    assert_eq!(bed.answer(&mut client).body, "a page\n");
    bed.write_pieces(&mut client, b"GET /page HTTP/1.1\r\nX : secret".chunks(1));
    assert_eq!(bed.answer(&mut client).status_line, BAD_REQUEST);
    bed.expect_end(&mut client);
    drop(client);
    bed.expect_empty();
}

#[test]
fn request_torn_anywhere_is_answered_as_if_whole() {
    let mut bed = Bed::new();
    let mut request = upgrade(&[]).into_bytes();
    let head_bytes = request.len();
    request.extend(masked(0x81, b"first"));
    for cut in 1..request.len() {
        let mut client = bed.connect();
        bed.write_pieces(&mut client, [&request[..cut], &request[cut..]]);
        let expected = [ACCEPTED.as_bytes(), b"\x81\x05first"].concat();
        assert_eq!(bed.bytes(&mut client, expected.len()), expected, "torn at {cut}");
    }
    // Inside the empty line that ends the head, in all ways at once.
    let (head, end) = request[..head_bytes].split_at(head_bytes - 4);
    for ways in 0..8 {
        let mut pieces = vec![head];
        let mut from = 0;
        for at in 1..=3 {
            if ways & (1 << (at - 1)) != 0 {
                pieces.push(&end[from..at]);
                from = at;
            }
        }
        pieces.push(&end[from..]);
        let mut client = bed.connect();
        bed.write_pieces(&mut client, pieces);
        assert_eq!(bed.answer(&mut client).status_line, SWITCHING);
        bed.expect_echo(&mut client);
    }
    bed.expect_empty();
}

#[test]
fn torn_refusal_is_told_before_the_head_ends() {
    let mut bed = Bed::new();
    let mut client = bed.connect();
    bed.write_pieces(&mut client, [&b"GET / HT"[..], b"TP/3"]);
    assert_eq!(bed.answer(&mut client).status_line, BAD_REQUEST);
    bed.expect_end(&mut client);
    drop(client);
    bed.expect_empty();
}

#[test]
fn end_of_the_stream_within_a_head_is_the_end_of_the_connection() {
    let mut bed = Bed::new();
    let request = upgrade(&[]);
    for bytes in [&b""[..], b"\r", b"GET", &request.as_bytes()[..request.len() - 1]] {
        let mut client = bed.connect();
        bed.write(&mut client, bytes);
        client.shut();
        bed.expect_end(&mut client);
    }
    assert!(bed.app().requests.is_empty());
    bed.expect_empty();
}
