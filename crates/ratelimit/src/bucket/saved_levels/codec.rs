//! The binary encoding of saved levels: little-endian numbers, and texts with a length prefix.

use vmcp_timing::Micros;

use super::SavedState;
use crate::bucket::user_key::UserKey;

/// Appends values to a buffer.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u64(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// A count is saturated at 32 bits; no process holds that many items.
    pub(super) fn count(&mut self, count: usize) {
        self.bytes(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }

    pub(super) fn key(&mut self, key: UserKey) {
        self.bytes(&key.number().to_le_bytes());
    }

    pub(super) fn state(&mut self, state: &SavedState) {
        let SavedState { bucket_index: bucket, units, period } = state;
        self.bytes(&bucket.to_le_bytes());
        self.bytes(&units.to_le_bytes());
        self.u64(period.0);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads values from the front of the bytes; returns `None` at their end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    pub(super) fn key(&mut self) -> Option<UserKey> {
        self.array().map(u128::from_le_bytes).map(UserKey::new)
    }

    pub(super) fn state(&mut self) -> Option<SavedState> {
        let bucket = u32::from_le_bytes(self.array()?);
        let units = i64::from_le_bytes(self.array()?);
        Some(SavedState { bucket_index: bucket, units, period: Micros(self.u64()?) })
    }
}
