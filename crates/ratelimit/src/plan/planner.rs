//! Makes plans from rules, and assigns an identifier to each bucket definition.

mod buckets;
pub(crate) mod limit_subject;
pub(crate) mod restored_definitions;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use parking_lot::{Mutex, RwLock};
use vmcp_domain::{Tool, ToolName};
use vmcp_timing::Micros;

use super::{BucketId, LimitedRequest, Plan, PlannedSlotLimit, RulePrice, Variation};
use crate::bucket::rate::{BucketState, Rate};
use crate::plan::planner::limit_subject::{
    BucketOwner, CallerQuota, LimitSubject, SERVER_SCOPES, TOOL_SCOPES,
};
use crate::plan::planner::restored_definitions::RestoredDefinitions;
pub(crate) use crate::plan::planner::restored_definitions::SavedDefinition;
use crate::plan::policy::{Concurrency, LimitPolicy, Method, Mode, Price, Quota, ToolRule};
use crate::plan::value_buckets::ValueBuckets;

/// The largest number of definitions. A backend that keeps renaming its tools adds one with every name, and
/// none may be removed while a caller may be in debt under it. Beyond the bound, all tools of a rule share
/// its bucket.
const DEFINITION_COUNT_MAX: usize = 250_000;

#[derive(Debug, Default)]
struct DefinitionRegistry {
    /// By the key of a bucket or slot limit in a shared store, without the part of a user or value.
    by_key: HashMap<Arc<str>, BucketDefinition>,
}

#[derive(Clone, Debug)]
struct BucketDefinition {
    id: BucketId,
    shared_state: Arc<Mutex<Option<BucketState>>>,
    in_flight: Arc<AtomicU32>,
}

/// Makes plans and assigns an identifier to each bucket definition.
#[derive(Debug)]
pub struct Planner {
    policy: LimitPolicy,
    registry: Mutex<DefinitionRegistry>,
    /// The rate of each bucket by its identifier; `None` for slot limits.
    rates: RwLock<Vec<Option<Rate>>>,
    /// The start of the newest period of each calendar quota.
    period_starts: RwLock<HashMap<BucketId, Micros>>,
    /// The start of the newest period of any calendar quota.
    newest_period_start: RwLock<Micros>,
    /// Definitions restored from the last process.
    restored_definitions: RwLock<RestoredDefinitions>,
    definition_count_max: usize,
    /// The buckets of claim, argument and header values.
    value_buckets: Mutex<ValueBuckets>,
    /// Value buckets of limits in shadow mode for all callers. They take no slots from enforced limits.
    shadow_value_buckets: Mutex<ValueBuckets>,
}

