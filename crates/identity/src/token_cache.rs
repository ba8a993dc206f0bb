//! The results of recent verifications by the credential's hash, so that a repeated credential costs a hash
//! and a lookup. The cache is limited in entries and time. It does not store the credentials themselves.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

/// The most credentials in all shards.
pub(crate) const CREDENTIALS_MAX: usize = 10_000;
/// The number of shards, each with its own lock, so that requests seldom wait for each other.
const SHARDS: usize = 16;

/// The SHA-256 of a credential.
pub(crate) type Digest = [u8; 32];

/// The hash that identifies a credential.
pub(crate) fn digest(credential: &str) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, credential.as_bytes());
    hash.as_ref().try_into().unwrap_or_default()
}

/// The current times and the current generation of the issuer's keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) uptime: Duration,
    pub(crate) unix_s: u64,
    pub(crate) generation: u64,
}

/// How long an entry is valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    /// The entry is dropped at this uptime.
    pub(crate) forget_at: Duration,
    /// The credential expires at this wall time.
    pub(crate) expires_unix_s: Option<u64>,
}

/// Caches one value per credential.
#[derive(Debug)]
pub(crate) struct TokenCache<V>(Vec<Mutex<Shard<V>>>);

type Shard<V> = HashMap<Digest, CacheEntry<V>, ahash::RandomState>;

#[derive(Debug)]
struct CacheEntry<V> {
    value: V,
    validity: Validity,
    generation: u64,
}

impl<V> CacheEntry<V> {
    fn is_valid(&self, now: Now) -> bool {
        self.generation == now.generation
            && now.uptime < self.validity.forget_at
            && self.validity.expires_unix_s.is_none_or(|until_s| now.unix_s < until_s)
    }
}

impl<V: Clone> TokenCache<V> {
    pub(crate) fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// The valid value for a credential.
    pub(crate) fn get(&self, digest: &Digest, now: Now) -> Option<V> {
        let shard = self.shard(digest)?.lock();
        shard.get(digest).filter(|entry| entry.is_valid(now)).map(|entry| entry.value.clone())
    }

    /// Inserts a value, unless a valid one exists. Returns the cached value, so that all requests share the
    /// same one.
    pub(crate) fn get_or_insert(&self, digest: Digest, value: V, validity: Validity, now: Now) -> V {
        let Some(shard) = self.shard(&digest) else {
            return value;
        };
        let mut shard = shard.lock();
        if let Some(known) = shard.get(&digest).filter(|entry| entry.is_valid(now)) {
            return known.value.clone();
        }
        if shard.len() >= CREDENTIALS_MAX / SHARDS && !shard.contains_key(&digest) {
            evict(&mut shard, now);
        }
        shard.insert(digest, CacheEntry { value: value.clone(), validity, generation: now.generation });
        value
    }

    /// Inserts a value and replaces an existing one.
    pub(crate) fn replace(&self, digest: Digest, value: V, validity: Validity, now: Now) {
        if let Some(shard) = self.shard(&digest) {
            shard.lock().remove(&digest);
        }
        self.get_or_insert(digest, value, validity, now);
    }

    fn shard(&self, digest: &Digest) -> Option<&Mutex<Shard<V>>> {
        self.0.get(usize::from(digest.first().copied().unwrap_or_default()) % SHARDS)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// Removes the invalid entries. If there are none, removes the one that would be dropped first.
fn evict<V>(shard: &mut Shard<V>, now: Now) {
    let before = shard.len();
    shard.retain(|_, entry| entry.is_valid(now));
    if shard.len() < before {
        return;
    }
    let first = shard.iter().min_by_key(|(_, entry)| entry.validity.forget_at).map(|(digest, _)| *digest);
    if let Some(first) = first {
        shard.remove(&first);
    }
}

#[cfg(test)]
mod tests;
