//! The limiter: which plan a call falls under, who the caller is to it, and what store decides.
//! The decorator in `layer` asks it; nothing else spends.

mod acts;
mod binding;
mod blocked;
mod budget;
mod look;
mod patient;
mod refusal;
mod replay;
mod reserve;
mod rounds;
mod rules;
mod settle;
mod sharing;
mod slots;
mod state;
mod trial;
mod values;
mod vary;
mod who;
mod work;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ahash::RandomState;
use arc_swap::ArcSwap;
use smallvec::SmallVec;
use vmcp_domain::{Error, PerList, Tool, ToolList, ToolName};

use crate::blocks::Blocks;
use crate::budget::Scarce;
use crate::clock::{Clock, Micros};
use crate::fallback::{Debts, Fallback};
use crate::lease::{Leases, Paid};
use crate::levels::{Levels, Secrets, fresh_secrets, hashers};
use crate::memory::{Claim, MemoryStore, Receipt};
use crate::observer::Observer;
use crate::plan::{Asked, Plan, Planner};
use crate::policy::Method;
use crate::refund::reason;
use crate::remote::{Ask, OnStoreFailure, RemoteStore, RemoteVerdict, SharedUser};
use crate::slots::{Slot, Slots};
use crate::table::UserKey;
use crate::top::TopCallers;
use crate::upkeep::Upkeep;
use crate::waiting::{HeldUp, Place, Room};

pub use acts::Act;
use binding::Binding;
pub(crate) use binding::Bound;
pub use look::{BucketView, SlotsView};
use patient::{Bell, Denial, busy};
use refusal::refusal;
pub use replay::{Replay, ReplayCaller, ReplayPass, ReplayTool, Ruling};
pub use reserve::Reserver;
pub(crate) use reserve::{Prepaid, Reserved};
use rounds::Rounds;
pub(crate) use rounds::paid_name;
pub use rules::Rules;
use settle::Unsettled;
pub(crate) use settle::owed;
use sharing::{Fallen, all_levels};
use state::{IdleRule, nearest};
pub use state::{LimiterState, StoreState};
pub(crate) use vary::Arguments;

/// Decides about calls.
pub struct Limiter {
    planner: Arc<Planner>,
    memory: MemoryStore,
    clock: Arc<dyn Clock>,
    sharing: Option<Sharing>,
    /// What is taken ahead out of the shared store, where that is allowed.
    leases: Option<Arc<Leases>>,
    /// Which calls hold slots in the shared store.
    slots: Option<Arc<Slots>>,
    debts: Arc<Debts>,
    /// Calls that wait for their next round.
    rounds: Rounds,
    unsettled: Unsettled,
    upkeep: Upkeep,
    /// The longest time that any bucket takes to fill out of the deepest debt.
    longest_debt: Duration,
    fallback: OnceLock<Arc<Fallback>>,
    bindings: PerList<ToolList, Binding>,
    lists_differ: AtomicBool,
    /// The virtual tools that another layer charges for.
    virtual_names: ArcSwap<Vec<ToolName>>,
    methods: HashMap<Method, Arc<Bound>>,
    hashers: (RandomState, RandomState),
    /// What operators have blocked.
    blocks: Arc<Blocks>,
    /// What tells callers apart by: see [`Levels`].
    secrets: Secrets,
    observer: Arc<dyn Observer>,
    top: TopCallers,
    room: Room,
}

/// How buckets are shared with other replicas.
pub struct Sharing {
    /// The store.
    pub store: Arc<dyn RemoteStore>,
    /// What happens when it does not answer.
    pub on_failure: OnStoreFailure,
    /// How many replicas there are, where the operator says so; else the store is asked.
    pub replica_count: Option<u32>,
    /// How long a call holds its place among the calls in flight when nothing is heard of its replica any more.
    pub slot_lease: Duration,
}

/// Leave to make one call, paid for.
pub(crate) struct Permit<'a> {
    limiter: &'a Limiter,
    local: Option<Receipt<'a>>,
    leased: Option<Paid<'a>>,
    shared: Vec<PaidPart>,
    /// The places of buckets on trial that would have refused because the store did not answer.
    untried: SmallVec<[usize; 2]>,
    /// What the shared store says that the buckets hold after the call, in the order of the plan.
    known: Option<SmallVec<[i64; 4]>>,
    slot: Option<Slot>,
    /// What was admitted out of this replica's share, since the store did not answer.
    fallen: Option<Box<Fallen>>,
    /// Rings when the rest of the permit is gone: fields are dropped in their order.
    bell: Bell<'a>,
}

