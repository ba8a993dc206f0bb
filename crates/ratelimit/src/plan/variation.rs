//! What makes calls of one tool differ to the limits, so that each variation is charged by a plan of its own.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Costs, RulePrice};
use crate::bucket::calendar::{Calendar, Period};
use crate::bucket::user_key::UserKey;
use crate::plan::policy::{ListHandling, MissingValue, Overrides, Quota, ValueQuota, ValueSource};

/// The inputs that make calls of one tool differ.
#[derive(Clone, Debug, Default)]
pub struct VariationInputs {
    /// The prices from the content of a call; the largest counts.
    pub prices: SmallVec<[RulePrice; 1]>,
    /// The prices from the result of a call; the largest counts.
    pub settlements: SmallVec<[RulePrice; 1]>,
    /// The claims, arguments and headers that have a bucket for each value.
    pub values: SmallVec<[RequiredValue; 1]>,
    /// The limits that have other sizes for some callers, in the order of the plan.
    pub overridden: SmallVec<[OverriddenLimit; 1]>,
    /// The percentages of callers that limits are enforced for, ascending.
    pub percents: SmallVec<[u8; 2]>,
    /// The calendars of quotas, each once.
    pub calendars: SmallVec<[Arc<Calendar>; 1]>,
}

/// A limit that has other sizes for some callers.
#[derive(Clone, Debug)]
pub struct OverriddenLimit {
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// The sizes.
    pub overrides: Overrides,
    /// The index of the value that the limit is for, in [`VariationInputs::values`]; `None` for a limit that
    /// is not per value.
    pub value_index: Option<usize>,
}

impl VariationInputs {
    /// Whether the arguments of a call may change what it is charged.
    pub fn read_arguments(&self) -> bool {
        !self.prices.is_empty()
            || self.values.iter().any(|value| matches!(value.source, ValueSource::Call(_)))
    }

    /// The index of the value that a limit counts by, which is added if it is new.
    pub(super) fn require_value(&mut self, limit: &ValueQuota) -> usize {
        let enforced_percent = limit.quota.enforced_percent();
        // Which value has the largest limit depends on the limit itself.
        let largest_of = (limit.list_handling == ListHandling::Largest).then(|| limit.quota.clone());
        let is_this = |known: &RequiredValue| {
            (&known.source, known.missing, known.list_handling)
                == (&limit.source, limit.missing, limit.list_handling)
                && known.largest_quota == largest_of
        };
        if let Some(index) = self.values.iter().position(is_this) {
            let known = &mut self.values[index];
            known.enforced_percent = known.enforced_percent.max(enforced_percent);
            return index;
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

    /// Records a limit if it has other sizes for some callers.
    pub(super) fn note_overrides(&mut self, quota: &Quota, value: Option<usize>, rule: Arc<str>) {
        if !quota.overrides.is_empty() {
            self.overridden.push(OverriddenLimit {
                rule,
                overrides: quota.overrides.clone(),
                value_index: value,
            });
        }
    }

    /// Records the calendars of a limit, in all its sizes.
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

/// A claim, argument or header that has a bucket for each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredValue {
    /// The claim, argument or header.
    pub source: ValueSource,
    /// What happens to callers without a value.
    pub missing: MissingValue,
    /// Which values of a list count.
    pub list_handling: ListHandling,
    /// The limit that selects one value of a list: the value that it allows most. `None` if the list handling
    /// selects no value.
    pub largest_quota: Option<Quota>,
    /// The percentage of callers that these limits are enforced for; for all others they are in shadow mode.
    pub enforced_percent: u8,
}

/// What the inputs are for one call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Variation {
    /// The cost by the prices that depend on the content of the call.
    pub costs: Costs,
    /// The values of [`VariationInputs::values`], in their order; empty in a plan that is not for one call.
    pub values: SmallVec<[BucketValues; 1]>,
    /// The indices of the overrides that apply to the caller, for [`VariationInputs::overridden`] in their
    /// order, one for each value. `None` means the common size. Empty in a plan that is not for one caller.
    pub sizes: SmallVec<[Option<u16>; 2]>,
    /// The caller's percentile, rounded down to one of [`VariationInputs::percents`] or to zero.
    pub percentile: u8,
    /// The current periods of [`VariationInputs::calendars`]; empty in a plan that is not for one call.
    pub periods: SmallVec<[Period; 1]>,
}

/// The values of one claim, argument or header: one, or several of a list, each once and in the order of
/// their keys. Empty for a part of a call that is not known.
pub type BucketValues = SmallVec<[BucketValue; 1]>;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BucketValue {
    /// The key of the value in this process.
    pub key: UserKey,
    /// The key of the value in a shared store; a digest that does not contain the value.
    pub digest: Arc<str>,
    /// The caller that chose the value, if its buckets are for that caller alone.
    pub chosen_by: Option<UserKey>,
    /// The caller has no value, and an enforced limit would refuse the call for that.
    pub is_refused: bool,
}
