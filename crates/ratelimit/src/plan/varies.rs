//! What makes calls of one tool differ to the limits, so that each is charged by a plan of its own.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Costs, RulePrice};
use crate::calendar::{Calendar, Period};
use crate::policy::{ClaimQuota, Lists, MissingClaim, Overrides, Quota};
use crate::table::UserKey;

/// What makes calls of one tool differ.
#[derive(Clone, Debug, Default)]
pub struct Varies {
    /// What a call costs by what it asks for: the largest counts.
    pub prices: SmallVec<[RulePrice; 1]>,
    /// What it turned out to cost: the largest counts.
    pub settlements: SmallVec<[RulePrice; 1]>,
    /// The claims that tell callers apart.
    pub claims: SmallVec<[NeededClaim; 1]>,
    /// The limits that have other sizes for some callers, in the order of the plan.
    pub overridden: SmallVec<[Overridden; 1]>,
    /// The percentages up to which limits are enforced, rising.
    pub percents: SmallVec<[u8; 2]>,
    /// How periods of quotas are counted, each once.
    pub calendars: SmallVec<[Arc<Calendar>; 1]>,
}

/// A limit that has other sizes for some callers.
#[derive(Clone, Debug)]
pub struct Overridden {
    /// The rule as the configuration names it.
    pub rule: Arc<str>,
    /// The sizes.
    pub overrides: Overrides,
    /// The place of the claim that it is kept for; `None` for a limit of each user.
    pub claim: Option<usize>,
}

impl Varies {
    /// The place of the claim that a limit is kept for.
    pub(super) fn need(&mut self, limit: &ClaimQuota) -> usize {
        let enforced_percent = limit.quota.enforced_percent();
        // Which value is allowed most depends on the limit.
        let largest_of = (limit.lists == Lists::Largest).then(|| limit.quota.clone());
        let is_this = |known: &NeededClaim| {
            (&known.claim, known.missing, known.lists) == (&limit.claim, limit.missing, limit.lists)
                && known.largest_of == largest_of
        };
        if let Some(place) = self.claims.iter().position(is_this) {
            let known = &mut self.claims[place];
            known.enforced_percent = known.enforced_percent.max(enforced_percent);
            return place;
        }
        let (claim, missing, lists) = (limit.claim.clone(), limit.missing, limit.lists);
        self.claims.push(NeededClaim { claim, missing, lists, largest_of, enforced_percent });
        self.claims.len() - 1
    }

    /// Notes a limit, if it has other sizes for some callers.
    pub(super) fn note_overrides(&mut self, quota: &Quota, claim: Option<usize>, rule: Arc<str>) {
        if !quota.overrides.is_empty() {
            self.overridden.push(Overridden { rule, overrides: quota.overrides.clone(), claim });
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
            && self.claims.is_empty()
            && self.percents.is_empty()
            && self.overridden.is_empty()
            && self.calendars.is_empty()
    }
}

/// A claim that limits are kept for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededClaim {
    /// Its name, or a path of names separated by dots.
    pub claim: Arc<str>,
    /// What happens to callers without it.
    pub missing: MissingClaim,
    /// Which values of a list count.
    pub lists: Lists,
    /// Of a list only the value that this limit allows most counts; `None` where all do.
    pub largest_of: Option<Quota>,
    /// For how many callers in a hundred that is so; for the others these limits are in shadow mode.
    pub enforced_percent: u8,
}

/// One call's part of what varies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Variation {
    /// What it costs at least, by the prices that look at it.
    pub costs: Costs,
    /// The caller's values of [`Varies::claims`], in their order; empty in a plan that is not for one caller.
    pub claims: SmallVec<[ClaimValues; 1]>,
    /// The places of the sizes that the caller has, of [`Varies::overridden`] in their order, one for each value of a claim;
    /// `None` for the size of all. Empty in a plan that is not for one caller.
    pub sizes: SmallVec<[Option<u16>; 2]>,
    /// Where the caller stands among a hundred, rounded down to one of [`Varies::percents`] or to zero.
    pub standing: u8,
    /// The present periods of [`Varies::calendars`]; empty in a plan that is not for one call.
    pub periods: SmallVec<[Period; 1]>,
}

/// The values of one claim: one, or several of a list, each once and in the order of their keys.
pub type ClaimValues = SmallVec<[ClaimValue; 1]>;

/// One value of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimValue {
    /// What keeps it apart in this process.
    pub key: UserKey,
    /// The same in a shared store, free of the value itself.
    pub digest: Arc<str>,
    /// The caller has no value, and a limit in force would refuse it for that.
    pub is_refused: bool,
}
