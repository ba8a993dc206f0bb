//! What is known to be refused without asking. After a decision that left a bucket short, what its buckets held is
//! remembered; until time alone could have filled the short one, the next call is refused here.
//!
//! Two bounds of one level make that exact: the time before sending is no later than the server's moment, so earning
//! from then on is never too little to refuse by; the time of the answer is no earlier, so a wait counted from what
//! was earned since then is never too short.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use vmcp_ratelimit::{AdmitRequest, Level, Micros, Rate, RemoteBucket, RemoteVerdict, policy::Mode};

use crate::script::AdmitGrant;

/// How long a reading counts: refunds of other replicas may add tokens that we do not hear of.
const VALID_FOR: u64 = 1_000_000;
const SHARD_COUNT: usize = 16;
/// How many buckets one shard remembers, twice.
const SHARD_MAX: usize = 1024;

/// What a bucket held.
#[derive(Clone, Copy, Debug)]
struct LevelSnapshot {
    rate: Rate,
    level: i64,
    sent_at: Micros,
    received_at: Micros,
}

/// Readings in two generations: the older one goes when the younger is full or a second old.
#[derive(Debug, Default)]
struct Shard {
    current: HashMap<Arc<str>, LevelSnapshot, RandomState>,
    previous: HashMap<Arc<str>, LevelSnapshot, RandomState>,
    rotated_at: Micros,
}

/// The buckets that are known to be short, and those that were asked with them.
#[derive(Debug)]
pub(crate) struct RefusalCache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// When the newest reading stops to count.
    newest_expires_at: AtomicU64,
    /// Counts what makes readings wrong.
    epoch: AtomicU64,
}

/// When a decision was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentMark {
    at: Micros,
    epoch: u64,
}

impl RefusalCache {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARD_COUNT).map(|_| Mutex::default()).collect();
        Self {
            shards,
            hasher: RandomState::new(),
            newest_expires_at: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        }
    }

    /// Marks the moment before a decision is asked.
    pub(crate) fn mark_sent(&self, now: Micros) -> SentMark {
        SentMark { at: now, epoch: self.epoch.load(Ordering::Acquire) }
    }

    /// The verdict, if it is certain: some enforced bucket cannot pay yet, and of the others it is known what they
    /// held, so that the wait is the longest of all.
    pub(crate) fn find(&self, ask: &AdmitRequest, now: Micros) -> Option<RemoteVerdict> {
        if now.0 >= self.newest_expires_at.load(Ordering::Acquire) {
            return None;
        }
        let mut levels = SmallVec::new();
        let mut short = false;
        for bucket in &ask.buckets {
            let reading = self.snapshot(bucket, now)?;
            let LevelSnapshot { rate, level, sent_at: sent, received_at: received } = reading;
            let cost = rate.units(u64::from(bucket.cost));
            // The clock shows whole microseconds, so either bound gives one away.
            let held = |read: Micros, now: Micros| {
                rate.level_at(Level { units: level, at: bucket.bucket_time(read) }, bucket.bucket_time(now))
            };
            let (most, least) = (held(sent, now.plus(1)), held(received, Micros(now.0.saturating_sub(1))));
            short |= bucket.mode == Mode::Enforce && most < cost;
            levels.push(least);
        }
        let pays = ask.buckets.iter().map(|_| false).collect();
        // Nothing was paid, so that nobody asks when.
        short.then_some(RemoteVerdict { admitted: false, levels, pays, at: Micros::default() })
    }

    /// Remembers what a decision left, if the next one like it would be refused.
    pub(crate) fn insert(&self, ask: &AdmitRequest, grant: &AdmitGrant, sent: SentMark, now: Micros) {
        let short = |(bucket, level): (&RemoteBucket, &i64)| {
            bucket.mode == Mode::Enforce && *level < bucket.rate.units(u64::from(bucket.cost))
        };
        if !ask.buckets.iter().zip(&grant.levels).any(short) {
            return;
        }
        for (bucket, level) in ask.buckets.iter().zip(&grant.levels) {
            let reading =
                LevelSnapshot { rate: bucket.rate, level: *level, sent_at: sent.at, received_at: now };
            let mut shard = self.shard(&bucket.key).lock();
            // What was given back meanwhile may or may not be in the reading. Looked at under the lock, so that
            // whoever gives back after this finds the reading and removes it.
            if sent.epoch != self.epoch.load(Ordering::Acquire) {
                return;
            }
            if shard.current.len() >= SHARD_MAX || now.since(shard.rotated_at) > VALID_FOR {
                shard.previous = std::mem::take(&mut shard.current);
                shard.rotated_at = now;
            }
            shard.current.insert(bucket.key.clone(), reading);
        }
        self.newest_expires_at.fetch_max(sent.at.plus(VALID_FOR).0, Ordering::AcqRel);
    }

    /// Forgets buckets whose level changes by more than time and decisions. Called before and after such a change,
    /// since nobody here knows when the server makes it.
    pub(crate) fn invalidate<'a>(&self, buckets: impl IntoIterator<Item = &'a RemoteBucket>) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        for bucket in buckets {
            let mut shard = self.shard(&bucket.key).lock();
            shard.current.remove(&bucket.key);
            shard.previous.remove(&bucket.key);
        }
    }

    fn snapshot(&self, bucket: &RemoteBucket, now: Micros) -> Option<LevelSnapshot> {
        let shard = self.shard(&bucket.key).lock();
        let reading = shard.current.get(&bucket.key).or_else(|| shard.previous.get(&bucket.key))?;
        (reading.rate == bucket.rate && now.since(reading.sent_at) < VALID_FOR).then_some(*reading)
    }

    fn shard(&self, key: &str) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARD_COUNT as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

#[cfg(test)]
mod tests;
