//! The cost of one call. Prices of enforced rules count in every bucket; prices of rules in shadow mode count
//! in their own buckets only.

use std::num::NonZeroU32;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::plan::policy::Price;

/// More tokens than any bucket holds. It is the cost of a call that is refused at any level, so that it never
/// fits.
pub(crate) const UNPAYABLE: NonZeroU32 = NonZeroU32::MAX;

/// A price of a rule, charged before the call or settled after it.
#[derive(Clone, Debug)]
pub struct RulePrice {
    /// The price.
    pub price: Arc<Price>,
    /// The index of its rule, if that is in shadow mode; the price then counts in the rule's own buckets
    /// only.
    pub shadow_rule: Option<u32>,
}

/// The cost of one call by the prices that depend on its content, in tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Costs {
    /// The largest price of the enforced rules; `None` if they have no such price.
    pub enforced: Option<NonZeroU32>,
    /// The price of each rule in shadow mode, by the index of the rule.
    pub by_shadow_rule: SmallVec<[(u32, NonZeroU32); 1]>,
}

impl Costs {
    /// The cost in a bucket. `least` is the minimum cost, which does not depend on the content of the call.
    /// `shadow_rule` is the index of the bucket's rule, if that is in shadow mode.
    #[must_use]
    pub fn for_bucket(&self, shadow_rule: Option<u32>, least: NonZeroU32) -> NonZeroU32 {
        let own =
            self.by_shadow_rule.iter().filter(|(rule, _)| Some(*rule) == shadow_rule).map(|(_, cost)| *cost);
        own.chain(self.enforced).fold(least, NonZeroU32::max)
    }

    /// Adds one price.
    pub(crate) fn add(&mut self, shadow_rule: Option<u32>, cost: NonZeroU32) {
        match shadow_rule {
            None => self.enforced = self.enforced.max(Some(cost)),
            Some(rule) => self.by_shadow_rule.push((rule, cost)),
        }
    }
}

/// The difference between a call's final cost and what it paid, in tokens; negative if it cost less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    enforced: i64,
    by_shadow_rule: SmallVec<[(u32, i64); 1]>,
}

impl Settlement {
    /// A settlement for the buckets of enforced rules.
    pub(crate) fn new(tokens: i64) -> Self {
        Self { enforced: tokens, by_shadow_rule: SmallVec::new() }
    }

    /// Adds the settlement of a rule in shadow mode, which applies to its own buckets.
    pub(crate) fn add_shadow_rule(&mut self, rule: u32, tokens: i64) {
        self.by_shadow_rule.push((rule, tokens));
    }

    /// The tokens to charge to one bucket; negative for a refund.
    pub(crate) fn for_bucket(&self, shadow_rule: Option<u32>) -> i64 {
        let own = self.by_shadow_rule.iter().find(|(rule, _)| Some(*rule) == shadow_rule);
        own.map_or(self.enforced, |(_, tokens)| *tokens)
    }

    /// True if no bucket is charged or refunded.
    pub(crate) fn is_zero(&self) -> bool {
        self.enforced == 0 && self.by_shadow_rule.iter().all(|(_, tokens)| *tokens == 0)
    }

    /// True if enforced buckets are refunded, which other calls may be waiting for.
    pub(crate) fn is_refund(&self) -> bool {
        self.enforced < 0
    }
}
