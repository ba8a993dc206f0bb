//! What has been found out about credentials lately, under the hash of each, so that the second time costs a hash and
//! a look. Bounded in number and in time; credentials themselves are not kept.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

/// How many credentials are remembered, over all.
pub(crate) const CREDENTIALS_MAX: usize = 10_000;
/// Locks, so that requests seldom wait for one another.
const SHARDS: usize = 16;

/// The SHA-256 of a credential.
pub(crate) type Digest = [u8; 32];

/// The hash that a credential is known by.
pub(crate) fn digest(credential: &str) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, credential.as_bytes());
    hash.as_ref().try_into().unwrap_or_default()
}

/// The times of one moment, and which keys are current.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) uptime: Duration,
    pub(crate) unix_s: u64,
    pub(crate) generation: u64,
}

/// For how long something stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    /// Forgotten at this uptime.
    pub(crate) forget_at: Duration,
    /// No longer true at this wall time.
    pub(crate) expires_unix_s: Option<u64>,
}

/// Remembers a value for each credential.
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

    /// What is known of a credential.
    pub(crate) fn get(&self, digest: &Digest, now: Now) -> Option<V> {
        let shard = self.shard(digest)?.lock();
        shard.get(digest).filter(|entry| entry.is_valid(now)).map(|entry| entry.value.clone())
    }

    /// Remembers a value, unless another was faster: then that one is given, so that all hold the same.
    pub(crate) fn get_or_insert(&self, digest: Digest, value: V, standing: Validity, now: Now) -> V {
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
        shard.insert(
            digest,
            CacheEntry { value: value.clone(), validity: standing, generation: now.generation },
        );
        value
    }

    /// Remembers a value, whatever is known already.
    pub(crate) fn replace(&self, digest: Digest, value: V, standing: Validity, now: Now) {
        if let Some(shard) = self.shard(&digest) {
            shard.lock().remove(&digest);
        }
        self.get_or_insert(digest, value, standing, now);
    }

    fn shard(&self, digest: &Digest) -> Option<&Mutex<Shard<V>>> {
        self.0.get(usize::from(digest.first().copied().unwrap_or_default()) % SHARDS)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// Takes out what no longer stands, and if all of it does, what would be forgotten first.
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
