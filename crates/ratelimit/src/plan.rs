//! Which buckets a call of a tool is charged to. Rules name advertised tools; the buckets belong to the tool that
//! really runs, so that every name and every road that leads to it spends from the same ones.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use vmcp_domain::{BackendToolName, LimitScope, Target, Tool, ToolName};

use crate::policy::{Concurrency, LeasePolicy, LimitPolicy, Limits, Mode, Quota};
use crate::rate::{Level, Rate};

/// How many definitions are told apart. A backend that keeps renaming its tools makes a new one with every name, and
/// none may be forgotten while somebody may be in debt under it; so beyond this, tools of a rule share its bucket.
const BUCKET_COUNT_MAX: usize = 250_000;

/// Names one bucket definition for the life of the process: the same rule on the same tool has the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub u32);

/// Where a bucket's level is kept.
#[derive(Clone, Debug)]
pub enum Holder {
    /// One level for everybody; `None` until it is first spent from.
    Shared(Arc<Mutex<Option<Level>>>),
    /// One level for each user, in the users' table.
    User,
}

/// One bucket that a call is charged to.
#[derive(Clone, Debug)]
pub struct PlannedBucket {
    /// Which definition.
    pub id: BucketId,
    /// What it belongs to, in words that are the same on every replica; a user's part is added for per-user buckets.
    pub key: Arc<str>,
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// For whom it counts.
    pub scope: LimitScope,
    /// How it fills.
    pub rate: Rate,
    /// What a call costs, in tokens.
    pub cost: NonZeroU32,
    /// The same in units.
    pub cost_units: i64,
    /// What a refusal does.
    pub mode: Mode,
    /// Where its level is kept.
    pub holder: Holder,
    /// How long a call waits for it, in microseconds, before it is refused.
    pub wait_max: u64,
    /// How many tokens a window may hold in excess where replicas take tokens of it ahead; `None` where they do not.
    pub leased: Option<u64>,
}

/// One bound on calls in flight.
#[derive(Clone, Debug)]
pub struct PlannedSlots {
    /// Which definition.
    pub id: BucketId,
    /// What it belongs to, in words that are the same on every replica; a user's part is added for per-user bounds.
    pub key: Arc<str>,
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// For whom it counts.
    pub scope: LimitScope,
    /// The bound.
    pub count_max: NonZeroU32,
    /// What a refusal does.
    pub mode: Mode,
    /// The counter of a shared bound; `None` for one that is kept for each user.
    pub shared: Option<Arc<AtomicU32>>,
    /// How long a call waits for it, in microseconds, before it is refused.
    pub wait_max: u64,
}

/// Everything a call of one tool is charged to.
///
/// The order is that of blame (server, tool, user, user and tool) and, among shared buckets, the order in which
/// they are locked: any two plans list the buckets they have in common in the same order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The buckets.
    pub buckets: SmallVec<[PlannedBucket; 4]>,
    /// The bounds on calls in flight.
    pub slots: SmallVec<[PlannedSlots; 2]>,
    /// Whether the caller must be told apart from others.
    pub needs_user: bool,
    /// Whether a call may wait for any of it.
    pub may_wait: bool,
}

impl Plan {
    /// True when nothing limits the tool.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty() && self.slots.is_empty()
    }
}

/// What a bucket belongs to, for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// The rule's place; `None` for the limits on all calls.
    rule: Option<usize>,
    /// The tool that really runs; `None` where one bucket serves all that fit.
    target: Option<Target<BackendToolName>>,
    /// The window's place, or `None` for calls in flight.
    window: Option<usize>,
    per_user: bool,
}

#[derive(Debug, Default)]
struct Registry {
    ids: HashMap<Key, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: BucketId,
    level: Arc<Mutex<Option<Level>>>,
    in_flight: Arc<AtomicU32>,
}

/// Makes plans and remembers which bucket is which.
#[derive(Debug)]
pub struct Planner {
    policy: LimitPolicy,
    registry: Mutex<Registry>,
    /// How each bucket fills, by its identifier; `None` for bounds on calls in flight.
    rates: RwLock<Vec<Option<Rate>>>,
    bucket_count_max: usize,
}

/// What is being limited: the limits, where they stand, and what the buckets belong to.
struct Subject<'a> {
    limits: &'a Limits,
    rule: Option<usize>,
    name: String,
    target: Option<Target<BackendToolName>>,
    cost: NonZeroU32,
    scopes: (LimitScope, LimitScope),
}

impl Subject<'_> {
    fn wait_max(&self) -> u64 {
        u64::try_from(self.limits.wait_max.as_micros()).unwrap_or(u64::MAX)
    }

    /// The bucket's name in a shared store. Parts that a backend or an operator chose are length-prefixed, so that no
    /// two buckets can come to the same name.
    fn key(&self, window: usize, per_user: bool) -> Arc<str> {
        format!("{}:{window}", self.stem(per_user)).into()
    }

    /// The name of a bound on calls in flight. No bucket's begins like it.
    fn slots_key(&self, per_user: bool) -> Arc<str> {
        format!("slots:{}", self.stem(per_user)).into()
    }

    fn stem(&self, per_user: bool) -> String {
        let mut key = String::from(if per_user { "user" } else { "shared" });
        if self.rule.is_some() {
            key.push_str(if per_user { "-tool" } else { ":tool" });
            for part in [&*self.name]
                .into_iter()
                .chain(self.target.iter().flat_map(|target| [target.backend.as_str(), target.name.as_str()]))
            {
                key.push_str(&format!(":{}:{part}", part.len()));
            }
        }
        key
    }
}

