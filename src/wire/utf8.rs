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

    /// How many bytes of the next piece come before the first that cannot be right.
    #[cold]
    pub fn valid_bytes(mut self, piece: &[u8]) -> usize {
        piece.iter().take_while(|byte| self.validate(std::slice::from_ref(byte)).is_ok()).count()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether any valid text begins with these bytes, asking std about whole texts only: one of
    /// these endings completes every beginning of a character that can be completed.
    fn is_prefix_of_some_text(bytes: &[u8]) -> bool {
        const ENDINGS: [&[u8]; 7] = [
            &[],
            &[0x80],
            &[0x80, 0x80],
            &[0x80, 0x80, 0x80],
            &[0xA0],
            &[0xA0, 0x80],
            &[0xA0, 0x80, 0x80],
        ];
        ENDINGS.iter().any(|ending| str::from_utf8(&[bytes, ending].concat()).is_ok())
    }

    /// The oracle: the index of the first byte that cannot be right.
    fn first_bad_byte(text: &[u8]) -> Option<usize> {
        (0..text.len()).find(|&index| !is_prefix_of_some_text(&text[..=index]))
    }

    /// Feeds the text cut at `cuts` (ascending) and checks each piece, the boundary behind it, and
    /// the end against the oracle's answers.
    fn check_pieces(text: &[u8], first_bad: Option<usize>, cuts: impl Iterator<Item = usize>) {
        let mut validator = Utf8Validator::default();
        let mut start = 0;
        for end in cuts.chain([text.len()]) {
            let expected = match first_bad {
                Some(index) if index < end => Err(InvalidUtf8),
                _ => Ok(()),
            };
            assert_eq!(validator.validate(&text[start..end]), expected, "{text:x?} {start}..{end}");
            if expected.is_err() {
                assert_eq!(validator, Utf8Validator::default(), "{text:x?} leaves nothing behind");
                return;
            }
            let is_whole = str::from_utf8(&text[..end]).is_ok();
            assert_eq!(validator.is_at_boundary(), is_whole, "{text:x?} ..{end}");
            start = end;
        }
        assert_eq!(validator.finish().is_ok(), str::from_utf8(text).is_ok(), "{text:x?}");
        assert!(validator.is_at_boundary());
    }

    /// Both ends of every range in RFC 3629 §4.
    const EDGES: [u8; 22] = [
        0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC,
        0xED, 0xEE, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF,
    ];

    #[test]
    fn every_torn_sequence_of_edges_fails_at_the_byte_the_oracle_names() {
        for a in EDGES {
            for b in EDGES {
                for c in EDGES {
                    for d in EDGES {
                        let text = [a, b, c, d];
                        check_pieces(&text, first_bad_byte(&text), 1..4);
                    }
                }
            }
        }
    }

    #[test]
    fn every_pair_of_bytes_fails_at_the_byte_the_oracle_names() {
        for pair in 0..=u16::MAX {
            let text = pair.to_be_bytes();
            let first_bad = first_bad_byte(&text);
            check_pieces(&text, first_bad, 1..2);
            check_pieces(&text, first_bad, 0..0);
        }
    }

    #[test]
    fn bytes_that_can_never_be_right_fail_before_their_character_ends() {
        // §8.1: overlong forms, surrogates, beyond U+10FFFF.
        let beginnings: [&[u8]; 7] =
            [&[0xC0], &[0xE0, 0x80], &[0xED, 0xA0], &[0xF0, 0x80], &[0xF4, 0x90], &[0xF5], &[0x80]];
        for bytes in beginnings {
            let (last, before) = bytes.split_last().unwrap();
            let mut validator = Utf8Validator::default();
            assert_eq!(validator.validate(before), Ok(()), "{bytes:x?}");
            assert_eq!(validator.validate(&[*last]), Err(InvalidUtf8), "{bytes:x?}");
        }
    }

    #[test]
    fn every_character_passes_at_every_cut() {
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let text = character.encode_utf8(&mut buffer).as_bytes();
            for cut in 0..=text.len() {
                let mut validator = Utf8Validator::default();
                assert_eq!(validator.validate(&text[..cut]), Ok(()), "{character:?}");
                assert_eq!(validator.validate(&text[cut..]), Ok(()), "{character:?}");
                assert_eq!(validator.finish(), Ok(()), "{character:?}");
            }
        }
    }

    #[test]
    fn unfinished_character_at_the_end_is_an_error_and_is_forgotten() {
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.validate(&[b'a', 0xF0, 0x9F, 0x92]), Ok(()));
        assert!(!validator.is_at_boundary());
        assert_eq!(validator.finish(), Err(InvalidUtf8));
        assert_eq!(validator.validate(b"next"), Ok(()));
        assert_eq!(validator.finish(), Ok(()));
    }

    #[test]
    fn empty_pieces_change_nothing() {
        let mut validator = Utf8Validator::default();
        for piece in [&[][..], &[0xE2], &[], &[0x82], &[], &[0xAC], &[]] {
            assert_eq!(validator.validate(piece), Ok(()));
        }
        assert_eq!(validator.finish(), Ok(()));
    }

    #[test]
    fn validator_fits_a_slot() {
        assert!(size_of::<Utf8Validator>() <= 8);
    }

    /// Texts long enough for the vector code, most of them with one byte overwritten.
    fn damaged_text() -> impl Strategy<Value = Vec<u8>> {
        let character = prop_oneof![4 => prop::char::range('\0', '\u{7F}'), 3 => any::<char>()];
        let text = prop::collection::vec(character, 0..200).prop_map(String::from_iter);
        (text, any::<prop::sample::Index>(), prop::option::of(any::<u8>())).prop_map(
            |(text, index, damage)| {
                let mut text = text.into_bytes();
                if let (Some(damage), false) = (damage, text.is_empty()) {
                    let index = index.index(text.len());
                    text[index] = damage;
                }
                text
            },
        )
    }

    proptest! {
        #[test]
        fn any_cuts_of_any_text_agree_with_the_oracle(
            text in damaged_text(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let first_bad = first_bad_byte(&text);
            check_pieces(&text, first_bad, cuts.into_iter());
            check_pieces(&text, first_bad, 0..text.len());
        }

        #[test]
        fn whole_texts_agree_with_std(text in damaged_text()) {
            prop_assert_eq!(validate_whole(&text).ok(), str::from_utf8(&text).ok());
        }
    }
}
