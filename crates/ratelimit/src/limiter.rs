//! The limiter: it finds the plan of a call, identifies the caller for the limits, and chooses the store that
//! decides. The decorators in `layer` call it; no other code spends tokens.

pub(crate) mod admission;
pub(crate) mod inspect;
pub(crate) mod observer;
pub(crate) mod operator_actions;
mod replay;
pub(crate) mod reservation;
pub(crate) mod tool_plan;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ahash::RandomState;
use arc_swap::ArcSwap;
use smallvec::SmallVec;
use vmcp_domain::{DerivedCache, Error, Tool, ToolList, ToolName};
use vmcp_timing::{Clock, Micros};

use crate::bucket::low_bucket::LowBucket;
use crate::bucket::memory_store::{AdmitOutcome, MemoryStore, Receipt};
use crate::bucket::saved_levels::{SavedLevels, Secrets, fresh_secrets, hashers};
use crate::bucket::user_key::UserKey;
use crate::limiter::admission::fallback_admission::FallbackCharge;
use crate::limiter::admission::refusal::rate_limited_error;
use crate::limiter::admission::settlement::PendingSettlements;
pub(crate) use crate::limiter::admission::settlement::compute_settlement;
use crate::limiter::admission::shared_admission::levels_or_full;
use crate::limiter::admission::{Refusal, ReleaseNotifier, slots_full_limit};
pub use crate::limiter::inspect::rule_views::RulesView;
pub use crate::limiter::inspect::status::{LimiterStatus, StoreStatus};
use crate::limiter::inspect::status::{UnmatchedRule, closest_tool};
use crate::limiter::inspect::top_callers::TopCallers;
pub use crate::limiter::inspect::{BucketView, SlotLimitView};
use crate::limiter::observer::Observer;
pub use crate::limiter::operator_actions::OperatorAction;
pub use crate::limiter::reservation::Reserver;
use crate::limiter::reservation::rounds::OpenRounds;
pub(crate) use crate::limiter::reservation::rounds::take_round_id;
pub(crate) use crate::limiter::reservation::{PrepaidCall, ReservedCalls};
use crate::limiter::tool_plan::ListPlans;
pub(crate) use crate::limiter::tool_plan::ToolPlan;
pub(crate) use crate::limiter::tool_plan::variation::Arguments;
use crate::plan::policy::Method;
use crate::plan::policy::refund::refund_reason;
use crate::plan::{LimitedRequest, Plan, Planner};
use crate::queue::{LimitIndex, WaitQueues, WaitReason};
use crate::shared::blocks::Blocks;
use crate::shared::fallback::{Debts, Fallback};
use crate::shared::lease::{LeasePayment, Leases};
use crate::shared::slots::{SharedSlots, SlotGuard};
use crate::shared::store::{AdmitRequest, OnStoreFailure, RemoteStore, RemoteVerdict, SharedUser};
use crate::task_spawner::TaskSpawner;
pub use replay::{Replay, ReplayCaller, ReplayDecision, ReplayPermit, ReplayTool};

/// Decides whether calls are admitted, and charges them. The documentation of the crate has an example.
pub struct Limiter {
    planner: Arc<Planner>,
    memory: MemoryStore,
    clock: Arc<dyn Clock>,
    sharing: Option<Sharing>,
    /// Tokens that this replica has leased from the shared store, where the policy allows leases.
    leases: Option<Arc<Leases>>,
    /// The calls of this replica that hold slots in the shared store.
    shared_slots: Option<Arc<SharedSlots>>,
    debts: Arc<Debts>,
    /// Calls that wait for their next round.
    open_rounds: OpenRounds,
    pending_settlements: PendingSettlements,
    task_spawner: TaskSpawner,
    /// The longest time that any bucket takes to fill from the deepest debt.
    debt_recovery_max: Duration,
    fallback: OnceLock<Arc<Fallback>>,
    list_plans: DerivedCache<ToolList, ListPlans>,
    lists_differ: AtomicBool,
    /// The plans of virtual tools, which other layers charge.
    virtual_plans: ArcSwap<HashMap<ToolName, Arc<ToolPlan>>>,
    method_plans: HashMap<Method, Arc<ToolPlan>>,
    hashers: (RandomState, RandomState),
    /// The tools and callers that operators have blocked.
    blocks: Arc<Blocks>,
    /// The secrets of the hashes that distinguish callers; see [`SavedLevels`].
    secrets: Secrets,
    observer: Arc<dyn Observer>,
    top_callers: TopCallers,
    wait_queues: WaitQueues,
}

