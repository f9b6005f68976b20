//! Lines, cut from what comes in.

use std::ops::Range;

/// Cuts what comes in into lines.
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the first line begins that was not taken yet.
    at: usize,
    /// Up to here there is no line end, so that a long line is searched once.
    searched: usize,
    has_ended: bool,
}

impl Lines {
    pub fn new() -> Self {
        Self { buffer: Vec::new(), at: 0, searched: 0, has_ended: false }
    }

    /// More has come in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.searched -= self.at;
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Nothing more comes in.
    pub fn end(&mut self) {
        self.has_ended = true;
    }

    /// The next line without its end; behind the end of input, what is left. It stays the next one
    /// until it is taken.
    pub fn peek(&mut self) -> Option<&[u8]> {
        let line = self.find()?;
        let line = &self.buffer[line];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Takes the line that [`Lines::peek`] gave.
    pub fn take(&mut self) {
        if let Some(line) = self.find() {
            (self.at, self.searched) = (line.end, line.end);
        }
    }

    /// Where the next line lies, its end included.
    fn find(&mut self) -> Option<Range<usize>> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        match found {
            Some(offset) => {
                self.searched += offset;
                Some(self.at..self.searched + 1)
            }
            None => {
                self.searched = self.buffer.len();
                let is_last = self.has_ended && self.at < self.buffer.len();
                is_last.then_some(self.at..self.buffer.len())
            }
        }
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
    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new();
        let mut taken = Vec::new();
        let mut take_all = |lines: &mut Lines| {
            while let Some(line) = lines.peek().map(<[u8]>::to_vec) {
                assert_eq!(lines.peek(), Some(&line[..]), "it is not taken yet");
                lines.take();
                taken.push(line);
            }
        };
        for piece in pieces {
            lines.push(piece);
            take_all(&mut lines);
            assert!(!lines.has_ended());
        }
        lines.end();
        take_all(&mut lines);
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
