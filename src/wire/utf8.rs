//! UTF-8 of text messages and close reasons (RFC 6455 §8.1, RFC 3629), whole and in pieces.

use std::error::Error;
use std::fmt;
use std::mem;
use std::str;

use simdutf8::compat;

/// The bytes are not UTF-8: close code 1007.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct InvalidUtf8;

impl fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid UTF-8")
    }
}

impl Error for InvalidUtf8 {}

/// Validates a text that arrives in pieces cut anywhere, and fails at the first byte that cannot
/// be right, wherever the cuts are.
///
/// Call [`validate`](Self::validate) for each piece in order, then [`finish`](Self::finish) once.
/// Between pieces it keeps at most the three bytes of an unfinished character and nothing of the
/// text, so that the pieces themselves can be handed on at once.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Utf8Validator {
    /// The beginning of a character, `unfinished[..len]`: itself valid so far, never complete.
    unfinished: [u8; 3],
    /// Always at most 3; 0 at a boundary between characters.
    len: u8,
}

impl Utf8Validator {
    /// Takes the next piece of the text.
    ///
    /// # Errors
    /// The piece, behind what came before, cannot be the beginning of valid UTF-8. The validator
    /// is then as new, ready for another text.
    #[inline]
    pub fn validate(&mut self, piece: &[u8]) -> Result<(), InvalidUtf8> {
        let rest = if self.len == 0 { piece } else { self.finish_character(piece)? };
        match compat::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            // No length: the text ends within a character whose bytes are right so far.
            Err(error) => self.keep_unfinished(&rest[error.valid_up_to()..]),
        }
    }

    /// Ends the text; the validator is then as new, ready for another one.
    ///
    /// # Errors
    /// The last character is unfinished.
    #[inline]
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        if mem::take(self).is_at_boundary() { Ok(()) } else { Err(InvalidUtf8) }
    }

    /// Whether the text so far ends with a whole character (or is empty).
    #[inline]
    pub fn is_at_boundary(&self) -> bool {
        self.len == 0
    }

    /// Completes the unfinished character with the piece's first bytes as far as they go, and
    /// returns the bytes behind it.
    #[cold]
    fn finish_character<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        let Self { unfinished, len } = mem::take(self);
        let len = usize::from(len);
        let missing = character_bytes(unfinished[0]).saturating_sub(len).min(piece.len());
        let (more, rest) = piece.split_at(missing);

        let mut character = [0; 4];
        character[..len].copy_from_slice(&unfinished[..len]);
        character[len..len + missing].copy_from_slice(more);
        let character = &character[..len + missing];
        match str::from_utf8(character) {
            Ok(_) => Ok(rest),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(_) => self.keep_unfinished(character).map(|()| rest),
        }
    }

    /// Carries the beginning of a character over to the next piece.
    fn keep_unfinished(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        // A character has at most four bytes, so an unfinished one has at most three; were it not
        // so, refusing the text would be the safe answer.
        let kept = self.unfinished.get_mut(..bytes.len()).ok_or(InvalidUtf8)?;
        kept.copy_from_slice(bytes);
        self.len = bytes.len() as u8;
        Ok(())
    }
}

/// Validates a whole text and lends it as `&str`.
///
/// simdutf8 leaves inputs below 64 bytes to std itself, so short texts need no path of their own.
///
/// # Errors
/// The bytes are not UTF-8, or end within a character.
#[inline]
pub fn validate_whole(payload: &[u8]) -> Result<&str, InvalidUtf8> {
    compat::from_utf8(payload).map_err(|_| InvalidUtf8)
}

/// How many bytes the character has that begins with this byte, by RFC 3629 §3.
fn character_bytes(first: u8) -> usize {
    match first {
        0x00..=0x7F => 1,
        0x80..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xFF => 4,
    }
}
