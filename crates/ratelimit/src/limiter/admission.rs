//! Admits calls, and waits for what a call lacks where the rules say so. The module `queue` decides which
//! call waits for which limit and which one is next; this module connects it to the stores.

pub(crate) mod fallback_admission;
pub(crate) mod in_flight;
pub(crate) mod refusal;
pub(crate) mod settlement;
pub(crate) mod shadow;
pub(crate) mod shared_admission;
pub(crate) mod slot_admission;

use std::time::Instant;

use vmcp_domain::{CallContext, Caller, Error, LimitScope, RateLimit, Retry};
use vmcp_timing::Micros;

use super::{LimitedUser, Limiter, Permit, ToolPlan, levels_or_full};
use crate::bucket::decide::{BucketSnapshot, Wait};
use crate::bucket::user_key::UserKey;
use crate::limiter::admission::refusal::bucket_rate_limit;
use crate::limiter::observer::{DecisionEvent, Observer, WaitOutcome};
use crate::limiter::tool_plan::synthetic_identity::{address_identity, synthetic_identity};
use crate::plan::Plan;
use crate::plan::policy::{Anonymous, Mode};
use crate::queue::{LimitIndex, Needs, NextStep, WaitContext, WaitProgress, WaitReason, needs};

/// The pause of a queue in microseconds after an unexpected refusal by a shared store: another replica was
/// faster. So a queue sends at most a hundred refused requests a second.
const SHARED_RETRY_PAUSE: u64 = 10_000;

/// A refusal, and whether waiting helps.
pub(super) struct Refusal {
    pub(super) error: Error,
    pub(super) wait_reason: WaitReason,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, wait_reason: WaitReason::Futile }
    }
}

impl Refusal {
    /// A refusal by the buckets of a plan that hold `levels`, in units.
    pub(super) fn by_buckets(error: Error, plan: &Plan, levels: &[i64]) -> Self {
        if !plan.may_wait {
            return error.into();
        }
        let snapshot = |(bucket, level): (&crate::plan::PlannedBucket, &i64)| BucketSnapshot {
            rate: bucket.rate,
            level: *level,
            cost: bucket.cost_units,
            mode: bucket.mode,
            // Waiting calls do not use the end of a calendar period.
            resets_in: None,
        };
        Self {
            error,
            wait_reason: WaitReason::Buckets(plan.buckets.iter().zip(levels).map(snapshot).collect()),
        }
    }
}

impl Refusal {
    /// A refusal by one bucket that this replica leases tokens of.
    pub(super) fn by_lease(tool_plan: &ToolPlan, limit_index: usize, wait: Wait) -> Self {
        let error =
            Error::RateLimited(Box::new(bucket_rate_limit(tool_plan, &tool_plan.plan, limit_index, wait)));
        let Some(bucket) = tool_plan.plan.buckets.get(limit_index) else { return error.into() };
        let missing = match wait {
            Wait::None => 0,
            Wait::Micros(micros) => {
                i64::try_from(micros.saturating_mul(bucket.rate.refill())).unwrap_or(i64::MAX)
            }
            Wait::UntilReleased | Wait::Never => i64::MAX,
        };
        // The level that has this wait.
        let level = bucket.cost_units.saturating_sub(missing);
        Self::by_buckets(error, &tool_plan.plan, &levels_or_full(&tool_plan.plan, &[limit_index], &[level]))
    }
}

/// When dropped, notifies waiting calls that the call is over and its slots are free.
pub(super) struct ReleaseNotifier<'a> {
    pub(super) limiter: &'a Limiter,
    pub(super) plan: &'a Plan,
    pub(super) user: Option<UserKey>,
    /// It holds slots that calls of other replicas may wait for too.
    pub(super) has_shared_slots: bool,
    /// The call was admitted: before that it holds nothing that other calls could wait for.
    pub(super) is_admitted: bool,
    /// It holds the call's slots; false after `Permit::hold_slots` has moved them into the context of the
    /// call.
    pub(super) holds_slots: bool,
}

impl ReleaseNotifier<'_> {
    /// Notifies waiting calls of what was released; `tokens` is true for a refund.
    pub(super) fn notify(&self, tokens: bool) {
        let holds_slots = self.holds_slots && !self.plan.slot_limits.is_empty();
        if self.is_admitted && self.limiter.wait_queues.count() > 0 && (tokens || holds_slots) {
            let needs = needs(self.plan, self.user, u64::MAX);
            self.limiter.wait_queues.notify_release(
                self.limiter.wait_context(),
                &needs,
                tokens,
                self.has_shared_slots,
            );
        }
    }
}

impl Drop for ReleaseNotifier<'_> {
    fn drop(&mut self) {
        self.notify(false);
    }
}

/// The wait of one call, for the observer. If it is dropped without an outcome, the call was cancelled.
struct WaitRecord<'a> {
    observer: &'a dyn Observer,
    begun: Instant,
    outcome: WaitOutcome,
}

