//! What makes calls of one tool differ to the limits, so that each is charged by a plan of its own.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Costs, RulePrice};
use crate::bucket::calendar::{Calendar, Period};
use crate::bucket::user_table::UserKey;
use crate::plan::policy::{ListHandling, MissingValue, Overrides, Quota, ValueQuota, ValueSource};

/// What makes calls of one tool differ.
#[derive(Clone, Debug, Default)]
pub struct VariationInputs {
    /// What a call costs by what it asks for: the largest counts.
    pub prices: SmallVec<[RulePrice; 1]>,
    /// What it turned out to cost: the largest counts.
    pub settlements: SmallVec<[RulePrice; 1]>,
    /// What tells calls apart besides their callers.
    pub values: SmallVec<[RequiredValue; 1]>,
    /// The limits that have other sizes for some callers, in the order of the plan.
    pub overridden: SmallVec<[OverriddenLimit; 1]>,
    /// The percentages up to which limits are enforced, rising.
    pub percents: SmallVec<[u8; 2]>,
    /// How periods of quotas are counted, each once.
    pub calendars: SmallVec<[Arc<Calendar>; 1]>,
}

/// A limit that has other sizes for some callers.
#[derive(Clone, Debug)]
pub struct OverriddenLimit {
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// The sizes.
    pub overrides: Overrides,
    /// The place of the value that it is kept for; `None` for a limit of each user.
    pub value_index: Option<usize>,
}

impl VariationInputs {
    /// The place of what a limit has a bucket for each value of.
    pub(super) fn require_value(&mut self, limit: &ValueQuota) -> usize {
        let enforced_percent = limit.quota.enforced_percent();
        // Which value is allowed most depends on the limit.
        let largest_of = (limit.list_handling == ListHandling::Largest).then(|| limit.quota.clone());
        let is_this = |known: &RequiredValue| {
            (&known.source, known.missing, known.list_handling)
                == (&limit.source, limit.missing, limit.list_handling)
                && known.largest_quota == largest_of
        };
        if let Some(place) = self.values.iter().position(is_this) {
            let known = &mut self.values[place];
            known.enforced_percent = known.enforced_percent.max(enforced_percent);
            return place;
        }
        let (of, missing, lists) = (limit.source.clone(), limit.missing, limit.list_handling);
        self.values.push(RequiredValue {
            source: of,
            missing,
            list_handling: lists,
            largest_quota: largest_of,
            enforced_percent,
        });
        self.values.len() - 1
    }

    /// Notes a limit, if it has other sizes for some callers.
    pub(super) fn note_overrides(&mut self, quota: &Quota, value: Option<usize>, rule: Arc<str>) {
        if !quota.overrides.is_empty() {
            self.overridden.push(OverriddenLimit {
                rule,
                overrides: quota.overrides.clone(),
                value_index: value,
            });
        }
    }

    /// Notes how the periods of a limit are counted, in whatever size.
    pub(super) fn note_calendars(&mut self, quota: &Quota) {
        for calendar in quota.all_windows().filter_map(|window| window.calendar.as_ref()) {
            if !self.calendars.contains(calendar) {
                self.calendars.push(calendar.clone());
            }
        }
    }

    /// Whether all calls of one user are charged by the same plan.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prices.is_empty()
            && self.values.is_empty()
            && self.percents.is_empty()
            && self.overridden.is_empty()
            && self.calendars.is_empty()
    }
}

/// Something of which each value has a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredValue {
    /// What it is.
    pub source: ValueSource,
    /// What happens to callers without it.
    pub missing: MissingValue,
    /// Which values of a list count.
    pub list_handling: ListHandling,
    /// Of a list only the value that this limit allows most counts; `None` where all do.
    pub largest_quota: Option<Quota>,
    /// For how many callers in a hundred that is so; for the others these limits are in shadow mode.
    pub enforced_percent: u8,
}

/// One call's part of what varies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Variation {
    /// What it costs at least, by the prices that look at it.
    pub costs: Costs,
    /// The values of [`VariationInputs::values`], in their order; empty in a plan that is not for one call.
    pub values: SmallVec<[BucketValues; 1]>,
    /// The places of the sizes that the caller has, of [`VariationInputs::overridden`] in their order, one for each value;
    /// `None` for the size of all. Empty in a plan that is not for one caller.
    pub sizes: SmallVec<[Option<u16>; 2]>,
    /// Where the caller stands among a hundred, rounded down to one of [`VariationInputs::percents`] or to zero.
    pub percentile: u8,
    /// The present periods of [`VariationInputs::calendars`]; empty in a plan that is not for one call.
    pub periods: SmallVec<[Period; 1]>,
}

/// The values of one claim, argument or header: one, or several of a list, each once and in the order of their keys. None
/// for a part of a call that is not known.
pub type BucketValues = SmallVec<[BucketValue; 1]>;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BucketValue {
    /// What keeps it apart in this process.
    pub key: UserKey,
    /// The same in a shared store, free of the value itself.
    pub digest: Arc<str>,
    /// The caller who chose it, where its buckets are kept for that caller alone.
    pub chosen_by: Option<UserKey>,
    /// The caller has no value, and a limit in force would refuse it for that.
    pub is_refused: bool,
}