/// How buckets are shared with other replicas.
pub struct Sharing {
    /// The shared store.
    pub store: Arc<dyn RemoteStore>,
    /// What happens to calls when the store does not answer.
    pub on_failure: OnStoreFailure,
    /// The number of replicas, where the operator configures it; otherwise the store reports it.
    pub replica_count: Option<u32>,
    /// How long a call keeps its slot after the last report of its replica.
    pub slot_lease: Duration,
}

/// The permission to make one call, paid for.
pub(crate) struct Permit<'a> {
    limiter: &'a Limiter,
    local: Option<Receipt<'a>>,
    lease_payment: Option<LeasePayment<'a>>,
    paid_batches: Vec<PaidBatch>,
    /// The indexes of buckets in shadow mode that would have refused because the store did not answer.
    shadow_unasked: SmallVec<[usize; 2]>,
    /// The levels in units that the shared store reports after the call, in the order of the plan.
    known_levels: Option<SmallVec<[i64; 4]>>,
    slot_guard: Option<SlotGuard>,
    /// What was charged to this replica's share because the store did not answer.
    fallback_charge: Option<Box<FallbackCharge>>,
    /// Notifies waiting calls when the rest of the permit has been dropped: fields are dropped in their
    /// order.
    release_notifier: ReleaseNotifier<'a>,
}

/// One request to the shared store, with its verdict.
struct PaidBatch {
    /// The indexes of the buckets in the plan.
    indices: SmallVec<[usize; 4]>,
    request: AdmitRequest,
    verdict: RemoteVerdict,
}

/// The caller, as the stores distinguish callers.
#[derive(Clone, Debug, Default)]
struct LimitedUser {
    local: Option<UserKey>,
    shared: Option<SharedUser>,
}

impl Limiter {
    /// A limiter that keeps its buckets in this process, or shares them as `sharing` says.
    #[must_use]
    pub fn new(
        planner: Arc<Planner>,
        clock: Arc<dyn Clock>,
        sharing: Option<Sharing>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        Self::with_secrets(planner, clock, sharing, observer, fresh_secrets())
    }

    /// A limiter that keeps its buckets in this process, with the levels that the previous process saved.
    /// Also returns the number of saved users that did not fit into the user table.
    #[must_use]
    pub fn restored(
        planner: Arc<Planner>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        levels: &SavedLevels,
    ) -> (Arc<Self>, usize) {
        let limiter = Self::with_secrets(planner, clock, None, observer, levels.secrets);
        let left_out = limiter.memory.restore(levels);
        (limiter, left_out)
    }

    /// The levels of this process for the next one; `None` where a shared store keeps them.
    #[must_use]
    pub fn save(&self) -> Option<SavedLevels> {
        self.sharing.is_none().then(|| self.memory.save(self.secrets))
    }

