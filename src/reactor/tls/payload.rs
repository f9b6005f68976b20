//! What the records of one read hold.

/// Where the payload of one read goes: into its final place first, the rest into a buffer.
pub struct Payload<'a> {
    pub place: &'a mut [u8],
    pub placed_bytes: usize,
    pub rest: &'a mut [u8],
    pub rest_bytes: usize,
    /// There was no place for; the buffer is so large that there are none.
    pub lost_bytes: usize,
}

impl Payload<'_> {
    pub fn push(&mut self, bytes: &[u8]) {
        let placed = bytes.len().min(self.place.len() - self.placed_bytes);
        let (head, tail) = bytes.split_at(placed);
        self.place[self.placed_bytes..][..placed].copy_from_slice(head);
        self.placed_bytes += placed;
        let kept = tail.len().min(self.rest.len() - self.rest_bytes);
        self.rest[self.rest_bytes..][..kept].copy_from_slice(&tail[..kept]);
        self.rest_bytes += kept;
        self.lost_bytes += tail.len() - kept;
    }

    pub const fn is_empty(&self) -> bool {
        self.placed_bytes + self.rest_bytes == 0
    }
}
