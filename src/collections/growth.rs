//! Vectors that hold little more memory than they need: they grow by an eighth and not by doubling,
//! and give memory back.

/// Appends; where there is no room, makes room for an eighth more.
pub fn push<T>(vector: &mut Vec<T>, value: T) {
    if vector.len() == vector.capacity() {
        vector.reserve_exact(spare(vector.len()));
    }
    vector.push(value);
}

/// Fills up with `value` until there are `len`.
pub fn extend_to<T: Clone>(vector: &mut Vec<T>, len: usize, value: T) {
    if len > vector.capacity() {
        vector.reserve_exact(len + spare(len) - vector.len());
    }
    if len > vector.len() {
        vector.resize(len, value);
    }
}

/// Gives memory back once more than half of it is spare.
pub fn shrink<T>(vector: &mut Vec<T>) {
    if vector.is_empty() {
        *vector = Vec::new();
    } else if vector.len() < vector.capacity() / 2 {
        vector.shrink_to(vector.len() + spare(vector.len()));
    }
}

/// The memory of a vector.
pub fn bytes<T>(vector: &Vec<T>) -> usize {
    vector.capacity() * size_of::<T>()
}

const fn spare(len: usize) -> usize {
    if len < 8 * SPARE_MIN { SPARE_MIN } else { len / 8 }
}

/// So that short vectors do not move with each push.
const SPARE_MIN: usize = 4;