impl Planner {
    /// A planner for a policy.
    #[must_use]
    pub fn new(policy: LimitPolicy) -> Self {
        Self {
            policy,
            registry: Mutex::default(),
            rates: RwLock::default(),
            period_starts: RwLock::default(),
            newest_period_start: RwLock::default(),
            restored_definitions: RwLock::default(),
            definition_count_max: DEFINITION_COUNT_MAX,
            value_buckets: Mutex::default(),
            shadow_value_buckets: Mutex::default(),
        }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &LimitPolicy {
        &self.policy
    }

    /// The rate of a bucket.
    pub(crate) fn rate(&self, id: BucketId) -> Option<Rate> {
        self.rates.read().get(usize::try_from(id.0).ok()?).copied().flatten()
    }

    /// The time at which to compute the level of a bucket, see [`crate::PlannedBucket::bucket_time`].
    pub(crate) fn bucket_time(&self, id: BucketId, now: Micros) -> Micros {
        match self.rate(id) {
            Some(rate) if rate.is_by_calendar() => {
                let start = self.period_starts.read().get(&id).copied();
                start.unwrap_or_default().max(self.periods_over_before(&rate))
            }
            _ => now,
        }
    }

    fn value_buckets(&self, mode: Mode) -> &Mutex<ValueBuckets> {
        match mode {
            Mode::Enforce => &self.value_buckets,
            Mode::Shadow => &self.shadow_value_buckets,
        }
    }

    /// The plan of one tool, for any caller and any arguments.
    #[must_use]
    pub fn plan(&self, tool: &Tool) -> Plan {
        self.plan_tool(tool, &Variation::default(), Micros(0))
    }

    /// The plan of one request at `now`.
    #[must_use]
    pub(crate) fn plan_request(&self, request: &LimitedRequest, call: &Variation, now: Micros) -> Plan {
        match request {
            LimitedRequest::Tool(tool) => self.plan_tool(tool, call, now),
            LimitedRequest::Method(method) => self.plan_method(*method, call, now),
        }
    }

    fn plan_method(&self, method: Method, call: &Variation, now: Micros) -> Plan {
        let rules = self.policy.methods.iter().enumerate().filter(|(_, rule)| rule.method == method);
        let subjects: Vec<LimitSubject<'_>> = rules
            .map(|(index, rule)| LimitSubject {
                limits: &rule.limits,
                // The indices of method rules continue after those of tool rules.
                rule: Some(self.policy.tools.len() + index),
                name: format!("methods[{}].", method.as_str()),
                same_name_count: 0,
                target: None,
                cost: NonZeroU32::MIN,
                cost_max: NonZeroU32::MIN,
                shadow_rule: None,
                scopes: SERVER_SCOPES,
            })
            .collect();
        let mut plan = Plan::default();
        self.add_limits(&mut plan, &subjects, call, now);
        plan
    }

    fn plan_tool(&self, tool: &Tool, call: &Variation, now: Micros) -> Plan {
        let is_virtual = tool.target.is_virtual();
        let fits = || self.policy.tools.iter().enumerate().filter(|(_, rule)| rule.matches(tool));
        // A rule in shadow mode for this caller sets the cost in its own buckets only.
        let shadow_rule = |(index, rule): (usize, &ToolRule)| {
            (!rule.is_enforced_at(call.percentile)).then(|| u32::try_from(index).unwrap_or(u32::MAX))
        };
        let largest = |rules: &mut dyn Iterator<Item = (usize, &ToolRule)>| {
            rules.map(|(_, rule)| rule.cost.minimum).max().unwrap_or(NonZeroU32::MIN)
        };
        let cost = largest(&mut fits().filter(|rule| shadow_rule(*rule).is_none()));
        // At percentile zero the caller is within every percentage.
        let cost_max = largest(&mut fits().filter(|(_, rule)| rule.is_enforced_at(0)));
        let server = LimitSubject {
            limits: &self.policy.server,
            rule: None,
            name: String::new(),
            same_name_count: 0,
            target: None,
            cost,
            cost_max,
            shadow_rule: None,
            scopes: SERVER_SCOPES,
        };
        let mut subjects: Vec<LimitSubject<'_>> = (!is_virtual).then_some(server).into_iter().collect();
        subjects.extend(fits().map(|(index, rule)| {
            LimitSubject {
                limits: &rule.limits,
                rule: Some(index),
                name: format!("{}.", rule.config_path()),
                same_name_count: fits()
                    .filter(|(other, known)| *other < index && known.config_path() == rule.config_path())
                    .count(),
                target: (!rule.group).then(|| tool.target.clone()),
                cost: shadow_rule((index, rule)).map_or(cost, |_| cost.max(rule.cost.minimum)),
                cost_max: if rule.is_enforced_at(0) { cost_max } else { cost_max.max(rule.cost.minimum) },
                shadow_rule: shadow_rule((index, rule)),
                scopes: TOOL_SCOPES,
            }
        }));
        let mut plan = Plan::default();
        for (index, rule) in fits() {
            let of = |price: &Arc<Price>| RulePrice {
                price: price.clone(),
                shadow_rule: shadow_rule((index, rule)),
            };
            plan.variation_inputs.prices.extend(rule.cost.price.as_ref().map(of));
            plan.variation_inputs.settlements.extend(rule.cost.settle.as_ref().map(of));
        }
        self.add_limits(&mut plan, &subjects, call, now);
        plan
    }

    fn add_limits(&self, plan: &mut Plan, subjects: &[LimitSubject<'_>], call: &Variation, now: Micros) {
        // A plan that is not for one caller has the common size.
        let mut sizes = call.sizes.iter().copied();
        let mut size = |quota: &Quota| if quota.overrides.is_empty() { None } else { sizes.next().flatten() };
        // From wide to narrow scope, and within each the server before its tools. This is the order in which
        // a refusal names limits, and the lock order.
        for subject in subjects {
            if let Some(quota) = &subject.limits.shared {
                plan.variation_inputs.note_calendars(quota);
                self.add_quota(plan, subject, (call, now), &CallerQuota::new(BucketOwner::Everybody, quota));
            }
            if let Some(quota) = &subject.limits.unreserved {
                let caller_quota = CallerQuota {
                    size_index: size(quota),
                    ..CallerQuota::new(BucketOwner::Unreserved, quota)
                };
                plan.variation_inputs.note_overrides(quota, None, caller_quota.rule(subject));
                plan.variation_inputs.note_calendars(quota);
                self.add_quota(plan, subject, (call, now), &caller_quota);
            }
            self.add_slot_limit(plan, subject, false);
        }
        for subject in subjects {
            for (index, limit) in subject.limits.per_value.iter().enumerate() {
                let number = plan.variation_inputs.require_value(limit);
                let owner = BucketOwner::Value(index, limit.source.kind());
                let caller_quota = CallerQuota {
                    value_source: Some(&limit.source),
                    ..CallerQuota::new(owner, &limit.quota)
                };
                plan.variation_inputs.note_overrides(&limit.quota, Some(number), caller_quota.rule(subject));
                plan.variation_inputs.note_calendars(&limit.quota);
                let first = plan.buckets.len();
                match call.values.get(number) {
                    None => self.add_quota(plan, subject, (call, now), &caller_quota),
                    Some(values) => {
                        for value in values.iter().enumerate() {
                            let caller_quota = CallerQuota {
                                value: Some(value),
                                size_index: size(&limit.quota),
                                ..caller_quota
                            };
                            self.add_quota(plan, subject, (call, now), &caller_quota);
                        }
                    }
                }
                // A value beyond the bound has a shared overflow bucket with another key, so the buckets are
                // sorted into lock order.
                plan.buckets[first..].sort_by_key(|bucket| (bucket.lock_rank, bucket.id, bucket.owner));
            }
        }
        for subject in subjects {
            if let Some(quota) = &subject.limits.per_user {
                let caller_quota =
                    CallerQuota { size_index: size(quota), ..CallerQuota::new(BucketOwner::User, quota) };
                plan.variation_inputs.note_overrides(quota, None, caller_quota.rule(subject));
                plan.variation_inputs.note_calendars(quota);
                self.add_quota(plan, subject, (call, now), &caller_quota);
            }
            self.add_slot_limit(plan, subject, true);
        }
        plan.variation_inputs.percents.sort_unstable();
        plan.variation_inputs.percents.dedup();
    }

    /// The plan of every tool of a list.
    #[must_use]
    pub fn plan_list(&self, tools: &[Tool]) -> HashMap<ToolName, Arc<Plan>> {
        tools.iter().map(|tool| (tool.name.clone(), Arc::new(self.plan(tool)))).collect()
    }

    /// The names of the rules that match none of these tools.
    #[must_use]
    pub fn unmatched_rules<'a>(&'a self, tools: &[Tool]) -> Vec<&'a str> {
        // A rule by annotation that matches no tool is not a mistake of the operator.
        let rules = self.policy.tools.iter().filter(|rule| rule.annotation.is_none());
        let idle =
            rules.filter(|rule| !tools.iter().any(|tool| tool.has_name(|name| rule.name.matches(name))));
        idle.map(|rule| rule.name.as_str()).collect()
    }

