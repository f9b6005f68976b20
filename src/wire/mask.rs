//! Masking (RFC 6455 §5.3): `payload[i] ^= key[i % 4]`, in place, both ways the same.
//!
//! Up to 32 bytes, where most messages are, two words that overlap do the whole payload inline.
//! Longer payloads take one safe loop that is compiled twice: as it is, and with AVX2 for the
//! processors that have it. `--cfg force_scalar` selects the first everywhere.
#![allow(unsafe_code)] // The only place: one call, after its feature was detected.

/// The four bytes that a client's frame is masked with, in the order of the wire (RFC 6455 §5.3).
///
/// Held as one aligned word: headers are passed around by value, and four single bytes would be
/// put together again from pieces each time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct MaskingKey(u32);

impl MaskingKey {
    /// The key that changes nothing: what is not masked can be handled as if it were.
    pub const IDENTITY: Self = Self(0);

    /// The key with these bytes, as they stand in a header.
    #[inline]
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The bytes for a header.
    #[inline]
    pub const fn to_bytes(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The key for the rest of a payload of which so many `bytes` are done already.
    #[inline]
    pub const fn rotated(self, bytes: usize) -> Self {
        let key = u32::from_be_bytes(self.to_bytes());
        Self::from_bytes(key.rotate_left(8 * (bytes % 4) as u32).to_be_bytes())
    }
}

/// Masks or unmasks the payload in place; its first byte is the key's first.
///
/// A payload may be done in pieces: the next piece takes the key
/// [`rotated`](MaskingKey::rotated) by the bytes before it.
#[inline]
pub fn apply(payload: &mut [u8], key: MaskingKey) {
    if payload.len() <= SHORT_BYTES_MAX {
        apply_short(payload, key);
    } else {
        apply_long(payload, key);
    }
}

/// Masks a copy of `payload`, which `target` is for: in one pass, for a payload that is short.
///
/// # Panics
/// If they are not of one length.
#[inline]
pub fn copy(payload: &[u8], target: &mut [u8], key: MaskingKey) {
    assert_eq!(payload.len(), target.len(), "a copy is as long as what it is of");
    match payload.len() {
        0..=3 => {
            target.copy_from_slice(payload);
            apply_bytes(target, key);
        }
        4..=7 => copy_ends::<4>(payload, target, key),
        8..=15 => copy_ends::<8>(payload, target, key),
        16..=SHORT_BYTES_MAX => copy_ends::<16>(payload, target, key),
        _ => {
            let words = payload.as_chunks::<SHORT_BYTES_MAX>().0;
            for (word, masked) in words.iter().zip(target.as_chunks_mut().0) {
                *masked = xor_word(*word, key);
            }
            copy_last::<SHORT_BYTES_MAX>(payload, target, key);
        }
    }
}

/// Copies `N` to `2 * N` bytes as a first and a last word that may overlap.
#[inline]
fn copy_ends<const N: usize>(payload: &[u8], target: &mut [u8], key: MaskingKey) {
    if let (Some(first), Some(masked)) = (payload.first_chunk::<N>(), target.first_chunk_mut()) {
        *masked = xor_word(*first, key);
    }
    copy_last::<N>(payload, target, key);
}

/// Copies the last word; where another has covered bytes of it, they get the same value twice.
#[inline]
fn copy_last<const N: usize>(payload: &[u8], target: &mut [u8], key: MaskingKey) {
    const { assert!(N.is_multiple_of(4), "the last word's key is rotated by len - N, so by len") };
    if let (Some(last), Some(masked)) = (payload.last_chunk::<N>(), target.last_chunk_mut()) {
        *masked = xor_word(*last, key.rotated(payload.len()));
    }
}

/// Masks at most [`SHORT_BYTES_MAX`] bytes.
#[inline(always)]
fn apply_short(payload: &mut [u8], key: MaskingKey) {
    debug_assert!(payload.len() <= SHORT_BYTES_MAX);
    match payload.len() {
        0..=3 => apply_bytes(payload, key),
        4..=7 => apply_ends::<4>(payload, key),
        8..=15 => apply_ends::<8>(payload, key),
        _ => apply_ends::<16>(payload, key),
    }
}

/// Masks `N` to `2 * N` bytes as a first and a last word that may overlap: both are loaded before
/// either is stored, so the bytes that they share get the same value twice.
#[inline]
fn apply_ends<const N: usize>(payload: &mut [u8], key: MaskingKey) {
    const { assert!(N.is_multiple_of(4), "the last word's key is rotated by len - N, so by len") };
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

/// Four bytes at a time: the shape that LLVM makes vectors of, whichever the target.
#[inline(always)]
fn xor_word<const N: usize>(mut word: [u8; N], key: MaskingKey) -> [u8; N] {
    for lane in word.as_chunks_mut().0 {
        *lane = (u32::from_ne_bytes(*lane) ^ key.0).to_ne_bytes();
    }
    word
}

/// Masks at most as many bytes as the key has.
#[inline]
fn apply_bytes(payload: &mut [u8], key: MaskingKey) {
    for (byte, key) in payload.iter_mut().zip(key.to_bytes()) {
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

/// The loop itself, always inlined so that it is compiled for its caller's target features.
#[inline(always)]
fn apply_words(payload: &mut [u8], key: MaskingKey) {
    let (words, rest) = payload.as_chunks_mut::<SHORT_BYTES_MAX>();
    for word in words {
        *word = xor_word(*word, key);
    }
    apply_short(rest, key);
}

/// Two words of 16 bytes, which every 64-bit target has; also one vector of AVX2.
const SHORT_BYTES_MAX: usize = 32;

/// From here on vectors that straddle cache lines cost more than a short unaligned beginning does:
/// about 110 against 70–90 GB/s (Zen 4).
const ALIGN_BYTES_MIN: usize = 16 * 1024;

const CACHE_LINE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One way to mask, the way that is called or a part of it.
    struct Backend {
        name: &'static str,
        apply: fn(&mut [u8], MaskingKey),
    }

    /// Every backend that this machine can run; each must work for every length.
    fn backends() -> Vec<Backend> {
        let mut backends =
            vec![Backend { name: "apply", apply }, Backend { name: "long", apply: apply_long }];
        backends.push(Backend { name: "scalar", apply: apply_scalar });
        #[cfg(all(target_arch = "x86_64", not(force_scalar)))]
        if is_x86_feature_detected!("avx2") {
            backends.push(Backend {
                name: "avx2",
                // SAFETY: AVX2 was detected two lines above; there is no other precondition.
                apply: |payload, key| unsafe { apply_avx2(payload, key) },
            });
        }
        backends
    }

    /// RFC 6455 §5.3, word for word: `transformed[i] = original[i] XOR key[i MOD 4]`.
    fn apply_naively(payload: &mut [u8], key: MaskingKey) {
        let key = key.to_bytes();
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
    }

    /// Bytes without a short period.
    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index * 167 + index / 251 * 13) as u8).collect()
    }

