//! What one call costs: by the prices of rules in force, and by those of rules on trial, which count in their own buckets
//! alone.

use std::num::NonZeroU32;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::plan::policy::Price;

/// More tokens than any bucket holds: the price of what a rule on trial would refuse whatever is left.
pub(crate) const UNPAYABLE: NonZeroU32 = NonZeroU32::MAX;

/// A price of a rule, or what it settles for.
#[derive(Clone, Debug)]
pub struct RulePrice {
    /// The price.
    pub price: Arc<Price>,
    /// The place of its rule, if that is on trial: the price counts in the rule's own buckets alone.
    pub shadow_rule: Option<u32>,
}

/// What one call costs by the prices that look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Costs {
    /// By rules in force; `None` where they have no such price.
    pub enforced: Option<NonZeroU32>,
    /// By rules on trial, each by its place.
    pub by_shadow_rule: SmallVec<[(u32, NonZeroU32); 1]>,
}

impl Costs {
    /// What a bucket is charged that costs `least` without looking at the call.
    #[must_use]
    pub fn for_bucket(&self, trial: Option<u32>, least: NonZeroU32) -> NonZeroU32 {
        let own = self.by_shadow_rule.iter().filter(|(rule, _)| Some(*rule) == trial).map(|(_, cost)| *cost);
        own.chain(self.enforced).fold(least, NonZeroU32::max)
    }

    /// Adds what one price says.
    pub(crate) fn add(&mut self, trial: Option<u32>, cost: NonZeroU32) {
        match trial {
            None => self.enforced = self.enforced.max(Some(cost)),
            Some(rule) => self.by_shadow_rule.push((rule, cost)),
        }
    }
}

/// What a call turned out to cost more than was paid for it, in tokens; less than none where it cost less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    enforced: i64,
    by_shadow_rule: SmallVec<[(u32, i64); 1]>,
}

impl Settlement {
    /// For the buckets that rules in force price.
    pub(crate) fn new(tokens: i64) -> Self {
        Self { enforced: tokens, by_shadow_rule: SmallVec::new() }
    }

    /// For the buckets of a rule on trial.
    pub(crate) fn add_shadow_rule(&mut self, rule: u32, tokens: i64) {
        self.by_shadow_rule.push((rule, tokens));
    }

    /// What one bucket is owed.
    pub(crate) fn for_bucket(&self, trial: Option<u32>) -> i64 {
        let own = self.by_shadow_rule.iter().find(|(rule, _)| Some(*rule) == trial);
        own.map_or(self.enforced, |(_, tokens)| *tokens)
    }

    /// True when nothing is owed to any bucket.
    pub(crate) fn is_zero(&self) -> bool {
        self.enforced == 0 && self.by_shadow_rule.iter().all(|(_, tokens)| *tokens == 0)
    }

    /// True when tokens are given back that others may wait for.
    pub(crate) fn is_refund(&self) -> bool {
        self.enforced < 0
    }
}