    fn add_slot_limit(&self, plan: &mut Plan, subject: &LimitSubject<'_>, per_user: bool) {
        let Concurrency { shared, per_user: each, mode } = subject.limits.concurrency;
        let Some(count_max) = (if per_user { each } else { shared }) else { return };
        let owner = if per_user { BucketOwner::User } else { BucketOwner::Everybody };
        let key = |subject: &LimitSubject<'_>| subject.slot_limit_key(owner);
        let definition = self.find_or_add_definition(subject, &key, None);
        plan.slot_limits.push(PlannedSlotLimit {
            id: definition.id,
            key: key(subject),
            rule: format!("{}concurrency.{}", subject.name, if per_user { "perUser" } else { "shared" })
                .into(),
            scope: subject.scope(owner),
            count_max,
            mode,
            shared_count: (!per_user).then_some(definition.in_flight),
            wait_max: subject.wait_max(),
        });
        plan.may_wait |= subject.wait_max() > 0 && mode == Mode::Enforce;
        plan.needs_user |= per_user;
        plan.needs_user_entry |= per_user && mode == Mode::Enforce;
        plan.needs_shadow_user_entry |= per_user && mode == Mode::Shadow;
    }

    fn find_or_add_definition(
        &self,
        subject: &LimitSubject<'_>,
        name: &dyn Fn(&LimitSubject<'_>) -> Arc<str>,
        rate: Option<Rate>,
    ) -> BucketDefinition {
        let mut key = name(subject);
        let mut registry = self.registry.lock();
        if registry.by_key.len() >= self.definition_count_max && !registry.by_key.contains_key(&key) {
            key = name(&subject.for_all_tools());
        }
        let Some(known) = registry.by_key.get(&key).cloned() else {
            return self.add_definition(&mut registry, key, rate);
        };
        match (self.rate(known.id), rate) {
            // Within a process the first rate of a definition stays. Only a definition of the last process
            // gets the new rate.
            (Some(old), Some(rate)) if old != rate && self.is_restored(known.id) => {
                let definition = self.add_definition(&mut registry, key, Some(rate));
                Self::carry_over_level(&known, &old, &definition, &rate);
                definition
            }
            _ => known,
        }
    }

    /// Adds a definition. It replaces an earlier one with the same key.
    fn add_definition(
        &self,
        registry: &mut DefinitionRegistry,
        key: Arc<str>,
        rate: Option<Rate>,
    ) -> BucketDefinition {
        let mut rates = self.rates.write();
        let id = BucketId(u32::try_from(rates.len()).unwrap_or(u32::MAX));
        rates.push(rate);
        let definition = BucketDefinition { id, shared_state: Arc::default(), in_flight: Arc::default() };
        registry.by_key.insert(key, definition.clone());
        definition
    }
}

#[cfg(test)]
mod tests;