    fn with_secrets(
        planner: Arc<Planner>,
        clock: Arc<dyn Clock>,
        sharing: Option<Sharing>,
        observer: Arc<dyn Observer>,
        secrets: Secrets,
    ) -> Arc<Self> {
        let consistency = planner.policy().consistency;
        let leases = sharing.as_ref().zip(consistency.lease_policy()).map(|(sharing, policy)| {
            Leases::new(sharing.store.clone(), clock.clone(), policy, sharing.replica_count)
        });
        let blocks = sharing.as_ref().and_then(|sharing| sharing.store.blocks()).unwrap_or_default();
        let mut methods = HashMap::new();
        for rule in &planner.policy().methods {
            let tool_plan = || {
                Arc::new(ToolPlan::for_request(
                    &planner,
                    leases.as_deref(),
                    LimitedRequest::Method(rule.method),
                ))
            };
            methods.entry(rule.method).or_insert_with(tool_plan);
        }
        let slots = sharing
            .as_ref()
            .map(|sharing| SharedSlots::new(sharing.store.clone(), clock.clone(), sharing.slot_lease));
        Arc::new(Self {
            method_plans: methods,
            leases,
            shared_slots: slots,
            memory: MemoryStore::new(planner.clone(), clock.clone()),
            wait_queues: WaitQueues::new(planner.policy().waiting),
            debt_recovery_max: planner.policy().debt_recovery_max(),
            planner,
            clock,
            sharing,
            debts: Debts::new(),
            open_rounds: OpenRounds::default(),
            pending_settlements: PendingSettlements::default(),
            task_spawner: TaskSpawner::current(),
            fallback: OnceLock::new(),
            list_plans: DerivedCache::default(),
            lists_differ: AtomicBool::new(false),
            virtual_plans: ArcSwap::default(),
            hashers: hashers(&secrets),
            blocks,
            secrets,
            observer,
            top_callers: TopCallers::default(),
        })
    }

    /// The plan of the tool that `name` leads to; `None` when there is no such tool.
    pub(crate) fn tool_plan(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<Arc<ToolPlan>> {
        let bind = || {
            let plans = tools
                .iter()
                .map(|tool| {
                    (
                        tool.name.clone(),
                        Arc::new(ToolPlan::for_tool(&self.planner, self.leases.as_deref(), tool)),
                    )
                })
                .collect();
            let idle = self.unmatched_rules(tools);
            if !self.lists_differ.load(Ordering::Relaxed) {
                for rule in &idle {
                    let hint = rule.closest_tool.as_deref().unwrap_or_default();
                    tracing::warn!(rule = rule.name, hint, "no tool fits this limit");
                }
            }
            ListPlans { plans, unmatched_rules: idle }
        };
        self.list_plans.with(tools, bind, |binding| binding.plans.get(name).cloned())
    }

    /// Declares that callers see different tools: a rule that matches no tool of one list may match on
    /// another list.
    pub fn expect_lists_to_differ(&self) {
        self.lists_differ.store(true, Ordering::Relaxed);
    }

    /// Rules that match none of these tools and no virtual tool.
    fn unmatched_rules(&self, tools: &[Tool]) -> Vec<UnmatchedRule> {
        let virtual_plans = self.virtual_plans.load();
        let mut idle = self.planner.unmatched_rules(tools);
        idle.retain(|rule| !virtual_plans.keys().any(|name| name.as_str() == *rule));
        let idle = idle.into_iter();
        idle.map(|name| UnmatchedRule {
            name: name.to_owned(),
            closest_tool: closest_tool(tools, name).map(str::to_owned),
        })
        .collect()
    }

    /// The plans of virtual tools. They are remembered, so that a rule that names one is not reported as one that matches
    /// no tool, and so that commands can show and change their limits.
    pub(crate) fn virtual_tool_plans(&self, tools: &[Tool]) -> HashMap<ToolName, Arc<ToolPlan>> {
        let tool_plan = tools.iter().map(|tool| {
            (tool.name.clone(), Arc::new(ToolPlan::for_tool(&self.planner, self.leases.as_deref(), tool)))
        });
        let plans: HashMap<ToolName, Arc<ToolPlan>> = tool_plan.collect();
        self.virtual_plans.rcu(|known| {
            let more = plans.iter().map(|(name, tool_plan)| (name.clone(), tool_plan.clone()));
            known
                .iter()
                .map(|(name, tool_plan)| (name.clone(), tool_plan.clone()))
                .chain(more)
                .collect::<HashMap<_, _>>()
        });
        plans
    }

    /// The names of the virtual tools.
    #[must_use]
    pub fn virtual_tools(&self) -> Vec<ToolName> {
        let mut names: Vec<ToolName> = self.virtual_plans.load().keys().cloned().collect();
        names.sort_by(|left, right| left.as_str().cmp(right.as_str()));
        names
    }

    /// The plan of a tool or virtual tool, for those who look at limits or change them.
    pub(in crate::limiter) fn any_tool_plan(
        &self,
        tools: &Arc<ToolList>,
        name: &ToolName,
    ) -> Option<Arc<ToolPlan>> {
        self.tool_plan(tools, name).or_else(|| self.virtual_plans.load().get(name).cloned())
    }

    /// The reason for a refund after this error; `None` if the call stays charged.
    pub(crate) fn refund_reason(&self, error: &Error) -> Option<&'static str> {
        refund_reason(error, &self.planner.policy().refund_on)
    }