impl<'a> WaitRecord<'a> {
    fn begin(observer: &'a dyn Observer) -> Self {
        observer.on_wait_start();
        Self { observer, begun: Instant::now(), outcome: WaitOutcome::Cancelled }
    }
}

impl Drop for WaitRecord<'_> {
    fn drop(&mut self) {
        self.observer.on_wait_end(self.outcome, self.begun.elapsed());
    }
}

impl Limiter {
    /// Asks for one call and pays for it, waiting where a rule says so.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when a limit refuses. [`Error::IdentityRequired`] for an unidentified caller where limits
    /// are per user. [`Error::LimitsUnavailable`] when the store does not answer and the policy is to refuse
    /// then. [`Error::Overloaded`] when the user table is full and the policy is to refuse then, or too many
    /// calls wait for an answer of the store.
    pub(crate) async fn admit<'a>(
        &'a self,
        tool_plan: &'a ToolPlan,
        ctx: &CallContext,
    ) -> Result<Permit<'a>, Error> {
        let mut event = DecisionEvent::new(&tool_plan.limited, self.clock.now());
        event.checked_scopes.extend(tool_plan.plan.enforced_scopes());
        let user = self.limited_user(tool_plan, ctx);
        let outcome = match &user {
            Err(error) => Err(error.clone()),
            Ok(user) if tool_plan.plan.may_wait => self.admit_or_wait(tool_plan, ctx, user, &mut event).await,
            Ok(user) => {
                let now = event.at;
                self.admit_once(tool_plan, user, now, &mut event).await.map_err(|denial| denial.error)
            }
        };
        match &outcome {
            Ok(permit) => {
                event.allowed = true;
                if let Ok(user) = &user {
                    event.note_shadow_refusals(tool_plan, user, permit);
                }
            }
            Err(Error::RateLimited(refusal)) => {
                event.scope = Some(refusal.scope);
                event.refusal = Some(refusal);
            }
            Err(_) => {}
        }
        self.observer.on_decision(&event);
        if let Caller::Known(identity) = &ctx.caller {
            self.top_callers.count(self.user_key(identity), identity, !event.allowed);
        }
        outcome
    }

    /// The number of calls that wait for a limit.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.wait_queues.count()
    }

    /// Asks the store once, at this moment.
    async fn admit_once<'a>(
        &'a self,
        tool_plan: &'a ToolPlan,
        user: &LimitedUser,
        now: Micros,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Permit<'a>, Refusal> {
        let begun = Instant::now();
        let outcome = match &self.sharing {
            None => self.admit_local((tool_plan, &tool_plan.plan), user.local, now),
            // Boxed, so that the future of a call that needs no store does not contain the shared path.
            Some(sharing) => Box::pin(self.admit_shared(sharing, tool_plan, user, now, event)).await,
        };
        event.decision_time += begun.elapsed();
        outcome
    }

    async fn admit_or_wait<'a>(
        &'a self,
        tool_plan: &'a ToolPlan,
        ctx: &CallContext,
        user: &LimitedUser,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Permit<'a>, Error> {
        let remaining = ctx.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time_left =
            remaining.map_or(u64::MAX, |left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX));
        let needs = || needs(&tool_plan.plan, user.local, time_left);
        if self.wait_queues.count() > 0 {
            let needs = needs();
            if self.wait_queues.is_contended(&needs) {
                return match self.futile_wait_refusal(tool_plan, user) {
                    Some(error) => Err(error),
                    None => Box::pin(self.wait_and_admit((tool_plan, user, needs), ctx, None, event)).await,
                };
            }
        }
        let now = event.at;
        match self.admit_once(tool_plan, user, now, event).await {
            Ok(permit) => Ok(permit),
            Err(Refusal { error, wait_reason: WaitReason::Futile }) => Err(error),
            Err(refusal) => {
                Box::pin(self.wait_and_admit((tool_plan, user, needs()), ctx, Some(refusal), event)).await
            }
        }
    }

    /// The refusal of a call for which queueing is useless: a limit that it needs will not be there in time,
    /// whatever other calls do. Shared buckets are not asked for this.
    pub(super) fn futile_wait_refusal(&self, tool_plan: &ToolPlan, user: &LimitedUser) -> Option<Error> {
        let plan = &tool_plan.plan;
        let wait = |snapshot: &BucketSnapshot| match (&self.sharing, snapshot.mode) {
            (_, Mode::Shadow) => Wait::None,
            (None, Mode::Enforce) => snapshot.wait(),
            (Some(_), Mode::Enforce) if snapshot.cost > snapshot.rate.capacity() => Wait::Never,
            (Some(_), Mode::Enforce) => Wait::None,
        };
        let waits: Vec<Wait> = self.memory.peek(plan, user.local).iter().map(wait).collect();
        let too_long =
            plan.buckets.iter().zip(&waits).any(|(bucket, wait)| *wait > Wait::Micros(bucket.wait_max));
        let (limit_index, wait) = waits.into_iter().enumerate().rev().max_by_key(|(_, wait)| *wait)?;
        too_long.then(|| Error::RateLimited(Box::new(bucket_rate_limit(tool_plan, plan, limit_index, wait))))
    }

    async fn wait_and_admit<'a>(
        &'a self,
        (tool_plan, user, needs): (&'a ToolPlan, &LimitedUser, Needs),
        ctx: &CallContext,
        mut refusal: Option<Refusal>,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Permit<'a>, Error> {
        let queue_user = user.local.unwrap_or_else(|| self.fairness_key(ctx));
        let mut waiter = match self.wait_queues.enqueue(self.wait_context(), queue_user, needs) {
            Ok(waiter) => waiter,
            Err((limit_index, wait)) => {
                return Err(
                    refusal.map_or_else(|| too_late_error(tool_plan, limit_index, wait), |known| known.error)
                );
            }
        };
        let mut wait_record: Option<WaitRecord<'_>> = None;
        let mut progress = WaitProgress::new(&*ctx.client, self.clock.now());
        let outcome = loop {
            if let Some(refusal) = refusal.take()
                && !waiter.requeue(&refusal.wait_reason)
            {
                break Err(refusal.error);
            }
            match waiter.next_step() {
                NextStep::AskStore => match self.admit_once(tool_plan, user, self.clock.now(), event).await {
                    Ok(permit) => {
                        waiter.mark_admitted();
                        break Ok(permit);
                    }
                    Err(refused) => refusal = Some(refused),
                },
                NextStep::GiveUp(limit_index, wait) => {
                    break Err(too_late_error(tool_plan, limit_index, wait));
                }
                NextStep::Wait(limit_index, until) => {
                    wait_record.get_or_insert_with(|| WaitRecord::begin(&*self.observer));
                    let rule = || rule_at(tool_plan, limit_index).0;
                    progress.report_if_due(self.clock.now(), &rule(), || waiter.forecast());
                    waiter.sleep_until(progress.next_report_at().map_or(until, |next| next.min(until))).await;
                }
            }
        };
        if let Some(wait_record) = &mut wait_record {
            wait_record.outcome = if outcome.is_ok() { WaitOutcome::Admitted } else { WaitOutcome::Refused };
        }
        outcome
    }

    /// The user key that a call queues under, also where the limits do not distinguish users.
    pub(super) fn fairness_key(&self, ctx: &CallContext) -> UserKey {
        match (&ctx.caller, self.planner.policy().anonymous, ctx.peer_address) {
            (Caller::Known(identity), ..) => self.user_key(identity),
            (Caller::Anonymous, Anonymous::Address, Some(address)) => {
                self.user_key(&address_identity(address))
            }
            (Caller::Anonymous, ..) => self.user_key(&synthetic_identity("")),
        }
    }

    pub(super) fn wait_context(&self) -> WaitContext<'_> {
        let pause = if self.sharing.is_some() { SHARED_RETRY_PAUSE } else { 0 };
        WaitContext { clock: &*self.clock, memory: &self.memory, retry_pause: pause }
    }
}

