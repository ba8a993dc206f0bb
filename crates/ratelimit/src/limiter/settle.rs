//! What a call turned out to cost: the difference to what was paid for it is charged or given back when it has ended.

use smallvec::SmallVec;
use vmcp_domain::{Json, Reply, Stage};

use super::{Bound, Limiter, PaidPart, Permit, Sharing};
use crate::plan::{Owed, RulePrice, UNPAYABLE};
use crate::price::Priced;
use crate::remote::{Ask, RemoteBucket};

/// What is still owed for a call that has ended with a result; `None` where nothing is. What is not done yet stays at its
/// price, and so does a call whose final price cannot be computed.
pub(crate) fn owed(bound: &Bound, arguments: Option<&Json>, reply: &Reply) -> Option<Owed> {
    let tool = bound.asked.tool().filter(|_| reply.stage == Stage::Complete)?;
    let buckets = &bound.plan.buckets;
    let more = |trial: Option<u32>| {
        let paid = buckets.iter().find(|bucket| bucket.trial == trial)?.cost;
        // Nothing was paid that nobody can pay.
        (paid != UNPAYABLE)
            .then(|| settled(bound, &Priced { tool, arguments, after: Some((paid.get(), reply)) }, trial))
    };
    let mut owed = Owed::in_force(more(None).unwrap_or(0));
    let mut known: SmallVec<[u32; 2]> = SmallVec::new();
    for rule in buckets.iter().filter_map(|bucket| bucket.trial) {
        if !known.contains(&rule) {
            known.push(rule);
            owed.add_trial(rule, more(Some(rule)).unwrap_or(0));
        }
    }
    (!owed.is_nothing()).then_some(owed)
}

/// How much more than was paid a call costs in the end, by the rules in force and, for its own buckets, by one on trial.
fn settled(bound: &Bound, priced: &Priced<'_>, trial: Option<u32>) -> i64 {
    let mut largest = None;
    let counts = |settlement: &&RulePrice| settlement.trial.is_none() || settlement.trial == trial;
    for RulePrice { price, .. } in bound.plan.varies.settlements.iter().filter(counts) {
        match price.of(priced) {
            Ok(cost) => largest = largest.max(Some(cost)),
            Err(error) => {
                let tool = &priced.tool.name;
                tracing::warn!(%tool, %price, error = error.for_log(), "a call stays at the price it was made for");
                return 0;
            }
        }
    }
    let paid = priced.after.map_or(0, |(paid, _)| paid);
    largest.map_or(0, |largest| i64::from(largest) - i64::from(paid))
}

impl Permit<'_> {
    /// Charges the buckets that paid so much more, or gives as much back.
    pub(crate) async fn settle(self, owed: &Owed) {
        if let Some(receipt) = &self.local {
            receipt.change(|bucket| -owed.of(bucket.trial));
        }
        if let Some(fallen) = &self.fallen {
            self.limiter.change_fallen(fallen, Some(owed));
        }
        if let Some(sharing) = &self.limiter.sharing {
            for PaidPart { ask, verdict, .. } in &self.shared {
                let paid = ask.buckets.iter().zip(&verdict.pays).filter(|(_, pays)| **pays);
                let paid = paid.map(|(bucket, _)| bucket.clone()).collect();
                self.limiter.change_shared(sharing, paid, |bucket| owed.of(bucket.trial)).await;
            }
            if let Some(paid) = &self.leased {
                self.limiter.change_shared(sharing, paid.buckets(), |bucket| owed.of(bucket.trial)).await;
            }
        }
        if owed.gives_back() {
            self.bell.ring(true);
        }
    }
}

impl Limiter {
    /// Charges more tokens, or gives as many back where they are less than none.
    pub(super) async fn change_shared(
        &self,
        sharing: &Sharing,
        buckets: SmallVec<[RemoteBucket; 4]>,
        owed: impl Fn(&RemoteBucket) -> i64,
    ) {
        let (mut back, mut more): (SmallVec<[RemoteBucket; 4]>, SmallVec<[RemoteBucket; 4]>) =
            Default::default();
        for bucket in buckets {
            let tokens = owed(&bucket);
            let cost = u32::try_from(tokens.unsigned_abs()).unwrap_or(u32::MAX);
            let changed = RemoteBucket { cost, ..bucket };
            match tokens {
                0 => {}
                ..0 => back.push(changed),
                1.. => more.push(changed),
            }
        }
        if !back.is_empty() {
            let pays: SmallVec<[bool; 4]> = back.iter().map(|_| true).collect();
            self.give_back(sharing, &Ask { buckets: back }, &pays).await;
        }
        for bucket in &more {
            if let Err(failure) = sharing.store.write_debt(bucket, u64::from(bucket.cost)).await {
                self.observer.store_failed(failure);
                // It is written back with what is admitted without the store.
                let one = Ask { buckets: std::iter::once(bucket.clone()).collect() };
                self.debts.owe(&one, &[true], &sharing.store);
            }
        }
    }
}