    /// The plan of a method, where the method is limited.
    pub(crate) fn method_plan(&self, method: Method) -> Option<&Arc<ToolPlan>> {
        self.method_plans.get(&method)
    }

    /// Starts a background task that may outlive the call that it belongs to.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.task_spawner.spawn(task);
    }

    /// Whether there are limits on methods other than `tools/call`.
    #[must_use]
    pub fn has_method_limits(&self) -> bool {
        !self.method_plans.is_empty()
    }

    /// A permit that holds no slots and has paid nothing yet.
    fn unpaid_permit<'a>(&'a self, tool_plan: &'a ToolPlan, user: Option<UserKey>) -> Permit<'a> {
        Permit {
            limiter: self,
            local: None,
            lease_payment: None,
            paid_batches: Vec::new(),
            shadow_unasked: SmallVec::new(),
            known_levels: None,
            fallback_charge: None,
            slot_guard: None,
            release_notifier: ReleaseNotifier {
                limiter: self,
                plan: &tool_plan.plan,
                user,
                has_shared_slots: false,
                is_admitted: false,
                holds_slots: false,
            },
        }
    }

    fn admit_local<'a>(
        &'a self,
        (tool_plan, plan): (&'a ToolPlan, &'a Plan),
        user: Option<UserKey>,
        now: Micros,
    ) -> Result<Permit<'a>, Refusal> {
        match self.memory.admit_at(plan, user, now) {
            AdmitOutcome::Admitted(receipt) => {
                let mut permit = self.unpaid_permit(tool_plan, user);
                permit.local = Some(receipt);
                (permit.release_notifier.is_admitted, permit.release_notifier.holds_slots) = (true, true);
                Ok(permit)
            }
            AdmitOutcome::Refused(refused) => {
                let error = rate_limited_error(tool_plan, plan, refused.longest_wait_index, refused.wait);
                Err(Refusal::by_buckets(error, plan, &refused.levels))
            }
            AdmitOutcome::UserTableFull => Err(Error::Overloaded.into()),
            AdmitOutcome::SlotsFull(index) => {
                let error =
                    Error::RateLimited(Box::new(slots_full_limit(tool_plan, LimitIndex::Slots(index))));
                Err(Refusal { error, wait_reason: WaitReason::Slots(index) })
            }
        }
    }
}

impl Permit<'_> {
    /// The bucket with the least left, if that is below the configured threshold. Leased tokens are left out:
    /// most of what their bucket holds is in the shared store.
    pub(crate) fn low_bucket(&self, tool_plan: &ToolPlan) -> Option<LowBucket> {
        if self.limiter.sharing.is_none() {
            return self.local.as_ref().and_then(Receipt::low_bucket);
        }
        let below = self.limiter.planner.policy().remaining_hints.below_percent;
        let known = self.known_levels.as_ref()?;
        LowBucket::find(&tool_plan.plan, known.iter().copied(), below)
    }

    /// Refunds what was paid, and counts the refund under a reason.
    pub(crate) async fn refund(self, reason: &'static str) {
        if let Some(fallback_charge) = &self.fallback_charge {
            self.limiter.adjust_fallback_charge(fallback_charge, None);
        }
        if let Some(receipt) = &self.local {
            receipt.refund_tokens();
        }
        if let Some(sharing) = &self.limiter.sharing {
            // Not into the lease balance of this replica, where it might be spent later than a lease allows.
            let changes = self.adjustments(|bucket| -i64::from(bucket.cost));
            self.limiter.adjust_shared(sharing, changes).await;
        }
        self.limiter.observer.on_refund(reason);
        self.release_notifier.notify(true);
    }
}

#[cfg(test)]
pub(crate) mod tests;
