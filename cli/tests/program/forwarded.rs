//! Who has asked, by the log, where proxies tell it in a field of the request.

use std::os::unix::net::UnixStream;

use crate::client::Client;
use crate::process::{Server, corewire, serve, serve_as};
use crate::scrap::Scrap;

fn serve_trusting(proxies: &str, field: &str) -> Server {
    serve(&["--log", "debug", "--trusted-proxies", proxies, "--forwarded", field])
}

/// Who has sent an upgrade with these fields; of the peer the port is left out.
#[track_caller]
fn caller(server: &mut Server, mut client: Client, fields: &str) -> String {
    assert_eq!(client.upgrade("/", fields).status, 101);
    let line = server.wait_for(" GET /");
    let (_, said) = line.split_once(" DEBUG ").unwrap();
    let caller = said.strip_suffix(" GET /").unwrap();
    caller.rsplit_once(':').map_or(caller, |(caller, _)| caller).to_owned()
}

#[track_caller]
fn assert_callers<const N: usize>(proxies: &str, field: &str, cases: [(&str, &str); N]) {
    let mut server = serve_trusting(proxies, field);
    for (fields, expected) in cases {
        let client = Client::dial(server.port);
        assert_eq!(caller(&mut server, client, fields), expected, "{fields:?}");
    }
}

#[test]
fn log_names_the_last_client_that_no_trusted_proxy_is() {
    assert_callers(
        "127.0.0.1, 10.0.0.0/8",
        "x-forwarded-for",
        [
            ("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7 via 127.0.0.1"),
            ("X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.2\r\n", "203.0.113.7 via 127.0.0.1"),
            (
                "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.7:80\r\n",
                "203.0.113.7:80 via 127.0.0.1",
            ),
            ("X-Forwarded-For: [2001:db8::1]:80\r\n", "[2001:db8::1]:80 via 127.0.0.1"),
            ("X-Forwarded-For: unknown\r\n", "unknown via 127.0.0.1"),
            // The proxy asks for itself, or nobody can tell.
            ("", "127.0.0.1"),
            ("X-Forwarded-For: 127.0.0.1\r\n", "127.0.0.1"),
            ("X-Forwarded-For: 203.0.113.7, 6.6.6.6 DEBUG\r\n", "127.0.0.1"),
        ],
    );
}

#[test]
fn log_believes_one_field_alone() {
    let both = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.2\r\n";
    for (field, other, expected) in [
        ("x-forwarded-for", "Forwarded: for=6.6.6.6\r\n", "192.0.2.1 via 127.0.0.1"),
        ("forwarded", "X-Forwarded-For: 6.6.6.6\r\n", "192.0.2.2 via 127.0.0.1"),
    ] {
        assert_callers("127.0.0.1", field, [(both, expected), (other, "127.0.0.1")]);
    }
}

#[test]
fn log_believes_nobody_who_is_not_trusted() {
    let forged = "X-Forwarded-For: 203.0.113.7, 127.0.0.2\r\nForwarded: for=203.0.113.7\r\n";
    for field in ["x-forwarded-for", "forwarded"] {
        assert_callers("127.0.0.2,unix", field, [(forged, "127.0.0.1")]);
    }
    let mut server = serve(&["--log", "debug"]);
    let client = Client::dial(server.port);
    assert_eq!(caller(&mut server, client, forged), "127.0.0.1");
}

#[test]
fn each_listener_has_its_own_field_and_proxies() {
    let path = Scrap::new("");
    std::fs::remove_file(&path.0).unwrap();
    let file = Scrap::new(&format!(
        "log = \"debug\"\nforwarded = \"forwarded\"\ntrusted-proxies = \"unix\"\n\
         [[listener]]\nlisten = \"unix:{}\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\nforwarded = \"x-forwarded-for\"\n\
         trusted-proxies = [\"192.0.2.0/24\", \"127.0.0.1\"]\n",
        path.name()
    ));
    let mut server = serve_as(&mut corewire(&["serve", "--config", file.name()]));
    let fields =
        "X-Forwarded-For: 192.0.2.1, 203.0.113.7, 192.0.2.2\r\nForwarded: for=192.0.2.3\r\n";
    let client = Client::over(UnixStream::connect(&path.0).unwrap());
    assert_eq!(caller(&mut server, client, fields), "192.0.2.3 via unix");
    let client = Client::dial(server.port);
    assert_eq!(caller(&mut server, client, fields), "203.0.113.7 via 127.0.0.1");
}

#[test]
fn limits_by_address_do_not_look_at_the_field() {
    let server = serve(&[
        "--threads",
        "1",
        "--max-connections-per-address",
        "1",
        "--trusted-proxies",
        "127.0.0.1",
        "--forwarded",
        "x-forwarded-for",
    ]);
    let upgrade = |client: &mut Client, address| {
        client.upgrade("/", &format!("X-Forwarded-For: {address}\r\n")).status
    };
    let [mut first, mut second] = [0, 1].map(|_| Client::dial(server.port));
    assert_eq!(upgrade(&mut first, "192.0.2.1"), 101);
    assert_eq!(upgrade(&mut second, "192.0.2.2"), 503);
}
