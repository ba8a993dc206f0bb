//! Token buckets: for all callers, for each, for each value of a claim, and in other sizes for some.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LimitMode;
use crate::config::file::GoDuration;

/// A token bucket, or several that must all have room.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimitBucket {
    /// How many calls it earns in a refillPeriod, at least 1; how many it holds when full, unless `burst` says otherwise.
    pub(crate) max_tokens: Option<u64>,
    /// In how long it earns `maxTokens`, as `1m0s` or `{duration: 1m0s}`.
    pub(crate) refill_period: Option<GoDuration>,
    /// How many calls it holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
    /// Further windows, as 10 a second and 500 a day.
    #[serde(default)]
    pub(crate) windows: Vec<RateLimitWindow>,
    /// A number of calls for each hour, day, week or month of the calendar, beside the buckets or alone.
    pub(crate) quota: Option<CallQuota>,
    /// Other sizes for some callers, in limits per user.
    #[serde(default)]
    pub(crate) overrides: Vec<RateLimitOverride>,
    /// A part of it that only some callers may use, in limits for all callers together.
    pub(crate) reserved: Option<ReservedShare>,
    /// What it does when it would refuse. Left out: the rule's mode.
    pub(crate) mode: Option<LimitMode>,
    /// For how many callers in a hundred it refuses, 1 to 100; for the others it only counts. Left out: for all.
    pub(crate) enforce_percent: Option<u8>,
}

/// A token bucket for each value of a claim.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClaimRateLimit {
    /// The claim, such as `team`, `azp` or, in an object, `realm_access.roles`.
    pub(crate) claim: String,
    /// What happens to callers without the claim. Left out: refuse.
    pub(crate) missing: Option<MissingClaimOutcome>,
    /// Which values of a list count. Left out: none, so a claim that is a list is missing.
    pub(crate) lists: Option<ClaimLists>,
    /// How many calls it earns in a refillPeriod, at least 1; how many it holds when full, unless `burst` says otherwise.
    pub(crate) max_tokens: Option<u64>,
    /// In how long it earns `maxTokens`, as `1m0s` or `{duration: 1m0s}`.
    pub(crate) refill_period: Option<GoDuration>,
    /// How many calls it holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
    /// Further windows, as 10 a second and 500 a day.
    #[serde(default)]
    pub(crate) windows: Vec<RateLimitWindow>,
    /// A number of calls for each hour, day, week or month of the calendar, beside the buckets or alone.
    pub(crate) quota: Option<CallQuota>,
    /// Other sizes for some values, each named by `value`.
    #[serde(default)]
    pub(crate) overrides: Vec<RateLimitOverride>,
    /// What it does when it would refuse. Left out: the rule's mode.
    pub(crate) mode: Option<LimitMode>,
    /// For how many callers in a hundred it refuses, 1 to 100; for the others it only counts. Left out: for all.
    pub(crate) enforce_percent: Option<u8>,
}

/// A part of a bucket that only some callers may use.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReservedShare {
    /// How many hundredths of the bucket, 1 to 99, rounded up to whole tokens.
    pub(crate) percent: u8,
    /// Who may use it.
    #[serde(rename = "for")]
    pub(crate) callers: Vec<NamedCallers>,
}

/// Callers, by one of these.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NamedCallers {
    /// The caller with this subject.
    pub(crate) subject: Option<String>,
    /// With `subject`: of this issuer alone.
    pub(crate) issuer: Option<String>,
    /// The caller with the API key of this name.
    pub(crate) api_key: Option<String>,
    /// Callers in this group, by the claims that policies look at.
    pub(crate) group: Option<String>,
    /// Callers whose claim has this `value`; the claim may lie in an object, as `realm_access.roles`, and be a list.
    pub(crate) claim: Option<String>,
    /// The value; `*` for any.
    pub(crate) value: Option<ClaimText>,
}

