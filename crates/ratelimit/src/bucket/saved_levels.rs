//! The saved levels that the memory store of one process leaves to the next: those of all buckets that are
//! not full. They contain no user name: users and claim values are digests under secrets that are saved with
//! them.

pub(crate) mod codec;

use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use sha2::{Digest as _, Sha256};
use vmcp_timing::Micros;

use crate::bucket::rate::Rate;
use crate::bucket::saved_levels::codec::{Reader, Writer};
use crate::bucket::user_key::UserKey;

/// The first bytes of saved levels. The number changes with the format.
const MAGIC: &[u8; 16] = b"vmcp levels 1\r\n\0";
/// Length of the SHA-256 checksum at the end, in bytes.
const CHECKSUM_BYTES: usize = 32;
/// Hashed to detect whether digests of another program or processor have the same meaning here.
const PROBE: &str = "vmcp";

/// The secret seeds of the digests.
pub(crate) type Secrets = [u64; 8];

/// The saved levels of a memory store.
#[derive(Debug, PartialEq, Eq)]
pub struct SavedLevels {
    pub(crate) secrets: Secrets,
    /// When they were saved, as time of day.
    pub(crate) saved_at: Micros,
    pub(crate) buckets: Vec<SavedBucket>,
    /// The buckets of claim, argument and header values.
    pub(crate) values: Vec<(UserKey, SavedState)>,
    pub(crate) users: Vec<(UserKey, Vec<SavedState>)>,
}

/// A bucket definition, and the level of the bucket that all callers share.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SavedBucket {
    pub(crate) key: Arc<str>,
    pub(crate) rate: Rate,
    pub(crate) state: Option<SavedState>,
}

/// The saved level of one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SavedState {
    /// The index of its definition.
    pub(crate) bucket_index: u32,
    pub(crate) units: i64,
    /// The start of its period, for a calendar quota; zero for others.
    pub(crate) period: Micros,
}

/// Why saved levels cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SavedLevelsError {
    /// The bytes are not saved levels, or are of another version.
    #[error("these are no levels that this version has saved")]
    Format,
    /// The bytes were truncated or changed.
    #[error("the levels are damaged")]
    Damaged,
    /// Another program or processor saved them, and its digests differ.
    #[error("the levels were saved by a program that tells users apart in another way")]
    Foreign,
}

/// The two hashers of 128-bit digests under `secrets`.
pub(crate) fn hashers(secrets: &Secrets) -> (RandomState, RandomState) {
    let [a, b, c, d, e, f, g, h] = *secrets;
    (RandomState::with_seeds(a, b, c, d), RandomState::with_seeds(e, f, g, h))
}

/// Fresh random secrets.
pub(crate) fn fresh_secrets() -> Secrets {
    use std::hash::BuildHasher as _;
    // Each `RandomState` gets new keys from the system.
    std::array::from_fn(|index| std::hash::RandomState::new().hash_one(index))
}

impl SavedLevels {
    /// The number of users and values that have saved levels.
    #[must_use]
    pub fn count(&self) -> usize {
        self.users.len() + self.values.len()
    }

    /// How long ago they were saved.
    #[must_use]
    pub fn age(&self, time_of_day: Micros) -> Duration {
        Duration::from_micros(time_of_day.since(self.saved_at))
    }

    /// The saved levels as bytes, with a checksum at the end.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { secrets, saved_at, buckets, values, users } = self;
        let mut out = Writer::default();
        out.bytes(MAGIC);
        secrets.iter().for_each(|secret| out.u64(*secret));
        out.u64(hashers(secrets).0.hash_one(PROBE));
        out.u64(saved_at.0);
        out.count(buckets.len());
        for SavedBucket { key, rate, state } in buckets {
            out.text(key);
            let (tokens, period) = rate.configured();
            out.u64(tokens);
            out.u64(u64::try_from(period.as_micros()).unwrap_or(u64::MAX));
            // Zero marks a calendar quota; its capacity is its configured number of tokens.
            out.u64(if rate.is_by_calendar() { 0 } else { rate.burst() });
            out.count(usize::from(state.is_some()));
            state.iter().for_each(|state| out.state(state));
        }
        out.count(values.len());
        for (key, state) in values {
            out.key(*key);
            out.state(state);
        }
        out.count(users.len());
        for (key, states) in users {
            out.key(*key);
            out.count(states.len());
            states.iter().for_each(|state| out.state(state));
        }
        let mut bytes = out.into_bytes();
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    /// Reads what [`SavedLevels::encode`] has written.
    ///
    /// # Errors
    /// [`SavedLevelsError`] if the bytes are of another format, damaged, or from a program with other
    /// digests.
    pub fn decode(bytes: &[u8]) -> Result<Self, SavedLevelsError> {
        if !bytes.starts_with(MAGIC) {
            return Err(SavedLevelsError::Format);
        }
        let end = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(SavedLevelsError::Damaged)?;
        let (text, checksum) = bytes.split_at(end);
        if Sha256::digest(text).as_slice() != checksum {
            return Err(SavedLevelsError::Damaged);
        }
        let mut input = Reader(text.get(MAGIC.len()..).unwrap_or_default());
        // The checksum is right, so another program or version wrote what cannot be read.
        let levels = Self::read(&mut input).ok_or(SavedLevelsError::Format)?;
        if !input.0.is_empty() {
            return Err(SavedLevelsError::Format);
        }
        levels.ok_or(SavedLevelsError::Foreign)
    }

    /// The inner `None` means that digests differ here.
    fn read(input: &mut Reader<'_>) -> Option<Option<Self>> {
        let mut secrets = Secrets::default();
        for secret in &mut secrets {
            *secret = input.u64()?;
        }
        let is_ours = input.u64()? == hashers(&secrets).0.hash_one(PROBE);
        let saved_at = Micros(input.u64()?);
        let mut buckets = Vec::new();
        for _ in 0..input.count()? {
            let key = input.text()?.into();
            let (tokens, period, burst) = (input.u64()?, Duration::from_micros(input.u64()?), input.u64()?);
            let rate = match burst {
                0 => Rate::per_calendar_period(tokens, period),
                burst => Rate::new(tokens, period, burst),
            };
            let state = if input.count()? == 1 { Some(input.state()?) } else { None };
            buckets.push(SavedBucket { key, rate: rate.ok()?, state });
        }
        let mut values = Vec::new();
        for _ in 0..input.count()? {
            values.push((input.key()?, input.state()?));
        }
        let mut users = Vec::new();
        for _ in 0..input.count()? {
            let key = input.key()?;
            let mut states = Vec::new();
            for _ in 0..input.count()? {
                states.push(input.state()?);
            }
            users.push((key, states));
        }
        Some(is_ours.then_some(Self { secrets, saved_at, buckets, values, users }))
    }
}

#[cfg(test)]
mod tests;
