//! Memory for large answers that returns to the system as soon as the answer is dropped. The allocator keeps
//! freed memory, so a burst of large answers would permanently enlarge the process.

use std::io;

use bytes::Bytes;
use memmap2::MmapMut;

/// Minimum size of an answer that is stored here. Mapping costs more than the allocator does, so smaller
/// answers are not.
pub(crate) const LARGE_BYTES: usize = 8 << 20;

/// A growing buffer in its own memory mapping.
pub(crate) struct LargeBuffer {
    map: MmapMut,
    len: usize,
}

impl LargeBuffer {
    /// Creates a buffer with capacity for `bytes` bytes. Memory is only used for what is written.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        Ok(Self { map: MmapMut::map_anon(bytes.max(1))?, len: 0 })
    }

    /// Appends `data`, and grows the mapping if needed.
    pub(crate) fn extend(&mut self, data: &[u8]) -> io::Result<()> {
        let end = self.len + data.len();
        if end > self.map.len() {
            let mut grown = MmapMut::map_anon(end.max(self.map.len() * 2))?;
            if let (Some(to), Some(from)) = (grown.get_mut(..self.len), self.map.get(..self.len)) {
                to.copy_from_slice(from);
            }
            self.map = grown;
        }
        if let Some(to) = self.map.get_mut(self.len..end) {
            to.copy_from_slice(data);
        }
        self.len = end;
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The written bytes. The memory returns to the system when the last slice of it is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for LargeBuffer {
    fn as_ref(&self) -> &[u8] {
        self.map.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_however_it_grew() {
        let mut buffer = LargeBuffer::new(10).unwrap();
        let mut expected = Vec::new();
        for number in 0..=255_u8 {
            let piece = vec![number; 1000];
            buffer.extend(&piece).unwrap();
            expected.extend_from_slice(&piece);
        }
        assert_eq!((buffer.len(), buffer.freeze()), (expected.len(), Bytes::from(expected)));
    }
}