/// What the shared store was asked, and has said.
struct PaidPart {
    /// The buckets' places in the plan.
    places: SmallVec<[usize; 4]>,
    ask: Ask,
    verdict: RemoteVerdict,
}

/// The caller as the stores tell callers apart.
#[derive(Clone, Debug, Default)]
struct User {
    local: Option<UserKey>,
    shared: Option<SharedUser>,
}

impl Limiter {
    /// A limiter that keeps its buckets in this process, or shares them when `sharing` says how.
    #[must_use]
    pub fn new(
        planner: Arc<Planner>,
        clock: Arc<dyn Clock>,
        sharing: Option<Sharing>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        Self::with_secrets(planner, clock, sharing, observer, fresh_secrets())
    }

    /// A limiter that keeps its buckets in this process, with the levels that the last process has saved. Returns besides for
    /// how many users there is no room.
    #[must_use]
    pub fn restored(
        planner: Arc<Planner>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        levels: &Levels,
    ) -> (Arc<Self>, usize) {
        let limiter = Self::with_secrets(planner, clock, None, observer, levels.secrets);
        let left_out = limiter.memory.restore(levels);
        (limiter, left_out)
    }

    /// The levels of this process for the next one; `None` where they are kept in a shared store.
    #[must_use]
    pub fn save(&self) -> Option<Levels> {
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
        let leases = sharing.as_ref().zip(consistency.leases()).map(|(sharing, policy)| {
            Leases::new(sharing.store.clone(), clock.clone(), policy, sharing.replica_count)
        });
        let blocks = sharing.as_ref().and_then(|sharing| sharing.store.blocks()).unwrap_or_default();
        let mut methods = HashMap::new();
        for rule in &planner.policy().methods {
            let bound = || Arc::new(Bound::to(&planner, leases.as_deref(), Asked::Method(rule.method)));
            methods.entry(rule.method).or_insert_with(bound);
        }
        let slots = sharing
            .as_ref()
            .map(|sharing| Slots::new(sharing.store.clone(), clock.clone(), sharing.slot_lease));
        Arc::new(Self {
            methods,
            leases,
            slots,
            memory: MemoryStore::new(planner.clone(), clock.clone()),
            room: Room::new(planner.policy().waiting),
            longest_debt: planner.policy().longest_debt(),
            planner,
            clock,
            sharing,
            debts: Debts::new(),
            rounds: Rounds::default(),
            unsettled: Unsettled::default(),
            upkeep: Upkeep::here(),
            fallback: OnceLock::new(),
            bindings: PerList::default(),
            lists_differ: AtomicBool::new(false),
            virtual_names: ArcSwap::default(),
            hashers: hashers(&secrets),
            blocks,
            secrets,
            observer,
            top: TopCallers::default(),
        })
    }

    /// The plan of the tool that `name` leads to; `None` when there is no such tool.
    pub(crate) fn bound(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<Arc<Bound>> {
        let bind = || {
            let plans = tools
                .iter()
                .map(|tool| {
                    (tool.name.clone(), Arc::new(Bound::new(&self.planner, self.leases.as_deref(), tool)))
                })
                .collect();
            let idle = self.idle_rules(tools);
            if !self.lists_differ.load(Ordering::Relaxed) {
                for rule in &idle {
                    let hint = rule.nearest.as_deref().unwrap_or_default();
                    tracing::warn!(rule = rule.name, hint, "no tool fits this limit");
                }
            }
            Binding { plans, idle }
        };
        self.bindings.with(tools, bind, |binding| binding.plans.get(name).cloned())
    }

    /// Says that callers see different tools, so that a rule which fits nothing on one list may fit on another.
    pub fn expect_lists_to_differ(&self) {
        self.lists_differ.store(true, Ordering::Relaxed);
    }

    /// Rules that fit none of these tools and no virtual one.
    fn idle_rules(&self, tools: &[Tool]) -> Vec<IdleRule> {
        let made = self.virtual_names.load();
        let mut idle = self.planner.unmatched(tools);
        idle.retain(|rule| !made.iter().any(|name| name.as_str() == *rule));
        let idle = idle.into_iter();
        idle.map(|name| IdleRule { name: name.to_owned(), nearest: nearest(tools, name).map(str::to_owned) })
            .collect()
    }

    /// The plans of virtual tools that some rule names. What they are called is remembered, so that such a rule is
    /// not taken for one that fits nothing.
    pub(crate) fn bind_virtual(&self, tools: &[Tool]) -> HashMap<ToolName, Arc<Bound>> {
        self.virtual_names.rcu(|names| {
            let more = tools.iter().map(|tool| tool.name.clone());
            names.iter().cloned().chain(more).collect::<Vec<_>>()
        });
        let bound = tools.iter().map(|tool| {
            (tool.name.clone(), Arc::new(Bound::new(&self.planner, self.leases.as_deref(), tool)))
        });
        bound.filter(|(_, bound)| !bound.plan.is_empty()).collect()
    }

    /// Why a call that ended so is given back, if it is.
    pub(crate) fn refunds(&self, error: &Error) -> Option<&'static str> {
        reason(error, &self.planner.policy().refund_on)
    }

