//! What limits are on: whose limits they are, what their buckets belong to, and what those are called in a shared store.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmcp_domain::{BackendToolName, LimitScope, Target};

use crate::plan::{ClaimValue, Rank};
use crate::policy::{Limits, Quota};

/// For whom a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Everybody,
    /// Everybody with the same value of a claim, by the place of the limit in its rule.
    Claim(usize),
    User,
}

/// What is being limited: the limits, where they stand, and what the buckets belong to.
pub(super) struct Subject<'a> {
    pub(super) limits: &'a Limits,
    pub(super) rule: Option<usize>,
    pub(super) name: String,
    pub(super) target: Option<Target<BackendToolName>>,
    pub(super) cost: NonZeroU32,
    /// The same for whoever calls: what is taken ahead must not depend on who does.
    pub(super) cost_max: NonZeroU32,
    /// The place of the rule, if it is on trial.
    pub(super) trial: Option<u32>,
    pub(super) scopes: Scopes,
}

/// The scopes of one rule's limits: for everybody, for each value of a claim, for each user.
pub(super) type Scopes = [LimitScope; 3];

impl Subject<'_> {
    pub(super) fn wait_max(&self) -> u64 {
        u64::try_from(self.limits.wait_max.as_micros()).unwrap_or(u64::MAX)
    }

    /// The bucket's name in a shared store. Parts that a backend or an operator chose are length-prefixed, so that no
    /// two buckets can come to the same name.
    pub(super) fn key(
        &self,
        window: usize,
        whose: Whose,
        claim: Option<(&str, Option<&ClaimValue>)>,
    ) -> Arc<str> {
        let mut key = format!("{}:{window}", self.stem(whose));
        if let Some((claim, value)) = claim {
            let value = value.map_or("", |value| &*value.digest);
            key.push_str(&format!(":{}:{claim}:{value}", claim.len()));
        }
        key.into()
    }

    /// The name of a bound on calls in flight. No bucket's begins like it.
    pub(super) fn slots_key(&self, whose: Whose) -> Arc<str> {
        format!("slots:{}", self.stem(whose)).into()
    }

    pub(super) fn stem(&self, whose: Whose) -> String {
        let mut key = String::from(match whose {
            Whose::Everybody => "shared",
            Whose::Claim(_) => "claim",
            Whose::User => "user",
        });
        if self.rule.is_some() {
            key.push_str(if whose == Whose::Everybody { ":tool" } else { "-tool" });
            for part in [&*self.name]
                .into_iter()
                .chain(self.target.iter().flat_map(|target| [target.backend.as_str(), target.name.as_str()]))
            {
                key.push_str(&format!(":{}:{part}", part.len()));
            }
        }
        key
    }

    pub(super) fn scope(&self, whose: Whose) -> LimitScope {
        let [all, claim, user] = self.scopes;
        match whose {
            Whose::Everybody => all,
            Whose::Claim(_) => claim,
            Whose::User => user,
        }
    }
}

/// One quota of a subject.
pub(super) struct Due<'a> {
    pub(super) whose: Whose,
    pub(super) quota: &'a Quota,
    pub(super) claim: Option<&'a str>,
    /// The caller's value of it, if somebody in particular asks.
    pub(super) value: Option<&'a ClaimValue>,
}

pub(super) fn rank(rule: Option<usize>, whose: Whose, window: usize) -> Rank {
    let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    let (phase, claim) = match whose {
        Whose::Everybody => (0, 0),
        Whose::Claim(place) => (1, place),
        Whose::User => (2, 0),
    };
    (phase, rule.map_or(0, |place| number(place + 1)), number(claim), number(window))
}

impl<'a> Due<'a> {
    pub(super) fn of_all(limits: &'a Limits) -> Option<Self> {
        let quota = limits.shared.as_ref()?;
        Some(Self { whose: Whose::Everybody, quota, claim: None, value: None })
    }

    pub(super) fn of_user(limits: &'a Limits) -> Option<Self> {
        let quota = limits.per_user.as_ref()?;
        Some(Self { whose: Whose::User, quota, claim: None, value: None })
    }
}
