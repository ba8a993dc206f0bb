//! How much was taken ahead, and giving it back at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{LeasedBucket, Leases};
use crate::shared::store::{Adjustment, RemoteBucket};

/// What a replica has taken ahead since it started, over all buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCounts {
    /// How often the store was asked for tokens.
    pub take_requests: u64,
    /// Tokens that it gave.
    pub taken: u64,
    /// Tokens that calls paid with.
    pub spent: u64,
    /// Tokens that may still be spent. What was taken and is neither spent nor held was given back, or dropped when its lease
    /// ended.
    pub held: u64,
}

/// The same while it is counted.
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
    /// What was taken ahead so far.
    #[must_use]
    pub fn counts(&self) -> LeaseCounts {
        let now = self.clock.now();
        let mut counts = LeaseCounts {
            take_requests: self.counters.take_requests.load(Ordering::Relaxed),
            taken: self.counters.taken.load(Ordering::Relaxed),
            ..LeaseCounts::default()
        };
        for reservoir in self.leased_buckets.lock().values() {
            let stock = reservoir.balance.lock();
            counts.spent += stock.spent_total();
            counts.held += stock.available(now);
        }
        counts
    }

    /// Gives everything back that may still be spent here: this replica makes no more calls. What the store does not take is
    /// lost, as if it had been dropped.
    pub async fn return_all(&self) {
        let reservoirs: Vec<Arc<LeasedBucket>> = self.leased_buckets.lock().values().cloned().collect();
        for reservoir in reservoirs {
            // What is on its way comes first: nobody would give it back later.
            let mut changed = Box::pin(reservoir.changed.notified());
            changed.as_mut().enable();
            if reservoir.balance.lock().is_take_pending() {
                changed.await;
            }
            let (held, taken_at) = reservoir.balance.lock().drain(self.clock.now());
            let Ok(cost @ 1..) = u32::try_from(held) else { continue };
            let bucket = RemoteBucket { cost, ..reservoir.remote.clone() };
            let change = Adjustment { tokens: -i64::from(cost), paid_at: Some(taken_at), bucket };
            if self.store.adjust(&[change]).await.is_err() {
                // The others would not be heard either, and each takes the whole of a deadline.
                return;
            }
        }
    }
}
