//! Making plans out of rules, and remembering which bucket is which.

mod buckets;
mod saved;
mod subject;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::{Mutex, RwLock};
use vmcp_domain::{Tool, ToolName};

use super::cells::Cells;
use super::{Asked, BucketId, Plan, PlannedSlots, RulePrice, Variation};
use crate::clock::Micros;
use crate::policy::{Concurrency, LimitPolicy, Method, Mode, Price, Quota, ToolRule};
use crate::rate::{BucketState, Rate};
pub(crate) use saved::Definition;
use saved::Restored;
use subject::{Due, OF_SERVER, OF_TOOL, Subject, Whose};

/// How many definitions are told apart. A backend that keeps renaming its tools makes a new one with every name, and
/// none may be forgotten while somebody may be in debt under it; so beyond this, tools of a rule share its bucket.
const BUCKET_COUNT_MAX: usize = 250_000;

#[derive(Debug, Default)]
struct Registry {
    /// By what a bucket or a bound on calls in flight is called in a shared store, without users and values of claims.
    ids: HashMap<Arc<str>, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: BucketId,
    level: Arc<Mutex<Option<BucketState>>>,
    in_flight: Arc<AtomicU32>,
}

/// Makes plans and remembers which bucket is which.
#[derive(Debug)]
pub struct Planner {
    policy: LimitPolicy,
    registry: Mutex<Registry>,
    /// How each bucket fills, by its identifier; `None` for bounds on calls in flight.
    rates: RwLock<Vec<Option<Rate>>>,
    /// The first moments of the newest periods of buckets by the calendar.
    starts: RwLock<HashMap<BucketId, Micros>>,
    /// The first moment of the newest period of any.
    newest_period: RwLock<Micros>,
    /// Definitions of the last process.
    restored: RwLock<Restored>,
    bucket_count_max: usize,
    /// The buckets of values of claims, arguments and headers.
    cells: Mutex<Cells>,
    /// The same of limits that are on trial for everybody: they take no places from others.
    trial_cells: Mutex<Cells>,
}

