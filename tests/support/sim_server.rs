//! A server as a test plays it, at the other end of a connection that the engine has dialled: it
//! judges what a client may send, answers with anything, and speaks frames by the naive codec.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest as _, Sha1};

use crate::naive::{Frame, parse};
use crate::sim_net::SimPeer;

/// One connection.
pub struct SimServer {
    pub peer: SimPeer,
    /// What has come and is no whole head or frame yet.
    pending: Vec<u8>,
    /// Of the last frame.
    masking_key: Option<[u8; 4]>,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub target: String,
    /// In their order, names as they were sent.
    pub fields: Vec<(String, String)>,
}

impl Request {
    /// The only value of a field.
    ///
    /// # Panics
    /// If there are more.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands twice");
        value
    }

    /// The key that the accept key is made of.
    pub fn key(&self) -> &str {
        self.field("Sec-WebSocket-Key").expect("the request has a key")
    }

    /// The accept key of RFC 6455 §4.2.2.
    pub fn accept_key(&self) -> String {
        let proof = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", self.key());
        BASE64_STANDARD.encode(Sha1::digest(proof))
    }

    /// The answer that switches protocols, with further header lines, each ended by CRLF.
    pub fn switching(&self, lines: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{lines}\r\n",
            self.accept_key()
        )
        .into_bytes()
    }

    /// RFC 6455 §4.1, the requirements of the request.
    fn judge(&self) {
        assert!(self.target.starts_with('/') && !self.target.contains('#'), "{}", self.target);
        assert!(self.field("Host").is_some_and(|host| !host.is_empty()), "{self:?}");
        let is = |name: &str, wanted: &str| {
            self.field(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
        };
        assert!(is("Upgrade", "websocket") && is("Connection", "upgrade"), "{self:?}");
        assert!(is("Sec-WebSocket-Version", "13"), "{self:?}");
        let nonce = BASE64_STANDARD.decode(self.key()).expect("the key is base64");
        assert_eq!(nonce.len(), 16, "the key is of 16 bytes");
        // Nothing that would have a body follow.
        assert_eq!((self.field("Content-Length"), self.field("Transfer-Encoding")), (None, None));
    }
}

impl SimServer {
    pub fn new(peer: SimPeer) -> Self {
        Self { peer, pending: Vec::new(), masking_key: None }
    }

    /// Has it hear what came by another way than the socket: out of TLS, or through a proxy.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    fn take_in(&mut self) {
        self.pending.extend(self.peer.read_all());
    }

    /// Bytes behind what was taken out as heads and frames.
    pub fn pending(&mut self) -> &[u8] {
        self.take_in();
        &self.pending
    }

    /// Any head that has come whole: its first line and its fields.
    pub fn head(&mut self) -> Option<(String, Vec<(String, String)>)> {
        self.take_in();
        let end = self.pending.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head: Vec<u8> = self.pending.drain(..end).collect();
        let head = String::from_utf8(head).expect("a client's head is ASCII");
        assert!(head.is_ascii(), "{head}");
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().expect("there is a line").to_owned();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a field");
            (name.to_owned(), value.to_owned())
        });
        Some((first, fields.collect()))
    }

    /// The request, which is judged; `None` while it has not come whole.
    pub fn request(&mut self) -> Option<Request> {
        let (first, fields) = self.head()?;
        let target = first.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let target = target.unwrap_or_else(|| panic!("{first}")).to_owned();
        let request = Request { target, fields };
        request.judge();
        assert!(self.pending.is_empty(), "nothing may follow before the answer");
        Some(request)
    }

    /// Switches protocols.
    pub fn upgrade(&mut self) -> Request {
        let request = self.request().expect("the request is there");
        self.peer.write_all(&request.switching(""));
        request
    }

    /// The whole frames that have come.
    ///
    /// # Panics
    /// If one breaks the rules of a client's framing (RFC 6455 §5): no mask, a masking key used
    /// twice in a row, a length not in its shortest form, a control frame that is long or
    /// fragmented.
    pub fn frames(&mut self) -> Vec<Frame> {
        self.take_in();
        let (frames, rest) = parse(&self.pending);
        let rest_bytes = rest.len();
        let encoded: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let whole_bytes = self.pending.len() - rest_bytes;
        assert!(encoded == self.pending[..whole_bytes], "a length not in its shortest form");
        self.pending.drain(..whole_bytes);
        for frame in &frames {
            assert!(frame.key.is_some(), "a client masks: {frame:?}");
            assert_ne!(frame.key, self.masking_key, "a masking key is used once");
            self.masking_key = frame.key;
            let is_control_right = frame.fin && frame.rsv == 0 && frame.payload.len() <= 125;
            assert!(frame.is_data() || is_control_right, "{frame:?}");
        }
        frames
    }

    /// The same without their keys, to be compared.
    pub fn plain_frames(&mut self) -> Vec<Frame> {
        let frames = self.frames().into_iter();
        frames.map(|frame| Frame { key: None, ..frame }).collect()
    }

    /// Sends a frame, as it is.
    pub fn send(&self, frame: &Frame) {
        self.peer.write_all(&frame.encode());
    }

    /// Sends a message in frames of so many bytes.
    pub fn send_fragmented(&self, opcode: u8, payload: &[u8], fragment_bytes: usize) {
        let pieces: Vec<&[u8]> = payload.chunks(fragment_bytes).collect();
        for (index, piece) in pieces.iter().enumerate() {
            let opcode = if index == 0 { opcode } else { crate::naive::CONTINUATION };
            let frame = Frame::new(opcode, piece);
            self.send(&if index + 1 < pieces.len() { frame.open() } else { frame });
        }
    }
}
