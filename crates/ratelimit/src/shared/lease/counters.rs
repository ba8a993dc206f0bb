//! Counts leased tokens, and returns them to the store when the replica shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{LeasedBucket, Leases};
use crate::shared::store::{Adjustment, RemoteBucket};

/// The leased tokens of a replica since it started, over all buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCounts {
    /// How many take requests were sent to the store.
    pub take_requests: u64,
    /// Tokens that the store granted.
    pub taken: u64,
    /// Tokens that calls paid with.
    pub spent: u64,
    /// Tokens that may still be spent. Tokens that were taken but are neither spent nor held were returned,
    /// or were dropped when their lease expired.
    pub held: u64,
}

/// The atomic counters behind [`LeaseCounts`].
#[derive(Debug, Default)]
pub(super) struct LeaseCounters {
    take_requests: AtomicU64,
    taken: AtomicU64,
}

impl LeaseCounters {
    pub(super) fn record_take(&self, taken: u64) {
        self.take_requests.fetch_add(1, Ordering::Relaxed);
        self.taken.fetch_add(taken, Ordering::Relaxed);
    }
}

impl Leases {
    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> LeaseCounts {
        let now = self.clock.now();
        let mut counts = LeaseCounts {
            take_requests: self.counters.take_requests.load(Ordering::Relaxed),
            taken: self.counters.taken.load(Ordering::Relaxed),
            ..LeaseCounts::default()
        };
        for leased_bucket in self.leased_buckets.lock().values() {
            let balance = leased_bucket.balance.lock();
            counts.spent += balance.spent_total();
            counts.held += balance.available(now);
        }
        counts
    }

    /// Returns all tokens that may still be spent, because this replica makes no more calls. If the store
    /// does not accept them, they are lost, as if their lease had expired.
    pub async fn return_all(&self) {
        let leased_buckets: Vec<Arc<LeasedBucket>> = self.leased_buckets.lock().values().cloned().collect();
        for leased_bucket in leased_buckets {
            // A pending take finishes first, since its tokens could not be returned later.
            let mut changed = Box::pin(leased_bucket.changed.notified());
            changed.as_mut().enable();
            if leased_bucket.balance.lock().is_take_pending() {
                changed.await;
            }
            let (held, taken_at) = leased_bucket.balance.lock().drain(self.clock.now());
            let Ok(cost @ 1..) = u32::try_from(held) else { continue };
            let bucket = RemoteBucket { cost, ..leased_bucket.remote.clone() };
            let change = Adjustment { tokens: -i64::from(cost), paid_at: Some(taken_at), bucket };
            if self.store.adjust(&[change]).await.is_err() {
                // The store would not answer for the other buckets either, and each attempt takes a whole
                // deadline.
                return;
            }
        }
    }
}
