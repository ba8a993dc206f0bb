//! What a call turned out to cost: the difference to what was paid for it is charged or given back when it has ended.

use smallvec::SmallVec;
use vmcp_domain::{Json, Reply, Stage};

use super::{Bound, Limiter, Permit, Sharing};
use crate::price::Priced;
use crate::remote::{Ask, RemoteBucket};

/// What is still owed for a call that has ended with a result, in tokens; less than none where it cost less than was paid.
/// What is not done yet stays at its price, and so does a call whose final price cannot be computed.
pub(crate) fn owed(bound: &Bound, arguments: Option<&Json>, reply: &Reply) -> Option<i64> {
    let paid = bound.plan.buckets.first()?.cost.get();
    let tool = bound.asked.tool().filter(|_| reply.stage == Stage::Complete)?;
    let priced = Priced { tool, arguments, after: Some((paid, reply)) };
    let mut largest = 0;
    for price in &bound.plan.varies.settlements {
        match price.of(&priced) {
            Ok(cost) => largest = largest.max(cost),
            Err(error) => {
                let tool = &tool.name;
                tracing::warn!(%tool, %price, error = error.for_log(), "a call stays at the price it was made for");
                return None;
            }
        }
    }
    Some(i64::from(largest) - i64::from(paid)).filter(|owed| *owed != 0)
}

impl Permit<'_> {
    /// Charges the buckets that paid so much more, or gives as much back.
    pub(crate) async fn settle(self, owed: i64) {
        if let Some(receipt) = &self.local {
            receipt.change(-owed);
        }
        if let Some(fallen) = &self.fallen {
            self.limiter.change_fallen(fallen, Some(owed));
        }
        if let Some(sharing) = &self.limiter.sharing {
            for (ask, verdict) in &self.shared {
                let paid = ask.buckets.iter().zip(&verdict.pays).filter(|(_, pays)| **pays);
                let paid = paid.map(|(bucket, _)| bucket.clone()).collect();
                self.limiter.change_shared(sharing, paid, owed).await;
            }
            if let Some(paid) = &self.leased {
                self.limiter.change_shared(sharing, paid.buckets(), owed).await;
            }
        }
        if owed < 0 {
            self.bell.ring(true);
        }
    }
}

impl Limiter {
    /// Charges `owed` tokens more, or gives as many back where it is less than none.
    pub(super) async fn change_shared(
        &self,
        sharing: &Sharing,
        buckets: SmallVec<[RemoteBucket; 4]>,
        owed: i64,
    ) {
        let count = u32::try_from(owed.unsigned_abs()).unwrap_or(u32::MAX);
        let buckets: SmallVec<[RemoteBucket; 4]> =
            buckets.into_iter().map(|bucket| RemoteBucket { cost: count, ..bucket }).collect();
        let ask = Ask { buckets };
        let pays: SmallVec<[bool; 4]> = ask.buckets.iter().map(|_| true).collect();
        if owed < 0 {
            self.give_back(sharing, &ask, &pays).await;
            return;
        }
        for bucket in &ask.buckets {
            if let Err(failure) = sharing.store.write_debt(bucket, u64::from(count)).await {
                self.observer.store_failed(failure);
                // It is written back with what is admitted without the store.
                let one = Ask { buckets: std::iter::once(bucket.clone()).collect() };
                self.debts.owe(&one, &[true], &sharing.store);
            }
        }
    }
}
