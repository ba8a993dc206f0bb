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
use vmcp_ratelimit::{Ask, Level, Micros, Rate, RemoteBucket, RemoteVerdict, policy::Mode};

use crate::script::Grant;

/// How long a reading counts: refunds of other replicas may add tokens that we do not hear of.
const KEPT: u64 = 1_000_000;
const SHARD_COUNT: usize = 16;
/// How many buckets one shard remembers, twice.
const SHARD_MAX: usize = 1024;

/// What a bucket held.
#[derive(Clone, Copy, Debug)]
struct Reading {
    rate: Rate,
    level: i64,
    sent: Micros,
    received: Micros,
}

/// Readings in two generations: the older one goes when the younger is full or a second old.
#[derive(Debug, Default)]
struct Shard {
    young: HashMap<Arc<str>, Reading, RandomState>,
    old: HashMap<Arc<str>, Reading, RandomState>,
    turned: Micros,
}

/// The buckets that are known to be short, and those that were asked with them.
#[derive(Debug)]
pub(crate) struct Refusals {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    /// When the newest reading stops to count.
    quiet_from: AtomicU64,
    /// Counts what makes readings wrong.
    epoch: AtomicU64,
}

/// When a decision was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    at: Micros,
    epoch: u64,
}

impl Refusals {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARD_COUNT).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), quiet_from: AtomicU64::new(0), epoch: AtomicU64::new(0) }
    }

    /// Marks the moment before a decision is asked.
    pub(crate) fn sent(&self, now: Micros) -> Sent {
        Sent { at: now, epoch: self.epoch.load(Ordering::Acquire) }
    }

    /// The verdict, if it is certain: some enforced bucket cannot pay yet, and of the others it is known what they
    /// held, so that the wait is the longest of all.
    pub(crate) fn find(&self, ask: &Ask, now: Micros) -> Option<RemoteVerdict> {
        if now.0 >= self.quiet_from.load(Ordering::Acquire) {
            return None;
        }
        let mut levels = SmallVec::new();
        let mut short = false;
        for bucket in &ask.buckets {
            let reading = self.reading(bucket, now)?;
            let Reading { rate, level, sent, received } = reading;
            let cost = rate.units(u64::from(bucket.cost));
            // The clock shows whole microseconds, so either bound gives one away.
            let held = |read: Micros, now: Micros| {
                rate.level_at(Level { units: level, at: bucket.time(read) }, bucket.time(now))
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
    pub(crate) fn remember(&self, ask: &Ask, grant: &Grant, sent: Sent, now: Micros) {
        let short = |(bucket, level): (&RemoteBucket, &i64)| {
            bucket.mode == Mode::Enforce && *level < bucket.rate.units(u64::from(bucket.cost))
        };
        if !ask.buckets.iter().zip(&grant.levels).any(short) {
            return;
        }
        for (bucket, level) in ask.buckets.iter().zip(&grant.levels) {
            let reading = Reading { rate: bucket.rate, level: *level, sent: sent.at, received: now };
            let mut shard = self.shard(&bucket.key).lock();
            // What was given back meanwhile may or may not be in the reading. Looked at under the lock, so that
            // whoever gives back after this finds the reading and removes it.
            if sent.epoch != self.epoch.load(Ordering::Acquire) {
                return;
            }
            if shard.young.len() >= SHARD_MAX || now.since(shard.turned) > KEPT {
                shard.old = std::mem::take(&mut shard.young);
                shard.turned = now;
            }
            shard.young.insert(bucket.key.clone(), reading);
        }
        self.quiet_from.fetch_max(sent.at.plus(KEPT).0, Ordering::AcqRel);
    }

    /// Forgets buckets whose level changes by more than time and decisions. Called before and after such a change,
    /// since nobody here knows when the server makes it.
    pub(crate) fn forget<'a>(&self, buckets: impl IntoIterator<Item = &'a RemoteBucket>) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        for bucket in buckets {
            let mut shard = self.shard(&bucket.key).lock();
            shard.young.remove(&bucket.key);
            shard.old.remove(&bucket.key);
        }
    }

    fn reading(&self, bucket: &RemoteBucket, now: Micros) -> Option<Reading> {
        let shard = self.shard(&bucket.key).lock();
        let reading = shard.young.get(&bucket.key).or_else(|| shard.old.get(&bucket.key))?;
        (reading.rate == bucket.rate && now.since(reading.sent) < KEPT).then_some(*reading)
    }

    fn shard(&self, key: &str) -> &Mutex<Shard> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARD_COUNT as u64).unwrap_or(0);
        &self.shards[hash]
    }
}

#[cfg(test)]
mod tests;