    /// The plan of a method, where it is limited.
    pub(crate) fn bound_method(&self, method: Method) -> Option<&Arc<Bound>> {
        self.methods.get(&method)
    }

    /// Begins a task that may outlive the call that it is for.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.upkeep.spawn(task);
    }

    /// Whether there are limits on methods that call no tool.
    #[must_use]
    pub fn limits_methods(&self) -> bool {
        !self.methods.is_empty()
    }

    /// Leave for a call that holds nothing and has paid nothing yet.
    fn permit<'a>(&'a self, bound: &'a Bound, user: Option<UserKey>) -> Permit<'a> {
        Permit {
            limiter: self,
            local: None,
            leased: None,
            shared: Vec::new(),
            untried: SmallVec::new(),
            known: None,
            fallen: None,
            slot: None,
            bell: Bell {
                limiter: self,
                plan: &bound.plan,
                user,
                shared: false,
                admitted: false,
                places: false,
            },
        }
    }

    fn admit_here<'a>(
        &'a self,
        (bound, plan): (&'a Bound, &'a Plan),
        user: Option<UserKey>,
        now: Micros,
    ) -> Result<Permit<'a>, Denial> {
        match self.memory.admit_at(plan, user, now) {
            Claim::Admitted(receipt) => {
                let mut permit = self.permit(bound, user);
                permit.local = Some(receipt);
                (permit.bell.admitted, permit.bell.places) = (true, true);
                Ok(permit)
            }
            Claim::Refused(refused) => {
                let error = refusal(bound, plan, refused.binding, refused.wait);
                Err(Denial::by_buckets(error, plan, &refused.levels))
            }
            Claim::Full => Err(Error::Overloaded.into()),
            Claim::Busy(place) => {
                let error = Error::RateLimited(Box::new(busy(bound, Place::Slots(place))));
                Err(Denial { error, held_up: HeldUp::BySlots(place) })
            }
        }
    }

    /// Whether the shared store answers; `None` without one.
    #[must_use]
    pub fn store_available(&self) -> Option<bool> {
        self.sharing.as_ref().map(|sharing| sharing.store.is_available())
    }

    /// How many users are told apart in this process.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.memory.user_count()
    }
}

impl Permit<'_> {
    /// The bucket that has least left, if it is little. What this replica has taken ahead is not looked at: the rest of it is
    /// elsewhere.
    pub(crate) fn scarce(&self, bound: &Bound) -> Option<Scarce> {
        if self.limiter.sharing.is_none() {
            return self.local.as_ref().and_then(Receipt::scarce);
        }
        let below = self.limiter.planner.policy().hints.below_percent;
        let known = self.known.as_ref()?;
        Scarce::find(&bound.plan, known.iter().copied(), below)
    }

    /// Gives back what was paid, for a reason that is counted.
    pub(crate) async fn refund(self, reason: &'static str) {
        if let Some(fallen) = &self.fallen {
            self.limiter.change_fallen(fallen, None);
        }
        if let Some(receipt) = &self.local {
            receipt.give_back();
        }
        if let Some(sharing) = &self.limiter.sharing {
            // Not into what is held here, where it might be spent later than a lease allows.
            let changes = self.changes(|bucket| -i64::from(bucket.cost));
            self.limiter.change_shared(sharing, changes).await;
        }
        self.limiter.observer.refunded(reason);
        self.bell.ring(true);
    }
}

#[cfg(test)]
pub(crate) mod tests;
