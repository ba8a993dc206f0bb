//! What limits are on: whose limits they are, what their buckets belong to, and what those are called in a shared store.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmcp_domain::{BackendToolName, LimitScope, Target};

use crate::plan::{ClaimValue, Rank};
use crate::policy::{Limits, Quota, SizeRef, Window};

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
    /// How many earlier rules have the same name. A configuration has none such; policies that are made otherwise may.
    pub(super) namesakes: usize,
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

    /// The bucket's name in a shared store, without a user or a value of the claim: what it counts, and in which period.
    /// Parts that a backend or an operator chose are length-prefixed, so that no two buckets can come to the same name.
    pub(super) fn key(&self, period: &str, whose: Whose, claim: Option<&str>) -> Arc<str> {
        let stem = self.stem(whose);
        match claim {
            None => format!("{stem}:{period}").into(),
            Some(claim) => format!("{stem}:{period}:{}:{claim}", claim.len()).into(),
        }
    }

    /// The same limits on all tools that the rule fits together.
    pub(super) fn of_all_tools(&self) -> Self {
        Self { name: self.name.clone(), target: None, ..*self }
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
            let name = match self.namesakes {
                0 => self.name.clone(),
                earlier => format!("{}{earlier}", self.name),
            };
            for part in [&*name]
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

/// The period of a window in the name of its bucket. A quota has one window of a period: if it has more all the same, they
/// are told apart.
pub(super) fn period_name(windows: &[Window], place: usize) -> String {
    let Some(window) = windows.get(place) else { return String::new() };
    if let Some(calendar) = &window.calendar {
        return calendar.name();
    }
    let own = window.rate.asked().1;
    let name = match own.as_micros() {
        micros if micros % 1_000_000 == 0 => format!("{}s", micros / 1_000_000),
        micros if micros % 1_000 == 0 => format!("{}ms", micros / 1_000),
        micros => format!("{micros}us"),
    };
    let is_namesake = |window: &&Window| window.calendar.is_none() && window.rate.asked().1 == own;
    match windows.iter().take(place).filter(is_namesake).count() {
        0 => name,
        earlier => format!("{name}.{earlier}"),
    }
}

/// The name of the bucket for one value of a claim.
pub(super) fn of_value(key: &Arc<str>, value: Option<&ClaimValue>) -> Arc<str> {
    value.map_or_else(|| key.clone(), |value| format!("{key}:{}", value.digest).into())
}

/// One quota of a subject, for one caller.
#[derive(Clone, Copy)]
pub(super) struct Due<'a> {
    pub(super) whose: Whose,
    pub(super) quota: &'a Quota,
    pub(super) claim: Option<&'a str>,
    /// The caller's value of the claim and its place among the caller's values, if the plan is for one caller.
    pub(super) value: Option<(usize, &'a ClaimValue)>,
    /// The place of the override that is for the caller.
    pub(super) size: Option<u16>,
}

impl<'a> Due<'a> {
    pub(super) fn new(whose: Whose, quota: &'a Quota) -> Self {
        Self { whose, quota, claim: None, value: None, size: None }
    }

    /// The rule as the configuration names it.
    pub(super) fn rule(&self, subject: &Subject<'_>) -> Arc<str> {
        let name = &subject.name;
        match self.whose {
            Whose::Everybody => format!("{name}shared"),
            Whose::Claim(_) => format!("{name}perClaim[{}]", self.claim.unwrap_or_default()),
            Whose::User => format!("{name}perUser"),
        }
        .into()
    }

    /// The windows that count for the caller, and whether they are those of a limit that allows the caller nothing.
    pub(super) fn windows(&self) -> (&'a [Window], bool) {
        match self.quota.overrides.size(self.size, &self.quota.windows) {
            SizeRef::Windows(windows) => (windows, false),
            SizeRef::Blocked => (&self.quota.windows, true),
            SizeRef::Unlimited => (&[], false),
        }
    }
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
