//! A loop on a loopback socket, an application that notes what it sees, and clients that write
//! bytes and read answers, all on the test's own thread.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use corewire::{
    Accept, Arrival, CloseCode, CloseSummary, Config, Context, Handler, InvalidHeader,
    ListenOptions, ListenerSettings, Message, MioNet, Reactor, ReactorConfig, Request, Response,
    Role, Verdict,
};
use socket2::{Domain, Socket, Type};

/// No answer takes so long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

pub const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols";
pub const OK: &str = "HTTP/1.1 200 OK";
pub const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request";
pub const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden";
pub const NOT_FOUND: &str = "HTTP/1.1 404 Not Found";
pub const METHOD_NOT_ALLOWED: &str = "HTTP/1.1 405 Method Not Allowed";
pub const TIMEOUT: &str = "HTTP/1.1 408 Request Timeout";
pub const URI_TOO_LONG: &str = "HTTP/1.1 414 URI Too Long";
pub const EXPECTATION_FAILED: &str = "HTTP/1.1 417 Expectation Failed";
pub const UPGRADE_REQUIRED: &str = "HTTP/1.1 426 Upgrade Required";
pub const FIELDS_TOO_LARGE: &str = "HTTP/1.1 431 Request Header Fields Too Large";
pub const SERVER_ERROR: &str = "HTTP/1.1 500 Internal Server Error";
pub const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable";

/// The whole answer to [`upgrade`] when nothing further was agreed on (RFC 6455 §1.3).
pub const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Greets nobody, echoes messages and answers a few paths; notes everything.
///
/// `/health` and `/page` are plain HTTP and any other path is not found; a WebSocket is refused at
/// `/absent`, gets a subprotocol that it has not offered at `/unoffered`, a header that cannot be
/// written at `/split`, and a panic at `/panic`. Of the subprotocols that begin with `chat.v` the
/// first that is offered is taken.
#[derive(Debug, Default)]
pub struct App {
    /// Method and target of each request that was asked about.
    pub requests: Vec<String>,
    /// What `/split` was told.
    pub header_errors: Vec<InvalidHeader>,
    pub opened: usize,
    pub messages: usize,
    pub closed: Vec<CloseSummary>,
}

impl App {
    fn accept(&mut self, request: &Request<'_>) -> Accept {
        let offered = request.subprotocols().find(|name| name.starts_with("chat.v"));
        let chosen = if request.path() == "/unoffered" { Some("chat.v9") } else { offered };
        let accept = match chosen {
            Some(name) => Accept::new().subprotocol(name).unwrap(),
            None => Accept::new(),
        };
        if request.path() == "/split" {
            for split in splits() {
                let tried = [
                    accept.clone().header("X", &split),
                    accept.clone().header(&split, "X"),
                    Accept::new().subprotocol(&split),
                ];
                self.header_errors.extend(tried.map(|tried| tried.and(Ok(())).unwrap_err()));
            }
        }
        accept
    }
}

impl Handler for App {
    type Data = ();

    fn on_request(&mut self, request: &Request<'_>, _: &Arrival) -> Verdict<()> {
        self.requests.push(format!("{} {}", request.method(), request.target()));
        match (request.is_upgrade(), request.path()) {
            (true, "/absent") => Verdict::Reject(text(404, "there is nothing here\n")),
            (true, "/panic") => panic!("the test wants it"),
            (true, _) => Verdict::Accept { accept: self.accept(request), data: () },
            (false, "/health") => Verdict::Respond(text(200, "ok\n")),
            (false, "/page") => Verdict::Respond(text(200, "a page\n")),
            (false, "/websocket") => Verdict::UpgradeRequired,
            (false, "/accept") => Verdict::Accept { accept: Accept::new(), data: () },
            (false, "/reject") => Verdict::Reject(text(404, "there is nothing here\n")),
            (false, "/split") => {
                for split in splits() {
                    let tried = Response::new(302).unwrap().header("Location", &split);
                    self.header_errors.push(tried.unwrap_err());
                    let tried = Response::new(302).unwrap().header(&split, "/");
                    self.header_errors.push(tried.unwrap_err());
                }
                Verdict::Respond(text(404, "there is nothing here\n"))
            }
            (false, _) => Verdict::Respond(text(404, "there is nothing here\n")),
        }
    }

    fn on_open(&mut self, _: &mut Context<'_, ()>) {
        self.opened += 1;
    }

    fn on_message(&mut self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        self.messages += 1;
        assert!(ctx.send(message).is_taken());
    }

    fn on_close(&mut self, _: &mut Context<'_, ()>, summary: &CloseSummary) {
        self.closed.push(summary.clone());
    }
}

/// Texts that would end a line of the head, or that have no place in one.
pub fn splits() -> impl Iterator<Item = String> {
    let controls = (0..=0x1f).chain([0x7f]).map(char::from).filter(|control| *control != '\t');
    let endings = controls.map(String::from).chain(["\r\n".to_owned()]);
    endings.flat_map(|end| [format!("/{end}Y: b"), format!("{end}a"), format!("a{end}")])
}