    /// Masks `len` bytes of a copy of `noise` from an address that is `alignment` beyond a cache
    /// line, and checks them and their neighbours.
    fn check(backend: &Backend, noise: &[u8], len: usize, alignment: usize) {
        let mut buffer = noise[..len + 3 * CACHE_LINE_BYTES].to_vec();
        let start = buffer.as_ptr().align_offset(CACHE_LINE_BYTES) + alignment;
        let mut expected = buffer.clone();
        apply_naively(&mut expected[start..start + len], KEY);
        (backend.apply)(&mut buffer[start..start + len], KEY);
        assert!(buffer == expected, "{} len {len} alignment {alignment}", backend.name);
    }

    const KEY: MaskingKey = MaskingKey::from_bytes([0x37, 0xFA, 0x21, 0x3D]);

    #[test]
    fn every_backend_agrees_with_the_naive_loop_at_every_length_and_alignment() {
        let noise = noise(1000);
        for backend in backends() {
            for alignment in 0..CACHE_LINE_BYTES {
                for len in 0..=600 {
                    check(&backend, &noise, len, alignment);
                }
            }
        }
    }

    #[test]
    fn every_backend_agrees_with_the_naive_loop_around_the_aligned_start() {
        let noise = noise(ALIGN_BYTES_MIN + 1000);
        for backend in backends() {
            for alignment in 0..CACHE_LINE_BYTES {
                for len in [ALIGN_BYTES_MIN - 1, ALIGN_BYTES_MIN, ALIGN_BYTES_MIN + 71] {
                    check(&backend, &noise, len, alignment);
                }
            }
        }
    }

    #[test]
    fn a_masked_copy_agrees_with_the_naive_loop_at_every_length_and_alignment() {
        let noise = noise(1000);
        for alignment in 0..CACHE_LINE_BYTES {
            for len in 0..=600 {
                let payload = &noise[alignment..alignment + len];
                let mut expected = noise.clone();
                let place = 2 * alignment..2 * alignment + len;
                expected[place.clone()].copy_from_slice(payload);
                apply_naively(&mut expected[place.clone()], KEY);
                let mut target = noise.clone();
                copy(payload, &mut target[place], KEY);
                assert!(target == expected, "len {len} alignment {alignment}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "as long as")]
    fn a_masked_copy_into_another_length_panics() {
        copy(&[0; 5], &mut [0; 4], KEY);
    }

    #[test]
    fn example_of_5_7_is_unmasked() {
        let mut payload = [0x7F, 0x9F, 0x4D, 0x51, 0x58];
        apply(&mut payload, KEY);
        assert_eq!(&payload, b"Hello");
    }

    #[test]
    fn rotated_key_begins_at_the_next_byte() {
        for bytes in 0..16 {
            let expected: Vec<u8> =
                (0..4).map(|index| KEY.to_bytes()[(bytes + index) % 4]).collect();
            assert_eq!(KEY.rotated(bytes).to_bytes()[..], expected);
        }
        assert_eq!(KEY.rotated(usize::MAX), KEY.rotated(3));
        assert_eq!(MaskingKey::from_bytes(KEY.to_bytes()), KEY);
    }

    proptest! {
        #[test]
        fn pieces_with_rotated_keys_equal_the_whole(
            key: [u8; 4],
            payload in prop::collection::vec(any::<u8>(), 0..2000),
            cut: prop::sample::Index,
        ) {
            let key = MaskingKey::from_bytes(key);
            let cut = cut.index(payload.len() + 1);
            let mut expected = payload.clone();
            apply_naively(&mut expected, key);
            for backend in backends() {
                let mut pieces = payload.clone();
                (backend.apply)(&mut pieces[..cut], key);
                (backend.apply)(&mut pieces[cut..], key.rotated(cut));
                prop_assert_eq!(&pieces, &expected, "{}", backend.name);
            }
        }

        #[test]
        fn masking_twice_changes_nothing(
            key: [u8; 4],
            len in 0..2 * ALIGN_BYTES_MIN,
        ) {
            let payload = noise(len);
            for backend in backends() {
                let mut twice = payload.clone();
                (backend.apply)(&mut twice, MaskingKey::from_bytes(key));
                (backend.apply)(&mut twice, MaskingKey::from_bytes(key));
                prop_assert!(twice == payload, "{}", backend.name);
            }
        }
    }
}