impl Planner {
    /// A planner for a policy.
    #[must_use]
    pub fn new(policy: LimitPolicy) -> Self {
        Self {
            policy,
            registry: Mutex::default(),
            rates: RwLock::default(),
            starts: RwLock::default(),
            newest_period: RwLock::default(),
            restored: RwLock::default(),
            bucket_count_max: BUCKET_COUNT_MAX,
            cells: Mutex::default(),
            trial_cells: Mutex::default(),
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

    /// The time that a bucket goes by, see [`PlannedBucket::time`].
    pub(crate) fn time(&self, id: BucketId, now: Micros) -> Micros {
        match self.rate(id) {
            Some(rate) if rate.is_by_calendar() => {
                let start = self.starts.read().get(&id).copied();
                start.unwrap_or_default().max(self.over_before(&rate))
            }
            _ => now,
        }
    }

    fn cells(&self, mode: Mode) -> &Mutex<Cells> {
        match mode {
            Mode::Enforce => &self.cells,
            Mode::Shadow => &self.trial_cells,
        }
    }

    /// The plan of one tool, whoever calls it with whatever.
    #[must_use]
    pub fn plan(&self, tool: &Tool) -> Plan {
        self.plan_tool(tool, &Variation::default(), Micros(0))
    }

    /// The plan of one request, made now.
    #[must_use]
    pub(crate) fn plan_for(&self, asked: &Asked, call: &Variation, now: Micros) -> Plan {
        match asked {
            Asked::Tool(tool) => self.plan_tool(tool, call, now),
            Asked::Method(method) => self.plan_method(*method, call, now),
        }
    }

    fn plan_method(&self, method: Method, call: &Variation, now: Micros) -> Plan {
        let rules = self.policy.methods.iter().enumerate().filter(|(_, rule)| rule.method == method);
        let subjects: Vec<Subject<'_>> = rules
            .map(|(place, rule)| Subject {
                limits: &rule.limits,
                // Behind the tools' rules.
                rule: Some(self.policy.tools.len() + place),
                name: format!("methods[{}].", method.as_str()),
                namesakes: 0,
                target: None,
                cost: NonZeroU32::MIN,
                cost_max: NonZeroU32::MIN,
                trial: None,
                scopes: OF_SERVER,
            })
            .collect();
        let mut plan = Plan::default();
        self.fill(&mut plan, &subjects, call, now);
        plan
    }

    fn plan_tool(&self, tool: &Tool, call: &Variation, now: Micros) -> Plan {
        let is_virtual = tool.target.is_virtual();
        let fits = || self.policy.tools.iter().enumerate().filter(|(_, rule)| rule.fits(tool));
        // A rule on trial for this caller says what calls cost in its own buckets, and nowhere else.
        let trial = |(place, rule): (usize, &ToolRule)| {
            (!rule.is_in_force(call.standing)).then(|| u32::try_from(place).unwrap_or(u32::MAX))
        };
        let largest = |rules: &mut dyn Iterator<Item = (usize, &ToolRule)>| {
            rules.map(|(_, rule)| rule.cost.least).max().unwrap_or(NonZeroU32::MIN)
        };
        let cost = largest(&mut fits().filter(|rule| trial(*rule).is_none()));
        // The lowest standing: there every percentage counts.
        let cost_max = largest(&mut fits().filter(|(_, rule)| rule.is_in_force(0)));
        let server = Subject {
            limits: &self.policy.server,
            rule: None,
            name: String::new(),
            namesakes: 0,
            target: None,
            cost,
            cost_max,
            trial: None,
            scopes: OF_SERVER,
        };
        let mut subjects: Vec<Subject<'_>> = (!is_virtual).then_some(server).into_iter().collect();
        subjects.extend(fits().map(|(place, rule)| Subject {
            limits: &rule.limits,
            rule: Some(place),
            name: format!("{}.", rule.title()),
            namesakes:
                fits().filter(|(other, known)| *other < place && known.title() == rule.title()).count(),
            target: (!rule.group).then(|| tool.target.clone()),
            cost: trial((place, rule)).map_or(cost, |_| cost.max(rule.cost.least)),
            cost_max: if rule.is_in_force(0) { cost_max } else { cost_max.max(rule.cost.least) },
            trial: trial((place, rule)),
            scopes: OF_TOOL,
        }));
        let mut plan = Plan::default();
        for (place, rule) in fits() {
            let of = |price: &Arc<Price>| RulePrice { price: price.clone(), trial: trial((place, rule)) };
            plan.varies.prices.extend(rule.cost.price.as_ref().map(of));
            plan.varies.settlements.extend(rule.cost.settle.as_ref().map(of));
        }
        self.fill(&mut plan, &subjects, call, now);
        plan
    }

    fn fill(&self, plan: &mut Plan, subjects: &[Subject<'_>], call: &Variation, now: Micros) {
        // A plan that is not for one caller has the common size.
        let mut sizes = call.sizes.iter().copied();
        let mut size = |quota: &Quota| if quota.overrides.is_empty() { None } else { sizes.next().flatten() };
        // From the wide to the narrow, and within each the server before its tools: the order of blame and of locks.
        for subject in subjects {
            if let Some(quota) = &subject.limits.shared {
                plan.varies.note_calendars(quota);
                self.add_quota(plan, subject, (call, now), &Due::new(Whose::Everybody, quota));
            }
            if let Some(quota) = &subject.limits.unreserved {
                let due = Due { size: size(quota), ..Due::new(Whose::Unreserved, quota) };
                plan.varies.note_overrides(quota, None, due.rule(subject));
                plan.varies.note_calendars(quota);
                self.add_quota(plan, subject, (call, now), &due);
            }
            self.add_slots(plan, subject, false);
        }
        for subject in subjects {
            for (place, limit) in subject.limits.per_value.iter().enumerate() {
                let number = plan.varies.need(limit);
                let whose = Whose::Value(place, limit.of.kind());
                let due = Due { of: Some(&limit.of), ..Due::new(whose, &limit.quota) };
                plan.varies.note_overrides(&limit.quota, Some(number), due.rule(subject));
                plan.varies.note_calendars(&limit.quota);
                let first = plan.buckets.len();
                match call.values.get(number) {
                    None => self.add_quota(plan, subject, (call, now), &due),
                    Some(values) => {
                        for value in values.iter().enumerate() {
                            let due = Due { value: Some(value), size: size(&limit.quota), ..due };
                            self.add_quota(plan, subject, (call, now), &due);
                        }
                    }
                }
                // Values may share a bucket with others beyond the bound, which is locked in its own place.
                plan.buckets[first..].sort_by_key(|bucket| (bucket.rank, bucket.id, bucket.whose));
            }
        }
        for subject in subjects {
            if let Some(quota) = &subject.limits.per_user {
                let due = Due { size: size(quota), ..Due::new(Whose::User, quota) };
                plan.varies.note_overrides(quota, None, due.rule(subject));
                plan.varies.note_calendars(quota);
                self.add_quota(plan, subject, (call, now), &due);
            }
            self.add_slots(plan, subject, true);
        }
        plan.varies.percents.sort_unstable();
        plan.varies.percents.dedup();
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

    fn add_slots(&self, plan: &mut Plan, subject: &Subject<'_>, per_user: bool) {
        let Concurrency { shared, per_user: each, mode } = subject.limits.concurrency;
        let Some(count_max) = (if per_user { each } else { shared }) else { return };
        let whose = if per_user { Whose::User } else { Whose::Everybody };
        let key = |subject: &Subject<'_>| subject.slots_key(whose);
        let entry = self.entry(subject, &key, None);
        plan.slots.push(PlannedSlots {
            id: entry.id,
            key: key(subject),
            rule: format!("{}concurrency.{}", subject.name, if per_user { "perUser" } else { "shared" })
                .into(),
            scope: subject.scope(whose),
            count_max,
            mode,
            shared: (!per_user).then_some(entry.in_flight),
            wait_max: subject.wait_max(),
        });
        plan.may_wait |= subject.wait_max() > 0 && mode == Mode::Enforce;
        plan.needs_user |= per_user;
        plan.keeps_user |= per_user && mode == Mode::Enforce;
        plan.tries_user |= per_user && mode == Mode::Shadow;
    }

    fn entry(
        &self,
        subject: &Subject<'_>,
        name: &dyn Fn(&Subject<'_>) -> Arc<str>,
        rate: Option<Rate>,
    ) -> Entry {
        let mut key = name(subject);
        let mut registry = self.registry.lock();
        if registry.ids.len() >= self.bucket_count_max && !registry.ids.contains_key(&key) {
            key = name(&subject.of_all_tools());
        }
        let Some(known) = registry.ids.get(&key).cloned() else {
            return self.add(&mut registry, key, rate);
        };
        match (self.rate(known.id), rate) {
            // Within a process the first size of a bucket counts.
            (Some(old), Some(rate)) if old != rate && self.is_restored(known.id) => {
                let entry = self.add(&mut registry, key, Some(rate));
                Self::resized(&known, &old, &entry, &rate);
                entry
            }
            _ => known,
        }
    }

    /// A new definition; it takes the place of another one of that name.
    fn add(&self, registry: &mut Registry, key: Arc<str>, rate: Option<Rate>) -> Entry {
        let mut rates = self.rates.write();
        let id = BucketId(u32::try_from(rates.len()).unwrap_or(u32::MAX));
        rates.push(rate);
        let entry = Entry { id, level: Arc::default(), in_flight: Arc::default() };
        registry.ids.insert(key, entry.clone());
        entry
    }
}

#[cfg(test)]
mod tests;
