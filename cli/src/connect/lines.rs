//! Lines from standard input, taken as they come.

use std::io;
use std::os::fd::BorrowedFd;

/// Cuts what is read from a descriptor into lines.
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the first line begins that was not taken yet.
    at: usize,
    /// Up to here there is no line end, so that a long line is searched once.
    searched: usize,
    has_ended: bool,
}

/// So much is read at once.
const READ_BYTES: usize = 64 * 1024;

impl Lines {
    pub fn new() -> Self {
        Self { buffer: Vec::new(), at: 0, searched: 0, has_ended: false }
    }

    /// Reads what is there; waits if nothing is. An error counts as the end.
    pub fn read(&mut self, input: BorrowedFd<'_>) {
        self.buffer.drain(..self.at);
        self.searched -= self.at;
        self.at = 0;
        let len = self.buffer.len();
        self.buffer.resize(len + READ_BYTES, 0);
        let read = rustix::io::retry_on_intr(|| rustix::io::read(input, &mut self.buffer[len..]));
        let bytes = match read.map_err(io::Error::from) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return self.buffer.truncate(len);
            }
            Err(_) => 0,
        };
        self.has_ended = bytes == 0;
        self.buffer.truncate(len + bytes);
    }

    /// The next line without its end; behind the end of input, what is left.
    pub fn next(&mut self) -> Option<&[u8]> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let (end, next) = match found {
            Some(offset) => (self.searched + offset, self.searched + offset + 1),
            None if self.has_ended && self.at < self.buffer.len() => {
                (self.buffer.len(), self.buffer.len())
            }
            None => {
                self.searched = self.buffer.len();
                return None;
            }
        };
        let line = &self.buffer[self.at..end];
        (self.at, self.searched) = (next, next);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Whether the input has ended; there may be lines left.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Bytes of the line that has not ended yet, and of lines not taken.
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len() - self.at
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut lines = Lines::new();
        let mut taken = Vec::new();
        for piece in pieces {
            writer.write_all(piece).unwrap();
            lines.read(reader.as_fd());
            while let Some(line) = lines.next() {
                taken.push(line.to_vec());
            }
            assert!(!lines.has_ended());
        }
        drop(writer);
        lines.read(reader.as_fd());
        while let Some(line) = lines.next() {
            taken.push(line.to_vec());
        }
        assert!(lines.has_ended() && lines.waiting_bytes() == 0);
        taken
    }

    #[test]
    fn lines_come_out_however_they_come_in() {
        let wanted = [&b"one"[..], b"", b"two", b"\xff", b"rest"];
        let text = b"one\n\r\ntwo\r\n\xff\nrest";
        assert_eq!(lines_of(&[text]), wanted);
        assert_eq!(lines_of(&text.chunks(1).collect::<Vec<_>>()), wanted);
        for at in 1..text.len() {
            assert_eq!(lines_of(&[&text[..at], &text[at..]]), wanted, "cut at {at}");
        }
    }

    #[test]
    fn a_last_line_end_begins_no_line() {
        assert_eq!(lines_of(&[b"a\n"]), [b"a"]);
        assert!(lines_of(&[]).is_empty());
    }
}
