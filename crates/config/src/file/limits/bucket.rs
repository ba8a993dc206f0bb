//! The keys of a token bucket: for all callers, for each caller, for each value of a claim, argument or
//! header, and in other sizes for some callers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LimitMode;
use crate::file::GoDuration;

/// A token bucket, or several windows of which each must have a token. Required: `maxTokens` with
/// `refillPeriod`, or `windows`, or `quota`.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimitBucket {
    /// How many tokens the bucket earns in `refillPeriod`, at least 1; a call takes one token, or its `cost`.
    /// Required with `refillPeriod` and `burst`; a rate that cannot be counted exactly is refused.
    pub(crate) max_tokens: Option<u64>,
    /// The period in which the bucket earns `maxTokens`, such as `1m0s` or `{duration: 1m0s}`. Required with
    /// `maxTokens`; zero is refused.
    pub(crate) refill_period: Option<GoDuration>,
    /// How many tokens the bucket holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
    /// Further windows, such as 10 a second and 500 a day; a call needs a token from each. Two windows with
    /// the same period are refused. Left out: none.
    #[serde(default)]
    pub(crate) windows: Vec<RateLimitWindow>,
    /// A number of calls for each hour, day, week or month of the calendar, in addition to the token buckets
    /// or alone. Left out: none.
    pub(crate) quota: Option<CallQuota>,
    /// Other sizes for some callers. Allowed in `perUser`, refused in `shared`. Left out: none.
    #[serde(default)]
    pub(crate) overrides: Vec<RateLimitOverride>,
    /// A part of the bucket that only some callers may use. Allowed in `shared`, refused in `perUser`.
    /// Left out: none.
    pub(crate) reserved: Option<ReservedShare>,
    /// What the bucket does with a call over the limit: `enforce`, `shadow` or `off`. Left out: the mode of
    /// the rule.
    pub(crate) mode: Option<LimitMode>,
    /// The percentage of callers for whom the bucket refuses calls, 1 to 100; for the others it only counts.
    /// Without effect, with a warning, in shadow mode. Left out: 100.
    pub(crate) enforce_percent: Option<u8>,
}

/// A token bucket for each value of a claim.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ClaimRateLimit {
    /// The name of the claim, such as `team` or `azp`. `realm_access.roles` names a claim inside an object.
    /// An empty name, or two limits for one claim, are refused.
    pub(crate) claim: String,
    /// What happens to callers without the claim: `refuse`, or `shared` for one bucket of all of them.
    /// Left out: `refuse`.
    pub(crate) missing: Option<MissingClaimOutcome>,
    /// What a claim that is a list counts as: `each` or `largest`. Left out: a claim that is a list counts as
    /// missing.
    pub(crate) lists: Option<ClaimLists>,
    /// How many tokens the bucket earns in `refillPeriod`, at least 1; a call takes one token, or its `cost`.
    /// Required with `refillPeriod` and `burst`; a rate that cannot be counted exactly is refused.
    pub(crate) max_tokens: Option<u64>,
    /// The period in which the bucket earns `maxTokens`, such as `1m0s` or `{duration: 1m0s}`. Required with
    /// `maxTokens`; zero is refused.
    pub(crate) refill_period: Option<GoDuration>,
    /// How many tokens the bucket holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
    /// Further windows, such as 10 a second and 500 a day; a call needs a token from each. Two windows with
    /// the same period are refused. Left out: none.
    #[serde(default)]
    pub(crate) windows: Vec<RateLimitWindow>,
    /// A number of calls for each hour, day, week or month of the calendar, in addition to the token buckets
    /// or alone. Left out: none.
    pub(crate) quota: Option<CallQuota>,
    /// Other sizes for single values, each named by `value`. Left out: none.
    #[serde(default)]
    pub(crate) overrides: Vec<RateLimitOverride>,
    /// What the bucket does with a call over the limit: `enforce`, `shadow` or `off`. Left out: the mode of
    /// the rule.
    pub(crate) mode: Option<LimitMode>,
    /// The percentage of callers for whom the bucket refuses calls, 1 to 100; for the others it only counts.
    /// Without effect, with a warning, in shadow mode. Left out: 100.
    pub(crate) enforce_percent: Option<u8>,
}

/// A part of a bucket that only some callers may use. The other callers have a bucket of their own for the
/// rest.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ReservedShare {
    /// The reserved part in percent, 1 to 99, rounded up to whole tokens.
    pub(crate) percent: u8,
    /// The callers that may use the reserved part. An empty list, or `subject: "*"`, is refused.
    #[serde(rename = "for")]
    pub(crate) callers: Vec<NamedCallers>,
}

/// Callers, named by exactly one of `subject`, `apiKey`, `group`, or `claim` with `value`.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NamedCallers {
    /// The caller with this subject.
    pub(crate) subject: Option<String>,
    /// The issuer of the caller with `subject`. Refused without `subject`. Left out: any issuer.
    pub(crate) issuer: Option<String>,
    /// The holder of the API key of this name, one of `incomingAuth.apiKeys`. Another name is refused.
    pub(crate) api_key: Option<String>,
    /// Callers in this group, by the claims that policies read. `*` is refused.
    pub(crate) group: Option<String>,
    /// A claim of the caller that has the value `value`. `realm_access.roles` names a claim inside an object;
    /// the claim may be a list.
    pub(crate) claim: Option<String>,
    /// The value of `claim`; `*` matches any value. Required with `claim`.
    pub(crate) value: Option<ClaimText>,
}

