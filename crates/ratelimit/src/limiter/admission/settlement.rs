//! Settlement: when a call has ended, the difference between its final cost and what was paid is charged or
//! refunded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smallvec::SmallVec;
use vmcp_domain::{Caller, Reply, ResultType};
use vmcp_json::Json;

use crate::limiter::{Limiter, PaidBatch, Permit, Sharing, ToolPlan};
use crate::plan::price::PricedCall;
use crate::plan::{PlannedBucket, RulePrice, Settlement, UNPAYABLE};
use crate::queue::{Needs, needs};
use crate::shared::store::{Adjustment, RemoteBucket};

/// What a call that has ended with a result still owes; `None` where it owes nothing. A result that is not
/// complete keeps its price, and so does a call whose final price cannot be computed.
pub(crate) fn compute_settlement(
    tool_plan: &ToolPlan,
    caller: &Caller,
    arguments: Option<&Json>,
    reply: &Reply,
) -> Option<Settlement> {
    let tool = tool_plan.request.tool().filter(|_| reply.result_type == ResultType::Complete)?;
    let buckets = &tool_plan.plan.buckets;
    let more = |shadow_rule: Option<u32>| {
        // A cost that no bucket can pay was not paid.
        let pays = |bucket: &&PlannedBucket| bucket.shadow_rule == shadow_rule && bucket.cost != UNPAYABLE;
        let paid = buckets.iter().find(pays)?.cost.get();
        Some(cost_difference(
            tool_plan,
            &PricedCall { tool, caller, arguments, after: Some((paid, reply)) },
            shadow_rule,
        ))
    };
    let mut owed = Settlement::new(more(None).unwrap_or(0));
    let mut known: SmallVec<[u32; 2]> = SmallVec::new();
    for rule in buckets.iter().filter_map(|bucket| bucket.shadow_rule) {
        if !known.contains(&rule) {
            known.push(rule);
            owed.add_shadow_rule(rule, more(Some(rule)).unwrap_or(0));
        }
    }
    (!owed.is_zero()).then_some(owed)
}

/// How much more than was paid a call costs in the end, by the enforced rules and, for the buckets of a rule
/// in shadow mode, by that rule.
fn cost_difference(tool_plan: &ToolPlan, priced: &PricedCall<'_>, shadow_rule: Option<u32>) -> i64 {
    let mut largest = None;
    let counts =
        |settlement: &&RulePrice| settlement.shadow_rule.is_none() || settlement.shadow_rule == shadow_rule;
    for RulePrice { price, .. } in tool_plan.plan.variation_inputs.settlements.iter().filter(counts) {
        match price.evaluate(priced) {
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

impl PaidBatch {
    /// The adjustments that charge more tokens to the buckets that paid.
    pub(in crate::limiter) fn adjustments<'a>(
        &'a self,
        tokens: impl Fn(&RemoteBucket) -> i64 + 'a,
    ) -> impl Iterator<Item = Adjustment> + 'a {
        let paid = self.request.buckets.iter().zip(&self.verdict.pays).filter(|(_, pays)| **pays);
        paid.map(move |(bucket, _)| Adjustment {
            tokens: tokens(bucket),
            bucket: bucket.clone(),
            paid_at: Some(self.verdict.at),
        })
    }
}

impl Permit<'_> {
    /// The adjustments that charge more tokens to the buckets that all replicas share.
    pub(in crate::limiter) fn adjustments(&self, tokens: impl Fn(&RemoteBucket) -> i64) -> Vec<Adjustment> {
        let leased = self.lease_payment.iter().flat_map(|paid| paid.adjustments(&tokens));
        self.paid_batches.iter().flat_map(|batch| batch.adjustments(&tokens)).chain(leased).collect()
    }

    /// Charges what is owed to the buckets that paid, or refunds it where it is negative. The shared store is
    /// updated in the background, so that no reply waits for it.
    pub(crate) fn settle(self, limiter: &Arc<Limiter>, owed: &Settlement) {
        if let Some(receipt) = &self.local {
            receipt.adjust(|bucket| -owed.for_bucket(bucket.shadow_rule));
        }
        if let Some(fallback_charge) = &self.fallback_charge {
            limiter.adjust_fallback_charge(fallback_charge, Some(owed));
        }
        if limiter.sharing.is_none() {
            if owed.is_refund() {
                self.release_notifier.notify(true);
            }
            return;
        }
        let changes = self.adjustments(|bucket| owed.for_bucket(bucket.shadow_rule));
        let released_needs =
            owed.is_refund().then(|| needs(self.release_notifier.plan, self.release_notifier.user, u64::MAX));
        limiter.adjust_shared_later(changes, released_needs);
    }
}

/// The number of settlements that have not been sent to the shared store yet.
#[derive(Debug, Default)]
pub(in crate::limiter) struct PendingSettlements(AtomicUsize);

impl PendingSettlements {
    pub(in crate::limiter) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// One settlement that is being sent. Dropping it counts it out.
struct PendingSettlement(Arc<Limiter>);

impl PendingSettlement {
    fn begin(limiter: &Arc<Limiter>) -> Self {
        limiter.pending_settlements.0.fetch_add(1, Ordering::AcqRel);
        Self(limiter.clone())
    }
}

impl Drop for PendingSettlement {
    fn drop(&mut self) {
        self.0.pending_settlements.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Limiter {
    /// Sends adjustments to the shared store in a background task, and then notifies the calls that wait for
    /// the refund.
    pub(in crate::limiter) fn adjust_shared_later(
        self: &Arc<Self>,
        changes: Vec<Adjustment>,
        released_needs: Option<Needs>,
    ) {
        let settling = PendingSettlement::begin(self);
        self.task_spawner.spawn(async move {
            let limiter = &settling.0;
            if let Some(sharing) = &limiter.sharing {
                limiter.adjust_shared(sharing, changes).await;
            }
            if let Some(needs) = released_needs {
                limiter.wait_queues.notify_release(limiter.wait_context(), &needs, true, false);
            }
        });
    }

    /// Sends adjustments to the shared store: those of one partition together, all or nothing. If the store
    /// does not accept them, refunds are dropped, because an outage never adds budget. Charges become debts,
    /// which are written back with what is admitted without the store.
    pub(in crate::limiter) async fn adjust_shared(&self, sharing: &Sharing, changes: Vec<Adjustment>) {
        let mut left: Vec<Adjustment> = changes.into_iter().filter(|change| change.tokens != 0).collect();
        while let Some(partition) = left.first().map(|change| change.bucket.partition.clone()) {
            let (these, others) = left.into_iter().partition(|change| change.bucket.partition == partition);
            left = others;
            let these: Vec<Adjustment> = these;
            if let Err(failure) = sharing.store.adjust(&these).await {
                self.observer.on_store_failure(failure);
                let owed = these.iter().filter(|change| change.tokens.is_positive());
                self.debts.add(owed.map(|change| (&change.bucket, change.tokens)), &sharing.store);
            }
        }
    }
}