fn text(status: u16, body: &'static str) -> Response {
    Response::new(status).unwrap().body(body.as_bytes())
}

/// A loop that listens on a loopback port.
pub struct Bed {
    pub reactor: Reactor<MioNet, App>,
    address: SocketAddr,
}

/// How a [`Bed`] differs from the defaults.
pub struct Setup {
    pub settings: ListenerSettings,
    pub listen: ListenOptions,
    pub reactor: ReactorConfig,
}

/// A client's end of one connection.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    has_ended: bool,
}

/// One answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status_line: String,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header that stands at most once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands once: {self:?}");
        value
    }
}

impl Bed {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            settings: ListenerSettings::new(Config::new(Role::Server)),
            listen: ListenOptions::default(),
            reactor: ReactorConfig::new([1; 32]),
        };
        change(&mut setup);
        let net = MioNet::new(setup.reactor.limits.receive_buffer_bytes).unwrap();
        let mut reactor = Reactor::new(net, App::default(), setup.reactor);
        let any = (Ipv4Addr::LOCALHOST, 0);
        let endpoint = reactor.listen(any, &setup.listen, setup.settings).unwrap();
        Self { reactor, address: endpoint.socket_addr().unwrap() }
    }

    pub fn app(&mut self) -> &mut App {
        self.reactor.handler()
    }

    pub fn connect(&self) -> Client {
        self.connect_from(Ipv4Addr::LOCALHOST)
    }

    /// Connects from an address of the loopback network of the test's choice.
    pub fn connect_from(&self, address: Ipv4Addr) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(address.into(), 0).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let stream: TcpStream = socket.into();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, received: Vec::new(), has_ended: false }
    }

    /// One turn that waits for nothing.
    pub fn turn(&mut self) {
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
    }

    /// Turns until `is_done`, which may read and write.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        let patience = Instant::now() + PATIENCE;
        while !is_done(self) {
            assert!(Instant::now() < patience, "waited in vain for {what}");
            self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
    }

    /// Turns until nothing has happened for a while.
    pub fn rest(&mut self) {
        for _ in 0..5 {
            self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
        }
    }

    /// Writes all of `bytes`, as much at a time as the socket takes.
    #[track_caller]
    pub fn write(&mut self, client: &mut Client, bytes: impl AsRef<[u8]>) {
        let mut rest = bytes.as_ref();
        self.until("the socket to take bytes", |_| {
            rest = &rest[client.write_some(rest)..];
            rest.is_empty()
        });
    }

    /// Writes the pieces one by one, each handled by the loop before the next.
    #[track_caller]
    pub fn write_pieces<'a>(
        &mut self,
        client: &mut Client,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) {
        for piece in pieces {
            self.write(client, piece);
            self.turn();
        }
    }

    /// Reads one answer with its body, and nothing behind it.
    #[track_caller]
    pub fn answer(&mut self, client: &mut Client) -> Answer {
        self.until("a head", |_| {
            client.read();
            assert!(client.head_bytes().is_some() || !client.has_ended, "{client:?}");
            client.head_bytes().is_some()
        });
        let head_bytes = client.head_bytes().unwrap();
        let head = String::from_utf8(client.take(head_bytes)).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap().to_owned();
        let split = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        let fields = lines.map(split).collect();
        let mut answer = Answer { status_line, fields, body: String::new() };
        let body_bytes = answer.field("Content-Length").map_or(0, |text| text.parse().unwrap());
        answer.body = String::from_utf8(self.bytes(client, body_bytes)).unwrap();
        answer
    }

    /// Reads so many bytes.
    #[track_caller]
    pub fn bytes(&mut self, client: &mut Client, count: usize) -> Vec<u8> {
        self.until("bytes", |_| {
            client.read();
            assert!(client.received.len() >= count || !client.has_ended, "{client:?}");
            client.received.len() >= count
        });
        client.take(count)
    }

    /// Nothing more comes but the end of the stream, and no reset.
    #[track_caller]
    pub fn expect_end(&mut self, client: &mut Client) {
        self.until("the end of the stream", |_| {
            client.read();
            client.has_ended
        });
        assert!(client.received.is_empty(), "{client:?}");
    }

    /// Sends `request` on a connection of its own and reads the one answer to it.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> (Client, Answer) {
        let mut client = self.connect();
        self.write(&mut client, request);
        let answer = self.answer(&mut client);
        (client, answer)
    }

    /// Has `request` answered with `status_line` and the connection closed behind that. The
    /// WebSocket must not open.
    #[track_caller]
    pub fn refuse(&mut self, request: impl AsRef<[u8]>, status_line: &str) -> Answer {
        let opened = self.app().opened;
        let (mut client, answer) = self.ask(request.as_ref());
        assert_eq!(answer.status_line, status_line, "{}", request.as_ref().escape_ascii());
        let closes = answer.field("Connection").is_some_and(|value| value.starts_with("close"));
        assert!(closes, "{answer:?}");
        self.expect_end(&mut client);
        assert_eq!(self.app().opened, opened);
        answer
    }

    /// Has `request` refused by the engine itself: the application is not asked, and the body is a
    /// line of text that repeats nothing of the request.
    #[track_caller]
    pub fn refuse_unasked(&mut self, request: impl AsRef<[u8]>, status_line: &str) -> Answer {
        let asked = self.app().requests.len();
        let answer = self.refuse(request, status_line);
        assert_eq!(self.app().requests.len(), asked);
        assert_eq!(answer.field("Content-Type"), Some("text/plain"));
        assert!(answer.body.ends_with('\n') && !answer.body.contains("secret"), "{answer:?}");
        answer
    }

    /// Has `request` accepted, and an echo behind it, so that the connection is seen to live.
    #[track_caller]
    pub fn accept(&mut self, request: impl AsRef<[u8]>) -> (Client, Answer) {
        let (mut client, answer) = self.ask(request.as_ref());
        assert_eq!(answer.status_line, SWITCHING, "{}", request.as_ref().escape_ascii());
        self.expect_echo(&mut client);
        (client, answer)
    }

    /// The status lines of all answers to a head and what is behind it, each handled by itself.
    #[track_caller]
    pub fn ask_in_pieces(&mut self, pieces: &[&str]) -> Vec<String> {
        let mut client = self.connect();
        self.write_pieces(&mut client, pieces.iter().map(|piece| piece.as_bytes()));
        let mut status_lines = vec![self.answer(&mut client).status_line];
        self.until("the end of the stream", |_| client.has_ended());
        while !client.received().is_empty() {
            status_lines.push(self.answer(&mut client).status_line);
        }
        status_lines
    }

    /// A message goes out and comes back.
    #[track_caller]
    pub fn expect_echo(&mut self, client: &mut Client) {
        self.write(client, masked(0x82, b"echo"));
        assert_eq!(self.bytes(client, 6), b"\x82\x04echo");
    }

    /// The server fails the connection with `code`, and then it ends.
    #[track_caller]
    pub fn expect_fail(&mut self, client: &mut Client, code: CloseCode) {
        let header = self.bytes(client, 2);
        assert_eq!(header[0], 0x88, "a Close");
        let payload = self.bytes(client, usize::from(header[1]));
        assert_eq!(payload[..2], code.as_u16().to_be_bytes());
        self.expect_end(client);
    }

    /// Everybody goes, and nothing is left of them.
    #[track_caller]
    pub fn expect_empty(&mut self) {
        self.until("all connections to end", |bed| bed.reactor.usage().sockets == 0);
        let usage = self.reactor.usage();
        let held = (usage.open, usage.backlogs, usage.blocks, usage.rings, usage.segments);
        assert_eq!(held, (0, 0, 0, 0, 0), "{usage:?}");
        let app = self.app();
        assert_eq!(app.opened, app.closed.len());
    }
}

