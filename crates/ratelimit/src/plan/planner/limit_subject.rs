//! What limits are on: whose limits they are, what their buckets belong to, and what those are called in a shared store.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmcp_domain::{BackendToolName, LimitScope, RoutingTarget};

use crate::plan::policy::{LimitSizeRef, Limits, Quota, ValueKind, ValueSource, Window};
use crate::plan::{BucketValue, LockRank};

/// For whom a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum BucketOwner {
    Everybody,
    /// Everybody for whom nothing is reserved.
    Unreserved,
    /// Everybody with the same value of something, by the place of the limit in its rule.
    Value(usize, ValueKind),
    User,
}

/// What is being limited: the limits, where they stand, and what the buckets belong to.
pub(super) struct LimitSubject<'a> {
    pub(super) limits: &'a Limits,
    pub(super) rule: Option<usize>,
    pub(super) name: String,
    /// How many earlier rules have the same name. A configuration has none such; policies that are made otherwise may.
    pub(super) same_name_count: usize,
    pub(super) target: Option<RoutingTarget<BackendToolName>>,
    pub(super) cost: NonZeroU32,
    /// The same for whoever calls: what is taken ahead must not depend on who does.
    pub(super) cost_max: NonZeroU32,
    /// The place of the rule, if it is on trial.
    pub(super) shadow_rule: Option<u32>,
    pub(super) scopes: Scopes,
}

/// The scopes of one rule's limits: for everybody, for each value of a claim, for each value of a part of a call, for each
/// user.
pub(super) type Scopes = [LimitScope; 4];

/// The scopes of limits on all tools, or on a method.
pub(super) const SERVER_SCOPES: Scopes =
    [LimitScope::Server, LimitScope::Claim, LimitScope::Value, LimitScope::User];
/// The scopes of limits on one tool or one group of tools.
pub(super) const TOOL_SCOPES: Scopes =
    [LimitScope::Tool, LimitScope::ClaimTool, LimitScope::ValueTool, LimitScope::UserTool];

impl LimitSubject<'_> {
    pub(super) fn wait_max(&self) -> u64 {
        u64::try_from(self.limits.wait_max.as_micros()).unwrap_or(u64::MAX)
    }

    /// The bucket's name in a shared store, without a user or a value: what it counts, and in which period. Parts that a
    /// backend or an operator chose are length-prefixed, so that no two buckets can come to the same name.
    pub(super) fn bucket_key(&self, period: &str, whose: BucketOwner, of: Option<&ValueSource>) -> Arc<str> {
        let stem = self.key_stem(whose);
        match of.map(ValueSource::name) {
            None => format!("{stem}:{period}").into(),
            Some(name) => format!("{stem}:{period}:{}:{name}", name.len()).into(),
        }
    }

    /// The same limits on all tools that the rule fits together.
    pub(super) fn for_all_tools(&self) -> Self {
        Self { name: self.name.clone(), target: None, ..*self }
    }

    /// The name of a bound on calls in flight. No bucket's begins like it.
    pub(super) fn slot_limit_key(&self, whose: BucketOwner) -> Arc<str> {
        format!("slots:{}", self.key_stem(whose)).into()
    }

    pub(super) fn key_stem(&self, whose: BucketOwner) -> String {
        let mut key = String::from(match whose {
            BucketOwner::Everybody => "shared",
            BucketOwner::Unreserved => "unreserved",
            BucketOwner::Value(_, kind) => kind.key_stem(),
            BucketOwner::User => "user",
        });
        if self.rule.is_some() {
            key.push_str(if matches!(whose, BucketOwner::Everybody | BucketOwner::Unreserved) {
                ":tool"
            } else {
                "-tool"
            });
            let name = match self.same_name_count {
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

    pub(super) fn scope(&self, whose: BucketOwner) -> LimitScope {
        let [all, claim, value, user] = self.scopes;
        match whose {
            BucketOwner::Everybody | BucketOwner::Unreserved => all,
            BucketOwner::Value(_, ValueKind::Claim) => claim,
            BucketOwner::Value(..) => value,
            BucketOwner::User => user,
        }
    }
}

/// The period of a window in the name of its bucket. A quota has one window of a period: if it has more all the same, they
/// are told apart.
pub(super) fn period_key_part(windows: &[Window], place: usize) -> String {
    let Some(window) = windows.get(place) else { return String::new() };
    if let Some(calendar) = &window.calendar {
        return calendar.key_part();
    }
    let own = window.rate.configured().1;
    let name = match own.as_micros() {
        micros if micros % 1_000_000 == 0 => format!("{}s", micros / 1_000_000),
        micros if micros % 1_000 == 0 => format!("{}ms", micros / 1_000),
        micros => format!("{micros}us"),
    };
    let is_namesake = |window: &&Window| window.calendar.is_none() && window.rate.configured().1 == own;
    match windows.iter().take(place).filter(is_namesake).count() {
        0 => name,
        earlier => format!("{name}.{earlier}"),
    }
}

/// The name of the bucket for one value.
pub(super) fn value_bucket_key(key: &Arc<str>, value: Option<&BucketValue>) -> Arc<str> {
    value.map_or_else(|| key.clone(), |value| format!("{key}:{}", value.digest).into())
}

/// One quota of a subject, for one caller.
#[derive(Clone, Copy)]
pub(super) struct CallerQuota<'a> {
    pub(super) owner: BucketOwner,
    pub(super) quota: &'a Quota,
    /// Of what each value has a bucket.
    pub(super) value_source: Option<&'a ValueSource>,
    /// The call's value and its place among the values of the same claim, if the plan is for one call.
    pub(super) value: Option<(usize, &'a BucketValue)>,
    /// The place of the override that is for the caller.
    pub(super) size_index: Option<u16>,
}

impl<'a> CallerQuota<'a> {
    pub(super) fn new(whose: BucketOwner, quota: &'a Quota) -> Self {
        Self { owner: whose, quota, value_source: None, value: None, size_index: None }
    }

    /// The rule as the configuration names it.
    pub(super) fn rule(&self, subject: &LimitSubject<'_>) -> Arc<str> {
        let name = &subject.name;
        match self.owner {
            BucketOwner::Everybody => format!("{name}shared"),
            BucketOwner::Unreserved => format!("{name}shared.unreserved"),
            BucketOwner::Value(..) => {
                format!("{name}{}", self.value_source.map(ValueSource::config_path).unwrap_or_default())
            }
            BucketOwner::User => format!("{name}perUser"),
        }
        .into()
    }

    /// The windows that count for the caller, and whether they are those of a limit that allows the caller nothing.
    pub(super) fn windows(&self) -> (&'a [Window], bool) {
        match self.quota.overrides.size(self.size_index, &self.quota.windows) {
            LimitSizeRef::Windows(windows) => (windows, false),
            LimitSizeRef::Blocked => (&self.quota.windows, true),
            LimitSizeRef::Unlimited => (&[], false),
        }
    }
}

pub(super) fn lock_rank(rule: Option<usize>, whose: BucketOwner, window: usize) -> LockRank {
    let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    let (phase, part) = match whose {
        BucketOwner::Everybody => (0, 0),
        BucketOwner::Unreserved => (0, 1),
        BucketOwner::Value(place, _) => (1, place),
        BucketOwner::User => (2, 0),
    };
    (phase, rule.map_or(0, |place| number(place + 1)), number(part), number(window))
}