/// A token bucket for each value of an argument or header of a call: for each caller, or for all callers
/// together if `values` lists them. Exactly one of `argument` and `header` is required.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ValueRateLimit {
    /// The name of the argument, such as `repository`. `target.repository` names an argument inside an
    /// object. An empty name is refused.
    pub(crate) argument: Option<String>,
    /// The name of the header, one of `passthroughHeaders`. Another header is refused.
    pub(crate) header: Option<String>,
    /// The values that have a bucket for all callers together; all other values share one. Required if no
    /// caller has an identity. Left out: each caller has a bucket for each value.
    #[serde(default)]
    pub(crate) values: Vec<ClaimText>,
    /// Whether values that differ only in upper and lower case are the same. Left out: false.
    pub(crate) ignore_case: Option<bool>,
    /// How many tokens the bucket earns in `refillPeriod`, at least 1; a call takes one token, or its `cost`.
    /// Required with `refillPeriod` and `burst`; a rate that cannot be counted exactly is refused.
    pub(crate) max_tokens: Option<u64>,
    /// The period in which the bucket earns `maxTokens`, such as `1m0s` or `{duration: 1m0s}`. Required with
    /// `maxTokens`; zero is refused.
    pub(crate) refill_period: Option<GoDuration>,
    /// How many tokens the bucket holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
    /// Further windows, such as 10 a second and 500 a day; a call needs a token from each. Two windows with
    /// the same period are refused. Left out: none.
    #[serde(default)]
    pub(crate) windows: Vec<RateLimitWindow>,
    /// A number of calls for each hour, day, week or month of the calendar, in addition to the token buckets
    /// or alone. Left out: none.
    pub(crate) quota: Option<CallQuota>,
    /// Other sizes for single values, each named by `value`. Left out: none.
    #[serde(default)]
    pub(crate) overrides: Vec<RateLimitOverride>,
    /// What the bucket does with a call over the limit: `enforce`, `shadow` or `off`. Left out: the mode of
    /// the rule.
    pub(crate) mode: Option<LimitMode>,
    /// The percentage of callers for whom the bucket refuses calls, 1 to 100; for the others it only counts.
    /// Without effect, with a warning, in shadow mode. Left out: 100.
    pub(crate) enforce_percent: Option<u8>,
}

/// What happens to callers without a claim.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MissingClaimOutcome {
    /// Their calls are refused.
    Refuse,
    /// They share one bucket.
    Shared,
}

/// What a claim that is a list counts as.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClaimLists {
    /// Each value has its bucket, and a call is charged to all of them.
    Each,
    /// A call is charged to the bucket of the value that is allowed most.
    Largest,
}

/// One window of a bucket.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimitWindow {
    /// How many tokens the window earns in `refillPeriod`, at least 1; a call takes one token, or its `cost`.
    /// A rate that cannot be counted exactly is refused.
    pub(crate) max_tokens: u64,
    /// The period in which the window earns `maxTokens`. Zero is refused.
    pub(crate) refill_period: GoDuration,
    /// How many tokens the window holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
}

/// A number of calls in each period of the calendar. Nothing is earned within a period, and the next period
/// starts with the full number.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CallQuota {
    /// How many calls are allowed in one period, at least 1.
    pub(crate) calls: u64,
    /// The period: `hour`, `day`, `week` (from Monday) or `month`.
    pub(crate) per: QuotaPeriod,
    /// The time zone of the period, by its IANA name, such as `Europe/Berlin`. An unknown name is refused.
    /// Left out: UTC.
    pub(crate) time_zone: Option<String>,
    /// The local time at which a period begins, such as `06:00`: on each day, on Monday, or on the first of
    /// the month; of an hour only the minutes count. Left out: `00:00`.
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

/// Another size of a bucket for some callers, or for one value in `perClaim` and `perValue`. The override
/// that names a caller most closely counts: a subject with its issuer, a subject or API key, a group, the
/// value of a claim, any value of a claim, `*`. Of several groups or claims the first in the list counts; two
/// overrides for the same callers are refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimitOverride {
    /// The caller with this subject; `*` for callers that no other override names.
    pub(crate) subject: Option<String>,
    /// The issuer of the caller with `subject`. Refused without `subject`. Left out: any issuer.
    pub(crate) issuer: Option<String>,
    /// The holder of the API key of this name, one of `incomingAuth.apiKeys`. Another name is refused.
    pub(crate) api_key: Option<String>,
    /// Callers in this group, by the claims that policies read. `*` is refused.
    pub(crate) group: Option<String>,
    /// A claim of the caller that has the value `value`. `realm_access.roles` names a claim inside an object;
    /// the claim may be a list.
    pub(crate) claim: Option<String>,
    /// The value of `claim`; `*` matches any value. Required with `claim`, and in `perClaim` and `perValue`,
    /// where it names the value and `*` is every value without an override.
    pub(crate) value: Option<ClaimText>,
    /// How many tokens the bucket earns in `refillPeriod`; 0 refuses every call.
    pub(crate) max_tokens: Option<u64>,
    /// The period in which the bucket earns `maxTokens`. Left out: the period of the bucket that is
    /// overridden, if that has a single window.
    pub(crate) refill_period: Option<GoDuration>,
    /// How many tokens the bucket holds when full, at least 1. Left out: `maxTokens`.
    pub(crate) burst: Option<u64>,
    /// Further windows; they replace those of the bucket that is overridden. Left out: none.
    #[serde(default)]
    pub(crate) windows: Vec<RateLimitWindow>,
    /// A number of calls for each hour, day, week or month of the calendar; it replaces that of the bucket
    /// that is overridden. Left out: none.
    pub(crate) quota: Option<CallQuota>,
    /// Every call passes this bucket and is not counted. Refused together with a size. Left out: false.
    pub(crate) unlimited: Option<bool>,
}

/// The value of a claim, argument or header.
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
    /// The value as text, the form in which the values of tokens and calls are compared.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Whole(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
        }
    }
}