impl Client {
    /// How many of `bytes` the socket takes now.
    pub fn write_some(&mut self, bytes: &[u8]) -> usize {
        match self.stream.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends the end of the stream.
    pub fn shut(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// What has come and was not looked at.
    pub fn received(&mut self) -> &[u8] {
        self.read();
        &self.received
    }

    /// Whether the end of the stream has come.
    pub fn has_ended(&mut self) -> bool {
        self.read();
        self.has_ended
    }

    fn read(&mut self) {
        let mut buffer = [0; 64 << 10];
        while !self.has_ended {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.has_ended = true,
                Ok(bytes) => self.received.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn head_bytes(&self) -> Option<usize> {
        let end = self.received.windows(4).position(|window| window == b"\r\n\r\n")?;
        Some(end + 4)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.received.drain(..count).collect()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "received {}, ended: {}", self.received.escape_ascii(), self.has_ended)
    }
}

/// The request of RFC 6455 §1.2 for `/`, where `lines` take the place of those with the same name;
/// a line that is a name alone takes the field out.
pub fn upgrade(lines: &[&str]) -> String {
    const OWN: [&str; 5] = [
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    head("GET / HTTP/1.1", &OWN, lines)
}

/// The same for another target.
pub fn upgrade_at(target: &str, lines: &[&str]) -> String {
    upgrade(lines).replacen("GET / ", &format!("GET {target} "), 1)
}

/// A plain request, given as `GET /path`.
pub fn plain(start: &str, lines: &[&str]) -> String {
    head(&format!("{start} HTTP/1.1"), &["Host: server.example.com"], lines)
}

fn head(start: &str, own: &[&str], lines: &[&str]) -> String {
    let name = |line: &str| line.split(':').next().unwrap().trim().to_ascii_lowercase();
    let is_kept = |own: &&&str| !lines.iter().any(|line| name(line) == name(own));
    let kept = own.iter().filter(is_kept);
    let added = lines.iter().filter(|line| line.contains(':'));
    let all: Vec<&str> = [start].into_iter().chain(kept.chain(added).copied()).collect();
    format!("{}\r\n\r\n", all.join("\r\n"))
}

/// A frame as clients send it, of up to 125 bytes.
pub fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    assert!(payload.len() <= 125);
    let mut frame = vec![first_byte, 0x80 | payload.len() as u8];
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}
