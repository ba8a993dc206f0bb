//! The buckets of one limit for one caller.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;

use smallvec::SmallVec;
use vmcp_timing::Micros;

use super::{BucketDefinition, Planner};
use crate::bucket::calendar::{Calendar, Period};
use crate::bucket::rate::Rate;
use crate::bucket::user_key::UserKey;
use crate::plan::planner::limit_subject::{
    BucketOwner, CallerQuota, LimitSubject, lock_rank, period_key_part, value_bucket_key,
};
use crate::plan::planner::restored_definitions::SIZE_SEPARATOR;
use crate::plan::policy::{LeasePolicy, Mode, Window};
use crate::plan::{
    BucketId, CalendarPeriod, LegacyWindow, LevelStorage, Plan, PlannedBucket, UNPAYABLE, Variation,
    VariationInputs,
};

impl Planner {
    /// Adds the buckets of a limit for one caller: one for each window, or none if an override exempts the
    /// caller.
    pub(super) fn add_quota(
        &self,
        plan: &mut Plan,
        subject: &LimitSubject<'_>,
        (call, now): (&Variation, Micros),
        caller_quota: &CallerQuota<'_>,
    ) {
        let CallerQuota { owner, quota, value_source: of, value, size_index: _ } = *caller_quota;
        plan.variation_inputs
            .percents
            .extend(quota.percent.filter(|_| quota.mode == Mode::Enforce).map(NonZeroU8::get));
        let (windows, is_blocked) = caller_quota.windows();
        if windows.is_empty() {
            return;
        }
        let rule = caller_quota.rule(subject);
        let mode = quota.mode_at(call.percentile);
        let cost = call_cost(subject, call, caller_quota, mode, is_blocked);
        for (window, Window { rate, calendar }) in windows.iter().enumerate() {
            let lease = self.lease_policy(subject, owner, rate);
            let stored_rate = lease.map_or(*rate, |lease| lease.stored_rate(rate));
            let excess = |lease: LeasePolicy| if lease.hold_back { 0 } else { lease.excess(rate) };
            let name = period_key_part(windows, window);
            let definition =
                self.sized_definition(subject, caller_quota, (&name, caller_quota.size_index), stored_rate);
            let resets =
                calendar.as_ref().map(|calendar| current_period(calendar, &plan.variation_inputs, call));
            // In a shared store each period is a bucket of its own. In this process it is the same bucket at
            // a later time.
            let period = match &resets {
                None => name.clone(),
                Some(CalendarPeriod { period: Period { start, .. }, .. }) => {
                    self.note_period(*start);
                    let mut starts = self.period_starts.write();
                    let newest = starts.entry(definition.id).or_default();
                    *newest = (*newest).max(*start);
                    format!("{name}.{}", start.0 / 1_000_000)
                }
            };
            let (storage, owner_key) =
                self.level_storage(&definition, (subject, caller_quota, &name), &stored_rate, now);
            plan.buckets.push(PlannedBucket {
                id: definition.id,
                lock_rank: lock_rank(subject.rule, owner, window),
                key: value_bucket_key(&subject.bucket_key(&period, owner, of), value.map(|(_, value)| value)),
                legacy_window: LegacyWindow {
                    index: u8::try_from(window).unwrap_or(u8::MAX),
                    count: u8::try_from(windows.len()).unwrap_or(u8::MAX),
                    period_offset: u16::try_from(subject.key_stem(owner).len() + 1).unwrap_or(u16::MAX),
                },
                rule: rule.clone(),
                scope: subject.scope(owner),
                rate: stored_rate,
                cost,
                cost_units: stored_rate.units(u64::from(cost.get())),
                mode,
                shadow_rule: subject.shadow_rule,
                percent: quota.percent,
                storage,
                owner: owner_key,
                other_sizes: self.other_sizes(subject, caller_quota, (definition.id, &name)),
                is_blocked,
                // Calls do not wait for the next calendar period.
                wait_max: if resets.is_some() { 0 } else { subject.wait_max() },
                calendar_period: resets,
                lease_excess: lease.map(excess),
            });
        }
        plan.may_wait |= subject.wait_max() > 0 && mode == Mode::Enforce;
        plan.needs_user |= owner == BucketOwner::User;
        plan.needs_user_entry |= owner == BucketOwner::User && quota.mode == Mode::Enforce;
        plan.needs_shadow_user_entry |= owner == BucketOwner::User && quota.mode == Mode::Shadow;
    }

    /// The lease policy of a bucket, if replicas lease its tokens. Only buckets that all callers share are
    /// leased: the bucket of a user or a value is rarely fast, and rarely used at many replicas. The cost of
    /// the current call does not matter, because the bucket is the same for all calls.
    fn lease_policy(
        &self,
        subject: &LimitSubject<'_>,
        owner: BucketOwner,
        rate: &Rate,
    ) -> Option<LeasePolicy> {
        let lease = self.policy.consistency.lease_policy();
        let is_shared = matches!(owner, BucketOwner::Everybody | BucketOwner::Unreserved);
        lease.filter(|lease| is_shared && lease.is_leased(rate, subject.cost_max))
    }

