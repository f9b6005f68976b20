//! Masking (RFC 6455 §5.3): `payload[i] ^= key[i % 4]`, in place, both ways the same.
//!
//! Up to 32 bytes, where most messages are, two words that overlap do the whole payload inline.
//! Longer payloads take one safe loop that is compiled twice: as it is, and with AVX2 for the
//! processors that have it. `--cfg force_scalar` selects the first everywhere.
#![allow(unsafe_code)] // The only place: one call, after its feature was detected.

use std::array;

/// The four bytes that a client's frame is masked with, in the order of the wire (RFC 6455 §5.3).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct MaskingKey([u8; 4]);

impl MaskingKey {
    /// The key with these bytes, as they stand in a header.
    #[inline]
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// The bytes for a header.
    #[inline]
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0
    }

    /// The key for the rest of a payload of which so many `bytes` are done already.
    #[inline]
    pub const fn rotated(self, bytes: usize) -> Self {
        let key = u32::from_be_bytes(self.0);
        Self(key.rotate_left(8 * (bytes % 4) as u32).to_be_bytes())
    }
}

/// Masks or unmasks the payload in place; its first byte is the key's first.
///
/// A payload may be done in pieces: the next piece takes the key
/// [`rotated`](MaskingKey::rotated) by the bytes before it.
#[inline]
pub fn apply(payload: &mut [u8], key: MaskingKey) {
    match payload.len() {
        0..=3 => apply_bytes(payload, key),
        4..=7 => apply_ends::<4>(payload, key),
        8..=15 => apply_ends::<8>(payload, key),
        16..=32 => apply_ends::<16>(payload, key),
        _ => apply_long(payload, key),
    }
}

/// Masks `N` to `2 * N` bytes as a first and a last word that may overlap: both are loaded before
/// either is stored, so the bytes that they share get the same value twice.
#[inline]
fn apply_ends<const N: usize>(payload: &mut [u8], key: MaskingKey) {
    const { assert!(N % 4 == 0, "the last word's key is rotated by len - N, so by len") };
    let (Some(&first), Some(&last)) = (payload.first_chunk::<N>(), payload.last_chunk::<N>())
    else {
        return;
    };
    let last_key = key.rotated(payload.len());
    if let Some(word) = payload.first_chunk_mut() {
        *word = xor_word(first, key);
    }
    if let Some(word) = payload.last_chunk_mut() {
        *word = xor_word(last, last_key);
    }
}

#[inline(always)]
fn xor_word<const N: usize>(word: [u8; N], MaskingKey(key): MaskingKey) -> [u8; N] {
    array::from_fn(|index| word[index] ^ key[index % 4])
}

#[inline]
fn apply_bytes(payload: &mut [u8], MaskingKey(key): MaskingKey) {
    for (byte, key) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

fn apply_long(payload: &mut [u8], key: MaskingKey) {
    #[cfg(all(target_arch = "x86_64", not(force_scalar)))]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected on the line above; `apply_avx2` has no other precondition.
        return unsafe { apply_avx2(payload, key) };
    }
    apply_scalar(payload, key);
}

/// The loop for every processor of the target architecture.
#[cfg_attr(all(target_arch = "x86_64", not(force_scalar)), cold)]
fn apply_scalar(payload: &mut [u8], key: MaskingKey) {
    apply_aligned(payload, key);
}

/// The same loop, compiled for 32-byte vectors.
#[cfg(all(target_arch = "x86_64", not(force_scalar)))]
#[target_feature(enable = "avx2")]
fn apply_avx2(payload: &mut [u8], key: MaskingKey) {
    apply_aligned(payload, key);
}

#[inline(always)]
fn apply_aligned(payload: &mut [u8], key: MaskingKey) {
    let unaligned_bytes = match payload.len() {
        ALIGN_BYTES_MIN.. => payload.as_ptr().align_offset(CACHE_LINE_BYTES).min(payload.len()),
        _ => 0,
    };
    let (unaligned, aligned) = payload.split_at_mut(unaligned_bytes);
    apply_words(unaligned, key);
    apply_words(aligned, key.rotated(unaligned_bytes));
}

#[inline(always)]
fn apply_words(payload: &mut [u8], key: MaskingKey) {
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = xor_word(*word, key);
    }
    apply_bytes(rest, key);
}

/// From here on vectors that straddle cache lines cost more than a short unaligned beginning does:
/// about 110 against 70–90 GB/s (Zen 4).
const ALIGN_BYTES_MIN: usize = 16 * 1024;

const CACHE_LINE_BYTES: usize = 64;
