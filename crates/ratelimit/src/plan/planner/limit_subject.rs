//! The subjects of limits: which limits apply, what their buckets belong to, and the keys of those buckets in
//! a shared store.

use std::num::NonZeroU32;
use std::sync::Arc;

use vmcp_domain::{BackendToolName, LimitScope, RoutingTarget};

use crate::plan::policy::{LimitSizeRef, Limits, Quota, ValueKind, ValueSource, Window};
use crate::plan::{BucketValue, LockRank};

/// The owner of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum BucketOwner {
    Everybody,
    /// All callers that have no reserved part of the limit.
    Unreserved,
    /// All callers with the same value of a claim, argument or header. The number is the index of the limit
    /// in its rule.
    Value(usize, ValueKind),
    User,
}

/// A set of limits, the rule that it belongs to, and what its buckets belong to.
pub(super) struct LimitSubject<'a> {
    pub(super) limits: &'a Limits,
    pub(super) rule: Option<usize>,
    pub(super) name: String,
    /// How many earlier rules have the same name. A configuration has no such rules; a policy that is built
    /// in another way may have them.
    pub(super) same_name_count: usize,
    pub(super) target: Option<RoutingTarget<BackendToolName>>,
    pub(super) cost: NonZeroU32,
    /// The largest cost for any caller: whether a bucket is leased must not depend on who calls.
    pub(super) cost_max: NonZeroU32,
    /// The index of the rule, if it is in shadow mode.
    pub(super) shadow_rule: Option<u32>,
    pub(super) scopes: Scopes,
}

/// The scopes of one rule's limits: of all callers, of each claim value, of each argument or header value,
/// and of each user.
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

    /// The bucket's key in a shared store, without a user or a value. It contains what the bucket counts, and
    /// its period. Parts that a backend or an operator chose are length-prefixed, so no two buckets have the
    /// same key.
    pub(super) fn bucket_key(&self, period: &str, owner: BucketOwner, of: Option<&ValueSource>) -> Arc<str> {
        let stem = self.key_stem(owner);
        match of.map(ValueSource::name) {
            None => format!("{stem}:{period}").into(),
            Some(name) => format!("{stem}:{period}:{}:{name}", name.len()).into(),
        }
    }

    /// The same limits as one subject for all tools that the rule matches.
    pub(super) fn for_all_tools(&self) -> Self {
        Self { name: self.name.clone(), target: None, ..*self }
    }

    /// The key of a slot limit. No key of a bucket has its prefix.
    pub(super) fn slot_limit_key(&self, owner: BucketOwner) -> Arc<str> {
        format!("slots:{}", self.key_stem(owner)).into()
    }

    pub(super) fn key_stem(&self, owner: BucketOwner) -> String {
        let mut key = String::from(match owner {
            BucketOwner::Everybody => "shared",
            BucketOwner::Unreserved => "unreserved",
            BucketOwner::Value(_, kind) => kind.key_stem(),
            BucketOwner::User => "user",
        });
        if self.rule.is_some() {
            key.push_str(if matches!(owner, BucketOwner::Everybody | BucketOwner::Unreserved) {
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

    pub(super) fn scope(&self, owner: BucketOwner) -> LimitScope {
        let [all, claim, value, user] = self.scopes;
        match owner {
            BucketOwner::Everybody | BucketOwner::Unreserved => all,
            BucketOwner::Value(_, ValueKind::Claim) => claim,
            BucketOwner::Value(..) => value,
            BucketOwner::User => user,
        }
    }
}

/// The period of a window in the key of its bucket. A quota has at most one window per period. If a policy
/// has more anyway, a number tells them apart.
pub(super) fn period_key_part(windows: &[Window], index: usize) -> String {
    let Some(window) = windows.get(index) else { return String::new() };
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
    match windows.iter().take(index).filter(is_namesake).count() {
        0 => name,
        earlier => format!("{name}.{earlier}"),
    }
}

/// The key of the bucket for one value.
pub(super) fn value_bucket_key(key: &Arc<str>, value: Option<&BucketValue>) -> Arc<str> {
    value.map_or_else(|| key.clone(), |value| format!("{key}:{}", value.digest).into())
}

/// One quota of a subject, for one caller.
#[derive(Clone, Copy)]
pub(super) struct CallerQuota<'a> {
    pub(super) owner: BucketOwner,
    pub(super) quota: &'a Quota,
    /// The claim, argument or header that the quota counts by.
    pub(super) value_source: Option<&'a ValueSource>,
    /// The call's value and its index among the values of the same claim, if the plan is for one call.
    pub(super) value: Option<(usize, &'a BucketValue)>,
    /// The index of the override that applies to the caller.
    pub(super) size_index: Option<u16>,
}

impl<'a> CallerQuota<'a> {
    pub(super) fn new(owner: BucketOwner, quota: &'a Quota) -> Self {
        Self { owner, quota, value_source: None, value: None, size_index: None }
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

    /// The windows that apply to the caller, and whether an override blocks the caller. A blocked caller has
    /// the common windows; an exempt caller has none.
    pub(super) fn windows(&self) -> (&'a [Window], bool) {
        match self.quota.overrides.size(self.size_index, &self.quota.windows) {
            LimitSizeRef::Windows(windows) => (windows, false),
            LimitSizeRef::Blocked => (&self.quota.windows, true),
            LimitSizeRef::Unlimited => (&[], false),
        }
    }
}

pub(super) fn lock_rank(rule: Option<usize>, owner: BucketOwner, window: usize) -> LockRank {
    let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let (phase, part) = match owner {
        BucketOwner::Everybody => (0, 0),
        BucketOwner::Unreserved => (0, 1),
        BucketOwner::Value(index, _) => (1, index),
        BucketOwner::User => (2, 0),
    };
    (phase, rule.map_or(0, |index| number(index + 1)), number(part), number(window))
}