    /// The definition of a bucket in one of its sizes. Each size has its own definition, because levels are
    /// stored in units of the rate.
    fn sized_definition(
        &self,
        subject: &LimitSubject<'_>,
        caller_quota: &CallerQuota<'_>,
        (period, size): (&str, Option<u16>),
        rate: Rate,
    ) -> BucketDefinition {
        let name = |subject: &LimitSubject<'_>| {
            let key = subject.bucket_key(period, caller_quota.owner, caller_quota.value_source);
            match size.and_then(|index| caller_quota.quota.overrides.selector(index)) {
                None => key,
                Some(selector) => format!("{key}{SIZE_SEPARATOR}{selector}").into(),
            }
        };
        self.find_or_add_definition(subject, &name, Some(rate))
    }

    /// The definitions of a user's bucket in all other sizes of the same period.
    fn other_sizes(
        &self,
        subject: &LimitSubject<'_>,
        caller_quota: &CallerQuota<'_>,
        (own, period): (BucketId, &str),
    ) -> SmallVec<[BucketId; 2]> {
        if caller_quota.owner != BucketOwner::User {
            return SmallVec::new();
        }
        // The bucket may have had other sizes in the last process.
        let mut others = self
            .restored_sizes(own, &subject.bucket_key(period, caller_quota.owner, caller_quota.value_source));
        let overrides = &caller_quota.quota.overrides;
        let size_indices = std::iter::once(None).chain((0..).map(Some).take(overrides.iter().count()));
        for place in size_indices.filter(|place| *place != caller_quota.size_index) {
            // A blocking override has the common windows, but nothing is ever spent from them.
            let (windows, is_blocked) = CallerQuota { size_index: place, ..*caller_quota }.windows();
            let same = |index: &usize| !is_blocked && period_key_part(windows, *index) == period;
            if let Some(window) = (0..windows.len()).find(same).and_then(|index| windows.get(index)) {
                let id = self.sized_definition(subject, caller_quota, (period, place), window.rate).id;
                if !others.contains(&id) {
                    others.push(id);
                }
            }
        }
        others
    }

    /// Where the level of a bucket is stored, and the key of its value if the bucket is for one.
    fn level_storage(
        &self,
        definition: &BucketDefinition,
        (subject, caller_quota, period): (&LimitSubject<'_>, &CallerQuota<'_>, &str),
        rate: &Rate,
        now: Micros,
    ) -> (LevelStorage, Option<UserKey>) {
        match (caller_quota.owner, caller_quota.value) {
            (BucketOwner::User, _) if caller_quota.quota.mode == Mode::Shadow => {
                (LevelStorage::ShadowUser, None)
            }
            (BucketOwner::User, _) => (LevelStorage::User, None),
            (BucketOwner::Everybody | BucketOwner::Unreserved, _) | (BucketOwner::Value(..), None) => {
                (LevelStorage::Shared(definition.shared_state.clone()), None)
            }
            (BucketOwner::Value(..), Some((index, value))) => {
                let most = self.policy.memory.user_count_max;
                let time = |id: BucketId| self.bucket_time(id, now);
                let mut value_buckets = self.value_buckets(caller_quota.quota.mode).lock();
                let wanted = (definition.id, value.key, value.chosen_by);
                let (key, owner_key) = value_buckets.get_or_insert(wanted, (index, most), rate, (now, &time));
                let base = subject.bucket_key(period, caller_quota.owner, caller_quota.value_source);
                self.merge_restored_value(
                    (definition.id, value.key),
                    (rate, &base),
                    &owner_key,
                    &mut value_buckets,
                );
                (LevelStorage::Shared(owner_key), Some(key))
            }
        }
    }
}

/// The current period of a quota for a call; an empty period in a plan that is not for one call.
fn current_period(
    calendar: &Arc<Calendar>,
    variation_inputs: &VariationInputs,
    call: &Variation,
) -> CalendarPeriod {
    let index = variation_inputs.calendars.iter().position(|known| known == calendar);
    let period = index.and_then(|index| call.periods.get(index)).copied().unwrap_or_default();
    CalendarPeriod { period, calendar: calendar.clone() }
}

/// The cost of one call in a limit, in tokens. A call that the limit refuses at any level gets an unpayable
/// cost.
fn call_cost(
    subject: &LimitSubject<'_>,
    call: &Variation,
    caller_quota: &CallerQuota<'_>,
    mode: Mode,
    is_blocked: bool,
) -> NonZeroU32 {
    let lacks_claim = mode == Mode::Shadow && caller_quota.value.is_some_and(|(_, value)| value.is_refused);
    if is_blocked || lacks_claim {
        UNPAYABLE
    } else {
        call.costs.for_bucket(subject.shadow_rule, subject.cost)
    }
}
