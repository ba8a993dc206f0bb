//! A cache of refusals that are certain without asking the server. After a decision that left a bucket short,
//! the levels of its buckets are remembered. Until time alone could have filled the short bucket, the next
//! call is refused here.
//!
//! Two bounds of one level make that exact. The time before sending is no later than the server's moment, so
//! the refill from then on is never too small to refuse by. The time of the reply is no earlier than the
//! server's moment, so a wait that is computed from the refill since then is never too short.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use vmcp_ratelimit::{AdmitRequest, Level, Rate, RemoteBucket, RemoteVerdict, policy::Mode};
use vmcp_timing::Micros;

use crate::script::AdmitGrant;

/// How long a snapshot is valid, in microseconds: refunds of other replicas may add tokens that this one does
/// not see.
const VALID_FOR: u64 = 1_000_000;
const SHARD_COUNT: usize = 16;
/// The most buckets in each of a shard's two generations.
const SHARD_MAX: usize = 1024;

/// The level of a bucket in one decision.
#[derive(Clone, Copy, Debug)]
struct LevelSnapshot {
    rate: Rate,
    level: i64,
    sent_at: Micros,
    received_at: Micros,
}

/// Snapshots in two generations: the older one is dropped when the younger one is full or a second old.
#[derive(Debug, Default)]
struct Shard {
    current: HashMap<Arc<str>, LevelSnapshot, RandomState>,
    previous: HashMap<Arc<str>, LevelSnapshot, RandomState>,
    rotated_at: Micros,
}

/// The buckets that are known to be short, and those that were part of the same request.
#[derive(Debug)]
pub(crate) struct RefusalCache {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// When the newest snapshot expires.
    newest_expires_at: AtomicU64,
    /// Counts the changes that make snapshots wrong.
    epoch: AtomicU64,
}

/// The moment and epoch in which a decision was requested.
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

    /// Marks the moment before a decision is requested.
    pub(crate) fn mark_sent(&self, now: Micros) -> SentMark {
        SentMark { at: now, epoch: self.epoch.load(Ordering::Acquire) }
    }

    /// The verdict, if it is certain: some enforced bucket cannot pay yet, and the levels of all other
    /// buckets are known, so that the wait is the longest of all.
    pub(crate) fn find(&self, request: &AdmitRequest, now: Micros) -> Option<RemoteVerdict> {
        if now.0 >= self.newest_expires_at.load(Ordering::Acquire) {
            return None;
        }
        let mut levels = SmallVec::new();
        let mut short = false;
        for bucket in &request.buckets {
            let snapshot = self.snapshot(bucket, now)?;
            let LevelSnapshot { rate, level, sent_at: sent, received_at: received } = snapshot;
            let cost = rate.units(u64::from(bucket.cost));
            // The clock shows whole microseconds, so each bound allows for one more.
            let held = |read: Micros, now: Micros| {
                rate.level_at(Level { units: level, at: bucket.bucket_time(read) }, bucket.bucket_time(now))
            };
            let (most, least) = (held(sent, now.plus(1)), held(received, Micros(now.0.saturating_sub(1))));
            short |= bucket.mode == Mode::Enforce && most < cost;
            levels.push(least);
        }
        let pays = request.buckets.iter().map(|_| false).collect();
        // Nothing was paid, so the time of the payment is never used.
        short.then_some(RemoteVerdict { admitted: false, levels, pays, at: Micros::default() })
    }

    /// Remembers the levels after a decision, if the next equal request would be refused.
    pub(crate) fn insert(&self, request: &AdmitRequest, grant: &AdmitGrant, sent: SentMark, now: Micros) {
        let short = |(bucket, level): (&RemoteBucket, &i64)| {
            bucket.mode == Mode::Enforce && *level < bucket.rate.units(u64::from(bucket.cost))
        };
        if !request.buckets.iter().zip(&grant.levels).any(short) {
            return;
        }
        for (bucket, level) in request.buckets.iter().zip(&grant.levels) {
            let snapshot =
                LevelSnapshot { rate: bucket.rate, level: *level, sent_at: sent.at, received_at: now };
            let mut shard = self.shard(&bucket.key).lock();
            // A refund during the decision may or may not be in the snapshot. The epoch is checked under the
            // lock, so that a refund after this check finds the snapshot and removes it.
            if sent.epoch != self.epoch.load(Ordering::Acquire) {
                return;
            }
            if shard.current.len() >= SHARD_MAX || now.since(shard.rotated_at) > VALID_FOR {
                shard.previous = std::mem::take(&mut shard.current);
                shard.rotated_at = now;
            }
            shard.current.insert(bucket.key.clone(), snapshot);
        }
        self.newest_expires_at.fetch_max(sent.at.plus(VALID_FOR).0, Ordering::AcqRel);
    }

    /// Removes buckets whose level changes by more than time and decisions. It is called before and after
    /// such a change, because the moment of the change on the server is unknown here.
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
        let snapshot = shard.current.get(&bucket.key).or_else(|| shard.previous.get(&bucket.key))?;
        (snapshot.rate == bucket.rate && now.since(snapshot.sent_at) < VALID_FOR).then_some(*snapshot)
    }

    fn shard(&self, key: &str) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARD_COUNT as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

#[cfg(test)]
mod tests;
