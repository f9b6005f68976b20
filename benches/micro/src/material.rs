//! What the benches are fed with.

/// A message as most of them are: so small that its cost is the engine's.
pub const SMALL: [u8; 20] = *b"twenty bytes of data";

/// As many messages as 16 clients' worth of frames that arrive together.
pub const FRAMES_PER_READ: usize = 16;

/// The example of RFC 6455 §1.2.
pub const REQUEST: &[u8] = b"GET /chat HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// The answer to [`REQUEST`] ends so, whoever gives it.
pub const ACCEPT_KEY: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// `count` binary frames as a client sends them, each under a key of its own.
pub fn masked_frames(count: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..count {
        // Any keys do, as long as they differ: Knuth's multiplicative hash of the index.
        let key = (index as u32 + 1).wrapping_mul(2_654_435_761).to_be_bytes();
        append_frame(&mut bytes, BINARY, payload, Some(key));
    }
    bytes
}

/// `count` binary frames as a server sends them.
pub fn unmasked_frames(count: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..count {
        append_frame(&mut bytes, BINARY, payload, None);
    }
    bytes
}

/// One text frame as a client sends it.
pub fn masked_text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, TEXT, text.as_bytes(), Some([0x37, 0xfa, 0x21, 0x3d]));
    bytes
}

/// So many bytes of text of which about one character in eight is not ASCII, everywhere alike: no
/// vector of 64 bytes is without one.
pub fn mixed_text(bytes: usize) -> String {
    let mut text = String::new();
    for character in MIXED.chars().cycle() {
        if text.len() + character.len_utf8() > bytes {
            break;
        }
        text.push(character);
    }
    text.extend((text.len()..bytes).map(|_| '.'));
    text
}

fn append_frame(bytes: &mut Vec<u8>, opcode: u8, payload: &[u8], key: Option<[u8; 4]>) {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    bytes.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => bytes.push(mask_bit | len as u8),
        len @ 126..=0xFFFF => {
            bytes.push(mask_bit | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(mask_bit | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(key.iter().flatten());
    let mut key = key.unwrap_or_default().into_iter().cycle();
    bytes.extend(payload.iter().map(|byte| byte ^ key.next().unwrap_or_default()));
}

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;

const MIXED: &str = "Grüße aus Köln: ein Café für 5 €, здесь тоже, and mostly plain English — naïve \
    résumé of a façade in Zürich, 東京 at dawn, piñata Ångström, plain again €. ";