/// The rule at an index of the plan, and its scope.
fn rule_at(tool_plan: &ToolPlan, limit_index: LimitIndex) -> (String, LimitScope) {
    let found = match limit_index {
        LimitIndex::Bucket(limit_index) => {
            tool_plan.plan.buckets.get(limit_index).map(|bucket| (&bucket.rule, bucket.scope))
        }
        LimitIndex::Slots(limit_index) => {
            tool_plan.plan.slot_limits.get(limit_index).map(|slots| (&slots.rule, slots.scope))
        }
    };
    found.map_or((String::new(), LimitScope::Server), |(rule, scope)| (rule.to_string(), scope))
}

/// The refusal of a call whose turn does not come in time.
fn too_late_error(tool_plan: &ToolPlan, limit_index: LimitIndex, wait: Option<u64>) -> Error {
    let limit = match limit_index {
        LimitIndex::Bucket(limit_index) => {
            let wait = wait.map_or(Wait::UntilReleased, Wait::Micros);
            bucket_rate_limit(tool_plan, &tool_plan.plan, limit_index, wait)
        }
        LimitIndex::Slots(_) => slots_full_limit(tool_plan, limit_index),
    };
    Error::RateLimited(Box::new(limit))
}

/// The refusal by a limit on calls in flight.
pub(super) fn slots_full_limit(tool_plan: &ToolPlan, limit_index: LimitIndex) -> RateLimit {
    let (rule, scope) = rule_at(tool_plan, limit_index);
    RateLimit {
        operation: tool_plan.limited.clone(),
        rule,
        scope,
        retry: Retry::WhenReleased,
        allowance: None,
        resets_at: None,
    }
}

#[cfg(test)]
mod tests;
