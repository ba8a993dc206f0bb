//! [`UserKey`]: a user in the limiter, without the subject itself.

use std::num::NonZeroU128;

/// A user, as a hash under this process's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey(NonZeroU128);

impl UserKey {
    /// The shared user for all users beyond the bound of the store.
    pub(crate) const OVERFLOW: Self = Self(NonZeroU128::MIN);

    /// One of several shared keys for the values beyond a bound.
    pub(crate) fn overflow(index: usize) -> Self {
        Self(NonZeroU128::MIN.saturating_add(index as u128))
    }

    /// A key of this hash. Zero marks an empty slot of the table, so it becomes one.
    #[must_use]
    pub fn new(hash: u128) -> Self {
        Self(NonZeroU128::new(hash).unwrap_or(NonZeroU128::MIN))
    }

    /// The hash.
    pub(crate) fn number(self) -> u128 {
        self.0.get()
    }

    /// A number below `count`, evenly spread. It uses the half of the hash that the table does not use.
    pub(crate) fn shard(self, count: usize) -> usize {
        spread(self.number() as u64, count)
    }
}

/// Maps a hash evenly onto `0..count` without a division.
pub(super) fn spread(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}