/// A token bucket for each value of an argument or header of a call: for each caller, or for all callers together where the
/// values are listed.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ValueRateLimit {
    /// The argument, such as `repository` or, in an object, `target.repository`.
    pub(crate) argument: Option<String>,
    /// The header, one of `passthroughHeaders`.
    pub(crate) header: Option<String>,
    /// The values that have a bucket for all callers together; all others share one. Left out: each caller has a bucket for
    /// each value.
    #[serde(default)]
    pub(crate) values: Vec<ClaimText>,
    /// Whether values that differ only in upper and lower case are one. Left out: false.
    pub(crate) ignore_case: Option<bool>,
    /// How many calls it earns in a refillPeriod, at least 1; how many it holds when full, unless `burst` says otherwise.
    pub(crate) max_tokens: Option<u64>,
    /// In how long it earns `maxTokens`, as `1m0s` or `{duration: 1m0s}`.
    pub(crate) refill_period: Option<GoDuration>,
    /// How many calls it holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
    /// Further windows, as 10 a second and 500 a day.
    #[serde(default)]
    pub(crate) windows: Vec<RateLimitWindow>,
    /// A number of calls for each hour, day, week or month of the calendar, beside the buckets or alone.
    pub(crate) quota: Option<CallQuota>,
    /// Other sizes for some values, each named by `value`.
    #[serde(default)]
    pub(crate) overrides: Vec<RateLimitOverride>,
    /// What it does when it would refuse. Left out: the rule's mode.
    pub(crate) mode: Option<LimitMode>,
    /// For how many callers in a hundred it refuses, 1 to 100; for the others it only counts. Left out: for all.
    pub(crate) enforce_percent: Option<u8>,
}

/// What happens to callers without a claim.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MissingClaimOutcome {
    /// They are refused.
    Refuse,
    /// All of them share one bucket.
    Shared,
}

/// Which values of a claim that is a list count.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClaimLists {
    /// Every value: a call is charged to the bucket of each.
    Each,
    /// The value that is allowed most.
    Largest,
}

/// One window of a bucket.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimitWindow {
    /// How many calls it earns in a refillPeriod, at least 1; how many it holds when full, unless `burst` says otherwise.
    pub(crate) max_tokens: u64,
    /// In how long it earns `maxTokens`.
    pub(crate) refill_period: GoDuration,
    /// How many calls it holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
}

/// So many calls in each period of the calendar. Nothing is earned in a period, and all of it is there again in the next.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CallQuota {
    /// How many calls, at least 1.
    pub(crate) calls: u64,
    /// Of which period.
    pub(crate) per: QuotaPeriod,
    /// Where periods are counted, by the IANA database, as `Europe/Berlin`. Left out: UTC.
    pub(crate) time_zone: Option<String>,
    /// When a period begins by the clock there, as `06:00`: of a day, of Monday, of the first of a month; of an hour only the
    /// minutes count. Left out: `00:00`.
    pub(crate) resets_at: Option<String>,
}

/// A period of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QuotaPeriod {
    Hour,
    Day,
    Week,
    Month,
}

/// Another size of a bucket for some callers. The one that names a caller most closely counts: a subject with its issuer, a
/// subject or API key, a group, the value of a claim, a claim, `*`. Of several groups or claims the first counts.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimitOverride {
    /// The caller with this subject; `*` for callers that no other override is for.
    pub(crate) subject: Option<String>,
    /// With `subject`: of this issuer alone.
    pub(crate) issuer: Option<String>,
    /// The caller with the API key of this name.
    pub(crate) api_key: Option<String>,
    /// Callers in this group, by the claims that policies look at.
    pub(crate) group: Option<String>,
    /// Callers whose claim has this `value`; the claim may lie in an object, as `realm_access.roles`, and be a list.
    pub(crate) claim: Option<String>,
    /// The value; `*` for any.
    pub(crate) value: Option<ClaimText>,
    /// How many calls it earns in a refillPeriod; 0 allows none.
    pub(crate) max_tokens: Option<u64>,
    /// In how long it earns `maxTokens`. Left out: as the bucket that is overridden.
    pub(crate) refill_period: Option<GoDuration>,
    /// How many calls it holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
    /// Windows in place of those of the bucket that is overridden.
    #[serde(default)]
    pub(crate) windows: Vec<RateLimitWindow>,
    /// A number of calls for each hour, day, week or month of the calendar, beside the buckets or alone.
    pub(crate) quota: Option<CallQuota>,
    /// Every call passes, and the bucket does not count.
    pub(crate) unlimited: Option<bool>,
}

/// The value of a claim.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ClaimText {
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A truth value.
    Truth(bool),
}

impl ClaimText {
    /// As tokens are compared: what they say, as text.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Whole(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
        }
    }
}
