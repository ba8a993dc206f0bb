//! Replays recorded calls against limits that did not exist when the calls were made. The limiter itself
//! decides, with a clock that is set to the recorded time. No call waits, and no store is shared.

use std::net::IpAddr;
use std::sync::Arc;

use vmcp_domain::{Caller, Error, LimitScope, Retry, Tool};
use vmcp_timing::{ManualClock, Micros};

use super::{Limiter, Permit, ToolPlan};
use crate::bucket::user_key::UserKey;
use crate::limiter::observer::NoObserver;
use crate::plan::Planner;
use crate::plan::policy::LimitPolicy;

/// A limiter for recorded calls.
pub struct Replay {
    limiter: Arc<Limiter>,
    clock: Arc<ManualClock>,
}

/// A tool of the record, with the limits that apply to it.
pub struct ReplayTool(ToolPlan);

/// A caller of the record, as the limits distinguish callers.
#[derive(Clone, Copy, Debug)]
pub struct ReplayCaller(Option<UserKey>);

/// The permission for one recorded call. Dropping it releases its slots.
pub struct ReplayPermit<'a>(Permit<'a>);

/// The decision about a recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayDecision {
    /// No limit applies to the tool.
    Unlimited,
    /// The call is admitted.
    Admitted {
        /// How many rules in shadow mode would have refused it.
        would_refuse: usize,
    },
    /// A rule refuses it.
    Refused {
        /// The refusing rule with the longest wait.
        rule: String,
        /// The scope of the rule.
        scope: LimitScope,
        /// When the call could have been repeated.
        retry: Retry,
    },
    /// A limit per user refuses it, because its caller has no identity.
    Unidentified,
    /// The user table is full, and the policy is to refuse then.
    UserTableFull,
}

impl ReplayTool {
    /// Whether limits on calls in flight apply to the tool.
    #[must_use]
    pub fn has_slot_limits(&self) -> bool {
        !self.0.plan.slot_limits.is_empty()
    }
}

impl Replay {
    /// A limiter with these limits, in which every bucket is full.
    #[must_use]
    pub fn new(policy: LimitPolicy) -> Self {
        let clock = Arc::new(ManualClock::default());
        let limiter = Limiter::new(Arc::new(Planner::new(policy)), clock.clone(), None, Arc::new(NoObserver));
        Self { limiter, clock }
    }

    /// The limits of a tool, without those by claim, argument or header. A call costs the minimum of the
    /// rules, and a limit that is enforced for a percentage of callers is enforced for all.
    #[must_use]
    pub fn tool(&self, tool: &Tool) -> ReplayTool {
        let mut tool_plan = ToolPlan::for_tool(&self.limiter.planner, None, tool);
        // Records contain no claims, arguments or headers.
        let is_by_value = |scope| {
            use LimitScope::{Claim, ClaimTool, Value, ValueTool};
            matches!(scope, Claim | ClaimTool | Value | ValueTool)
        };
        tool_plan.plan.buckets.retain(|bucket| !is_by_value(bucket.scope));
        ReplayTool(tool_plan)
    }

    /// The caller, by identity or, where the policy says so, by address.
    #[must_use]
    pub fn caller(&self, caller: &Caller, peer: Option<IpAddr>) -> ReplayCaller {
        ReplayCaller(self.limiter.find_user(caller, peer).and_then(|user| user.local))
    }

    /// Rules that match none of these tools.
    #[must_use]
    pub fn unmatched_rules(&self, tools: &[Tool]) -> Vec<&str> {
        self.limiter.planner.unmatched_rules(tools)
    }

    /// Decides about one call at the moment `at`.
    #[must_use]
    pub fn decide<'a>(
        &'a self,
        tool: &'a ReplayTool,
        caller: ReplayCaller,
        at: Micros,
    ) -> (ReplayDecision, Option<ReplayPermit<'a>>) {
        let tool_plan = &tool.0;
        if tool_plan.plan.is_empty() {
            return (ReplayDecision::Unlimited, None);
        }
        if tool_plan.plan.has_enforced_per_user() && caller.0.is_none() {
            return (ReplayDecision::Unidentified, None);
        }
        self.clock.set(at);
        let user = caller.0.filter(|_| tool_plan.plan.needs_user);
        match self.limiter.admit_local((tool_plan, &tool_plan.plan), user, at) {
            Ok(permit) => {
                let would_refuse =
                    permit.local.as_ref().map_or(0, |receipt| receipt.charges().would_refuse.len());
                (ReplayDecision::Admitted { would_refuse }, Some(ReplayPermit(permit)))
            }
            Err(refusal) => {
                let Error::RateLimited(limit) = refusal.error else {
                    // In memory, the only other refusal is that of a full user table.
                    return (ReplayDecision::UserTableFull, None);
                };
                (ReplayDecision::Refused { rule: limit.rule, scope: limit.scope, retry: limit.retry }, None)
            }
        }
    }

    /// How long a call of the tool may wait for a rule, in microseconds; zero where it is refused at once.
    #[must_use]
    pub fn wait_max(&self, tool: &ReplayTool, rule: &str) -> u64 {
        let plan = &tool.0.plan;
        let buckets = plan.buckets.iter().map(|bucket| (&bucket.rule, bucket.wait_max));
        let slots = plan.slot_limits.iter().map(|slots| (&slots.rule, slots.wait_max));
        buckets.chain(slots).find(|(known, _)| &***known == rule).map_or(0, |(_, wait_max)| wait_max)
    }

    /// Refunds the payment of a call that never reached its backend.
    pub fn refund(&self, pass: ReplayPermit<'_>, at: Micros) {
        self.clock.set(at);
        if let Some(receipt) = pass.0.local {
            receipt.refund();
        }
    }
}
