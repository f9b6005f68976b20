//! Where paths lead, and what is different there.

use std::time::Duration;

use crate::client::{BINARY, Client, PING, TEXT, request};
use crate::process::{Server, corewire, serve, serve_as};
use crate::scrap::Scrap;

fn open(server: &Server, path: &str) -> Client {
    let mut client = Client::dial(server.port);
    assert_eq!(client.upgrade(path, "").status, 101, "{path}");
    client
}

#[test]
fn paths_lead_to_the_websocket_and_to_its_page() {
    let server = serve(&["--path", "/chat/{room}", "--path", "/files/{*rest}"]);
    for path in ["/chat/lobby", "/chat/a%2Fb?query", "/files/a/b/c"] {
        open(&server, path).echo(TEXT, b"here");
        assert_eq!(request(server.port, "GET", path).status, 200, "{path}");
    }
    for path in ["/", "/chat", "/chat/", "/chat/a/b", "/files/", "/elsewhere"] {
        assert_eq!(Client::dial(server.port).upgrade(path, "").status, 404, "{path}");
        assert_eq!(request(server.port, "GET", path).status, 404, "{path}");
    }
    assert_eq!(request(server.port, "GET", "/healthz").body, b"ok\n");
}

#[test]
fn each_route_has_settings_of_its_own_and_its_listeners_otherwise() {
    let file = Scrap::new(
        "max-message = \"1KiB\"\npath = \"/\"\n\
         [[listener]]\nlisten = \"127.0.0.1:0\"\nno-heartbeat = true\n\
         [[route]]\npath = \"/large/{name}\"\nmax-message = \"2KiB\"\norigin = \"any\"\n\
         [[route]]\npath = [\"/large/lively\", \"/lively\"]\nping-every = \"50ms\"\n",
    );
    let server = serve_as(&mut corewire(&["serve", "--config", file.name()]));
    let status =
        |path| Client::dial(server.port).upgrade(path, "Origin: http://a.example\r\n").status;
    assert_eq!((status("/"), status("/large/a"), status("/lively")), (403, 101, 403));
    for (path, bytes_max) in [("/", 1024), ("/large/a", 2048)] {
        let mut client = open(&server, path);
        client.echo(BINARY, &vec![7; bytes_max]);
        assert!(client.is_silent_for(Duration::from_millis(150)), "{path}");
        client.send(BINARY, &vec![7; bytes_max + 1]);
        assert_eq!(client.close_code(), 1009, "{path}");
    }
    for path in ["/lively", "/large/lively"] {
        let mut client = open(&server, path);
        assert_eq!(client.frame().opcode, PING, "{path}");
        client.send(BINARY, &[7; 1025]);
        assert_eq!(client.close_code(), 1009, "{path}");
    }
}