impl Planner {
    /// A planner for a policy.
    #[must_use]
    pub fn new(policy: LimitPolicy) -> Self {
        Self {
            policy,
            registry: Mutex::default(),
            rates: RwLock::default(),
            bucket_count_max: BUCKET_COUNT_MAX,
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &LimitPolicy {
        &self.policy
    }

    /// How a bucket fills.
    pub(crate) fn rate(&self, id: BucketId) -> Option<Rate> {
        self.rates.read().get(usize::try_from(id.0).ok()?).copied().flatten()
    }

    /// The plan of one tool.
    #[must_use]
    pub fn plan(&self, tool: &Tool) -> Plan {
        let is_virtual = tool.target.is_virtual();
        let fits = || self.policy.tools.iter().enumerate().filter(|(_, rule)| rule.fits(tool));
        let cost = fits().map(|(_, rule)| rule.cost).max().unwrap_or(NonZeroU32::MIN);
        let server = Subject {
            limits: &self.policy.server,
            rule: None,
            name: String::new(),
            target: None,
            cost,
            scopes: (LimitScope::Server, LimitScope::User),
        };
        let mut subjects: Vec<Subject<'_>> = (!is_virtual).then_some(server).into_iter().collect();
        subjects.extend(fits().map(|(place, rule)| Subject {
            limits: &rule.limits,
            rule: Some(place),
            name: format!("{}.", rule.title()),
            target: (!rule.group).then(|| tool.target.clone()),
            cost,
            scopes: (LimitScope::Tool, LimitScope::UserTool),
        }));
        let mut plan = Plan::default();
        // Shared before per user, and within each the server before its tools: the order of blame and of locks.
        for per_user in [false, true] {
            for subject in &subjects {
                self.add_quota(&mut plan, subject, per_user);
                self.add_slots(&mut plan, subject, per_user);
            }
        }
        plan
    }

    /// The plan of every tool of a list.
    #[must_use]
    pub fn bind(&self, tools: &[Tool]) -> HashMap<ToolName, Arc<Plan>> {
        tools.iter().map(|tool| (tool.name.clone(), Arc::new(self.plan(tool)))).collect()
    }

    /// Rules that fit none of these names.
    #[must_use]
    pub fn unmatched<'a>(&'a self, tools: &[Tool]) -> Vec<&'a str> {
        // That no tool is destructive is no mistake of the operator's.
        let rules = self.policy.tools.iter().filter(|rule| rule.hint.is_none());
        let idle = rules.filter(|rule| !tools.iter().any(|tool| rule.name.matches(tool.name.as_str())));
        idle.map(|rule| rule.name.as_str()).collect()
    }

    fn add_quota(&self, plan: &mut Plan, subject: &Subject<'_>, per_user: bool) {
        let quota: Option<&Quota> =
            if per_user { subject.limits.per_user.as_ref() } else { subject.limits.shared.as_ref() };
        let Some(quota) = quota else { return };
        let rule: Arc<str> =
            format!("{}{}", subject.name, if per_user { "perUser" } else { "shared" }).into();
        for (window, rate) in quota.windows.iter().enumerate() {
            // A user's own bucket is hardly ever fast, and its user hardly ever at many replicas.
            let lease = self.policy.consistency.leases();
            let lease = lease.filter(|lease| !per_user && lease.covers(rate, subject.cost));
            let kept = lease.map_or(*rate, |lease| lease.kept(rate));
            let excess = |lease: LeasePolicy| if lease.hold_back { 0 } else { lease.excess(rate) };
            let entry = self.entry(subject, Some(window), per_user, Some(kept));
            plan.buckets.push(PlannedBucket {
                id: entry.id,
                key: subject.key(window, per_user),
                rule: rule.clone(),
                scope: if per_user { subject.scopes.1 } else { subject.scopes.0 },
                rate: kept,
                cost: subject.cost,
                cost_units: kept.units(u64::from(subject.cost.get())),
                mode: quota.mode,
                holder: if per_user { Holder::User } else { Holder::Shared(entry.level) },
                wait_max: subject.wait_max(),
                leased: lease.map(excess),
            });
        }
        plan.may_wait |= subject.wait_max() > 0 && quota.mode == Mode::Enforce;
        plan.needs_user |= per_user;
    }

    fn add_slots(&self, plan: &mut Plan, subject: &Subject<'_>, per_user: bool) {
        let Concurrency { shared, per_user: each, mode } = subject.limits.concurrency;
        let Some(count_max) = (if per_user { each } else { shared }) else { return };
        let entry = self.entry(subject, None, per_user, None);
        plan.slots.push(PlannedSlots {
            id: entry.id,
            key: subject.slots_key(per_user),
            rule: format!("{}concurrency.{}", subject.name, if per_user { "perUser" } else { "shared" })
                .into(),
            scope: if per_user { subject.scopes.1 } else { subject.scopes.0 },
            count_max,
            mode,
            shared: (!per_user).then_some(entry.in_flight),
            wait_max: subject.wait_max(),
        });
        plan.may_wait |= subject.wait_max() > 0 && mode == Mode::Enforce;
        plan.needs_user |= per_user;
    }

    fn entry(
        &self,
        subject: &Subject<'_>,
        window: Option<usize>,
        per_user: bool,
        rate: Option<Rate>,
    ) -> Entry {
        let mut key = Key { rule: subject.rule, target: subject.target.clone(), window, per_user };
        let mut registry = self.registry.lock();
        if registry.ids.len() >= self.bucket_count_max && !registry.ids.contains_key(&key) {
            key.target = None;
        }
        let next = BucketId(u32::try_from(registry.ids.len()).unwrap_or(u32::MAX));
        let mut rates = self.rates.write();
        let entry = registry.ids.entry(key).or_insert_with(|| {
            rates.push(rate);
            Entry { id: next, level: Arc::default(), in_flight: Arc::default() }
        });
        entry.clone()
    }
}

#[cfg(test)]
mod tests;
