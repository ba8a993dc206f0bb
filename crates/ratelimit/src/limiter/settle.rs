//! What a call turned out to cost: the difference to what was paid for it is charged or given back when it has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;
use vmcp_domain::{Caller, Json, Reply, Stage};

use super::{Bound, Limiter, PaidPart, Permit, Sharing};
use crate::plan::{Owed, PlannedBucket, RulePrice, UNPAYABLE};
use crate::price::Priced;
use crate::remote::{Change, RemoteBucket};
use crate::waiting::{Needs, needs};

/// What is still owed for a call that has ended with a result; `None` where nothing is. What is not done yet stays at its
/// price, and so does a call whose final price cannot be computed.
pub(crate) fn owed(bound: &Bound, caller: &Caller, arguments: Option<&Json>, reply: &Reply) -> Option<Owed> {
    let tool = bound.asked.tool().filter(|_| reply.stage == Stage::Complete)?;
    let buckets = &bound.plan.buckets;
    let more = |trial: Option<u32>| {
        // Nothing was paid that nobody can pay.
        let pays = |bucket: &&PlannedBucket| bucket.trial == trial && bucket.cost != UNPAYABLE;
        let paid = buckets.iter().find(pays)?.cost.get();
        Some(settled(bound, &Priced { tool, caller, arguments, after: Some((paid, reply)) }, trial))
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

impl PaidPart {
    /// The changes that charge more tokens to the buckets that paid.
    pub(super) fn changes<'a>(
        &'a self,
        tokens: impl Fn(&RemoteBucket) -> i64 + 'a,
    ) -> impl Iterator<Item = Change> + 'a {
        let paid = self.ask.buckets.iter().zip(&self.verdict.pays).filter(|(_, pays)| **pays);
        paid.map(move |(bucket, _)| Change {
            tokens: tokens(bucket),
            bucket: bucket.clone(),
            paid_at: Some(self.verdict.at),
        })
    }
}

impl Permit<'_> {
    /// The changes that charge more tokens to the buckets that all replicas share.
    pub(super) fn changes(&self, tokens: impl Fn(&RemoteBucket) -> i64) -> Vec<Change> {
        let leased = self.leased.iter().flat_map(|paid| paid.changes(&tokens));
        self.shared.iter().flat_map(|part| part.changes(&tokens)).chain(leased).collect()
    }

    /// Charges the buckets that paid so much more, or gives as much back. The shared store is told later: no answer waits
    /// for it.
    pub(crate) fn settle(self, limiter: &Arc<Limiter>, owed: &Owed) {
        if let Some(receipt) = &self.local {
            receipt.change(|bucket| -owed.of(bucket.trial));
        }
        if let Some(fallen) = &self.fallen {
            limiter.change_fallen(fallen, Some(owed));
        }
        if limiter.sharing.is_none() {
            if owed.gives_back() {
                self.bell.ring(true);
            }
            return;
        }
        let changes = self.changes(|bucket| owed.of(bucket.trial));
        let told = owed.gives_back().then(|| needs(self.bell.plan, self.bell.user, u64::MAX));
        limiter.change_later(changes, told);
    }
}

/// Settlements that the shared store has not been told of yet.
#[derive(Debug, Default)]
pub(super) struct Unsettled(AtomicUsize);

impl Unsettled {
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// One of them.
struct Settling(Arc<Limiter>);

impl Settling {
    fn begin(limiter: &Arc<Limiter>) -> Self {
        limiter.unsettled.0.fetch_add(1, Ordering::AcqRel);
        Self(limiter.clone())
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.0.unsettled.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Limiter {
    /// Tells the shared store of changes by a task of its own, and those who wait for what is given back.
    pub(super) fn change_later(self: &Arc<Self>, changes: Vec<Change>, told: Option<Needs>) {
        let settling = Settling::begin(self);
        self.upkeep.spawn(async move {
            let limiter = &settling.0;
            if let Some(sharing) = &limiter.sharing {
                limiter.change_shared(sharing, changes).await;
            }
            if let Some(needs) = told {
                limiter.room.given_back(limiter.view(), &needs, true, false);
            }
        });
    }

    /// Changes what calls were charged in the shared store: those of one home together, all or nothing. What the store does not
    /// take stays as it was where it would be given back, since an outage never hands out budget; where it is owed, it is
    /// written back with what is admitted without the store.
    pub(super) async fn change_shared(&self, sharing: &Sharing, changes: Vec<Change>) {
        let mut left: Vec<Change> = changes.into_iter().filter(|change| change.tokens != 0).collect();
        while let Some(home) = left.first().map(|change| change.bucket.home.clone()) {
            let (these, others) = left.into_iter().partition(|change| change.bucket.home == home);
            left = others;
            let these: Vec<Change> = these;
            if let Err(failure) = sharing.store.change(&these).await {
                self.observer.store_failed(failure);
                let owed = these.iter().filter(|change| change.tokens.is_positive());
                self.debts.change(owed.map(|change| (&change.bucket, change.tokens)), &sharing.store);
            }
        }
    }
}
