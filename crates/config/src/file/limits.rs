//! The section `rateLimiting`: how often tools and other methods may be called, by which callers, and what
//! happens over the limit. Keys that ToolHive has, too, mean the same as there; the others are additions and
//! optional.

mod bucket;
mod methods;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AnswerForm, GoDuration};
pub(crate) use bucket::{
    CallQuota, ClaimLists, ClaimRateLimit, ClaimText, MissingClaimOutcome, NamedCallers, QuotaPeriod,
    RateLimitBucket, RateLimitOverride, RateLimitWindow, ReservedShare, ValueRateLimit,
};
pub(crate) use methods::{MethodRateLimit, MethodRateLimits};

/// Rate limits. A section without a limit (`shared`, `perUser`, `perClaim`, `perValue`, `tools`,
/// `byAnnotation`, `methods` or `concurrency`) is refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimiting {
    /// One bucket for the calls of all tools by all callers together. Left out: no limit.
    pub(crate) shared: Option<RateLimitBucket>,
    /// One bucket for each caller, for the calls of all tools. Left out: no limit.
    pub(crate) per_user: Option<RateLimitBucket>,
    /// Buckets for callers by the value of a claim, such as one for each team. Left out: none.
    #[serde(default)]
    pub(crate) per_claim: Vec<ClaimRateLimit>,
    /// Buckets for calls by the value of an argument or header, such as one for each repository. Left out:
    /// none.
    #[serde(default)]
    pub(crate) per_value: Vec<ValueRateLimit>,
    /// Rules for single tools, or for tools that match a name pattern; at most one rule for each name or
    /// pattern. Left out: none.
    #[serde(default)]
    pub(crate) tools: Vec<ToolRateLimit>,
    /// Rules for tools by their annotations, such as all tools that may destroy something. Left out: none.
    pub(crate) by_annotation: Option<AnnotationRateLimits>,
    /// Limits on requests that are not tool calls. Left out: none.
    pub(crate) methods: Option<MethodRateLimits>,
    /// How many calls may be in flight. Left out: no bound.
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// With Redis: for how long the calls in flight of a replica count without news of that replica, from
    /// `1s` to `5m` and at least eight times `redis.deadline`. Without effect, with a warning, with the
    /// memory store or without `concurrency`. Left out: `15s`, or eight times `redis.deadline` if that is
    /// longer.
    pub(crate) concurrency_lease: Option<GoDuration>,
    /// What rules without a `mode` do with a call over the limit: `enforce`, `shadow` or `off`. Left out:
    /// `enforce`.
    pub(crate) mode: Option<LimitMode>,
    /// How long a call waits for rules without a `maxWait` before it is refused: `0s`, or `1ms` to `1h`.
    /// Left out: `0s`, the call is refused at once.
    pub(crate) max_wait: Option<GoDuration>,
    /// How many calls may wait at the same time. Without effect, with a warning, without `maxWait`. Left out:
    /// the defaults of its keys.
    pub(crate) waiting: Option<LimitWaiting>,
    /// What limits per user do with callers that have no identity: `shared`, `address` or `refuse`. Required
    /// by limits per user if `incomingAuth` is anonymous. Left out: `refuse`.
    pub(crate) anonymous: Option<AnonymousUser>,
    /// Where buckets are kept: `memory` or `redis`. Left out: `redis` if `redis` is written or
    /// `sessionStorage.provider` is `redis`, else `memory`.
    pub(crate) store: Option<LimitStore>,
    /// Bounds of the memory store. Left out: the defaults of its keys.
    pub(crate) memory: Option<LimitMemory>,
    /// The Redis or Valkey server with the buckets that replicas share. Without effect, with a warning, with
    /// the memory store. Left out: the server of `sessionStorage`.
    pub(crate) redis: Option<LimitRedis>,
    /// Whether Redis decides on every call (`exact`), or replicas take tokens in advance (`lease`, `split`).
    /// Without effect, with a warning, with the memory store. Left out: `exact`.
    pub(crate) consistency: Option<LimitConsistency>,
    /// How replicas take tokens in advance. Without effect, with a warning, unless `consistency` is `lease`
    /// or `split`. Left out: the defaults of its keys.
    pub(crate) lease: Option<LimitLease>,
    /// What happens while Redis does not answer: `local`, `allow` or `deny`. Without effect, with a warning,
    /// with the memory store. Left out: `local`.
    pub(crate) on_store_failure: Option<StoreFailurePolicy>,
    /// The failures after which tokens are given back although the backend has read the request. Left out:
    /// none.
    #[serde(default)]
    pub(crate) refund_on: Vec<RefundFailure>,
    /// When results say how much of a limit is left. Left out: the defaults of its keys.
    pub(crate) hints: Option<LimitHints>,
    /// The form of the answer to a limited call. Left out: that of the key `answer` at the top.
    pub(crate) answer: Option<AnswerForm>,
    /// The error code of that answer. 0 and the codes that 2026-07-28 reserves are refused; -32029 is sent in
    /// sessions only, with a warning. Left out: 429.
    pub(crate) code: Option<i64>,
}

/// A failure after which tokens are given back. `busy`: the backend answered HTTP 429 or a redirect;
/// `unauthorized`: it refused the credential; `failed`: it failed to answer; `timedOut`: it did not answer in
/// time.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RefundFailure {
    Busy,
    Unauthorized,
    Failed,
    TimedOut,
}

/// How many tokens one call takes.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum CallCost {
    /// A fixed number of tokens.
    Tokens(u32),
    /// A CEL expression; its result is rounded up to whole tokens.
    Expression(String),
}

/// The limits of one tool, or of all tools that match a pattern. A rule without a limit, `cost` or `settle`
/// is refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ToolRateLimit {
    /// The advertised name of the tool, as clients see it. `*` matches any run of characters; no other
    /// character is special. A tool that has a prefix because several backends offer its name matches under
    /// that name too. An empty name, or one that another rule has, is refused.
    pub(crate) name: String,
    /// One bucket for all tools that match, instead of one for each. Without effect, with a warning, on a
    /// name without `*`. Left out: false.
    pub(crate) group: Option<bool>,
    /// One bucket for all callers together. Left out: no limit.
    pub(crate) shared: Option<RateLimitBucket>,
    /// One bucket for each caller. Left out: no limit.
    pub(crate) per_user: Option<RateLimitBucket>,
    /// Buckets for callers by the value of a claim, such as one for each team. Left out: none.
    #[serde(default)]
    pub(crate) per_claim: Vec<ClaimRateLimit>,
    /// Buckets for calls by the value of an argument or header, such as one for each repository. Left out:
    /// none.
    #[serde(default)]
    pub(crate) per_value: Vec<ValueRateLimit>,
    /// How many tokens one call takes from each bucket: a number, at least 1, or a CEL expression over
    /// `args`, `tool` and `claims`. A cost that one of its buckets can never hold is refused. Left out: 1.
    pub(crate) cost: Option<CallCost>,
    /// How many tokens the call turned out to cost: a CEL expression over `args`, `tool`, `claims`, `cost`
    /// (what was paid) and `result`, computed when the call has ended. The difference is charged or given
    /// back. Left out: the call keeps its `cost`.
    pub(crate) settle: Option<String>,
    /// The largest number of tokens that `settle` can charge for a call. Refused without `settle`. Left out:
    /// no bound.
    pub(crate) settle_max: Option<u32>,
    /// How many calls may be in flight. Left out: no bound.
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// What the rule does with a call over the limit: `enforce`, `shadow` or `off`. Left out:
    /// `rateLimiting.mode`.
    pub(crate) mode: Option<LimitMode>,
    /// How long a call waits for this rule before it is refused: `0s`, or `1ms` to `1h`. Left out:
    /// `rateLimiting.maxWait`.
    pub(crate) max_wait: Option<GoDuration>,
}

/// Limits on tools by their annotations, in addition to all other limits. A missing annotation has the
/// default of the specification: the tool writes, may destroy, and reaches beyond its server.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AnnotationRateLimits {
    /// Tools without `readOnlyHint: true`. Left out: no limit.
    pub(crate) writes: Option<AnnotationRateLimit>,
    /// Tools without `readOnlyHint: true` and without `destructiveHint: false`. Left out: no limit.
    pub(crate) destructive: Option<AnnotationRateLimit>,
    /// Tools without `openWorldHint: false`. Left out: no limit.
    pub(crate) open_world: Option<AnnotationRateLimit>,
}

/// The limits of the tools with these annotations. A rule without a limit, `cost` or `settle` is refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AnnotationRateLimit {
    /// One bucket for all of these tools, instead of one for each. Left out: false.
    pub(crate) group: Option<bool>,
    /// One bucket for all callers together. Left out: no limit.
    pub(crate) shared: Option<RateLimitBucket>,
    /// One bucket for each caller. Left out: no limit.
    pub(crate) per_user: Option<RateLimitBucket>,
    /// Buckets for callers by the value of a claim, such as one for each team. Left out: none.
    #[serde(default)]
    pub(crate) per_claim: Vec<ClaimRateLimit>,
    /// Buckets for calls by the value of an argument or header, such as one for each repository. Left out:
    /// none.
    #[serde(default)]
    pub(crate) per_value: Vec<ValueRateLimit>,
    /// How many tokens one call takes from each bucket: a number, at least 1, or a CEL expression over
    /// `args`, `tool` and `claims`. A cost that one of its buckets can never hold is refused. Left out: 1.
    pub(crate) cost: Option<CallCost>,
    /// How many tokens the call turned out to cost: a CEL expression over `args`, `tool`, `claims`, `cost`
    /// (what was paid) and `result`, computed when the call has ended. The difference is charged or given
    /// back. Left out: the call keeps its `cost`.
    pub(crate) settle: Option<String>,
    /// The largest number of tokens that `settle` can charge for a call. Refused without `settle`. Left out:
    /// no bound.
    pub(crate) settle_max: Option<u32>,
    /// How many calls may be in flight. Left out: no bound.
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// What the rule does with a call over the limit: `enforce`, `shadow` or `off`. Left out:
    /// `rateLimiting.mode`.
    pub(crate) mode: Option<LimitMode>,
    /// How long a call waits for this rule before it is refused: `0s`, or `1ms` to `1h`. Left out:
    /// `rateLimiting.maxWait`.
    pub(crate) max_wait: Option<GoDuration>,
}

/// How many calls may be in flight. One of `shared` and `perUser` is required.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConcurrencyLimit {
    /// The largest number of calls in flight of all callers together, at least 1. Left out: no bound.
    pub(crate) shared: Option<u32>,
    /// The largest number of calls in flight of one caller, at least 1. Left out: no bound.
    pub(crate) per_user: Option<u32>,
}

/// What a rule does with a call over the limit.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitMode {
    /// The call is refused.
    Enforce,
    /// The call passes; the rule counts and logs what it would have refused.
    Shadow,
    /// The rule is not applied.
    Off,
}

/// What limits per user do with callers that have no identity.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AnonymousUser {
    /// All callers without identity are one user.
    Shared,
    /// Each network address is a user.
    Address,
    /// Calls of tools that are limited per user are refused.
    Refuse,
}

/// Where buckets are kept.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitStore {
    Memory,
    Redis,
}

/// Bounds of the memory store.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitMemory {
    /// How many users are distinguished at the same time, at least 1. Left out: 1000000.
    pub(crate) max_users: Option<u64>,
    /// What happens to users beyond `maxUsers`: `share` or `refuse`. Left out: `share`.
    pub(crate) overflow: Option<UserOverflow>,
}

/// How many calls may wait at the same time. Calls beyond that are refused at once.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitWaiting {
    /// The largest number of waiting calls in one process, at least 1. Left out: 5000.
    pub(crate) max_calls: Option<u64>,
    /// The largest number of waiting calls of one user, at least 1. Left out: 100.
    pub(crate) max_per_user: Option<u64>,
}

/// What happens to users beyond `memory.maxUsers`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UserOverflow {
    /// They share one bucket.
    Share,
    /// Their calls are refused.
    Refuse,
}

/// A Redis or Valkey server, cluster or sentinel group. Two of `url`, `cluster` and `sentinels` are refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitRedis {
    /// The URL of a single server, such as `redis://host:6379/0`; `rediss://` for TLS. Left out: the address
    /// of `sessionStorage`.
    pub(crate) url: Option<String>,
    /// The URLs of some nodes of a cluster, at which discovery starts. Left out: no cluster.
    #[serde(default)]
    pub(crate) cluster: Vec<String>,
    /// The URLs of the sentinels that know the master. Left out: no sentinels.
    #[serde(default)]
    pub(crate) sentinels: Vec<String>,
    /// The name of the master. Required with `sentinels`.
    pub(crate) master: Option<String>,
    /// The user of the access control list (ACL). Left out: none.
    pub(crate) username: Option<String>,
    /// The name of the environment variable with the password. A variable that is not set is refused.
    /// Left out: `THV_SESSION_REDIS_PASSWORD`, if it is set.
    pub(crate) password_env: Option<String>,
    /// The file with the password; line breaks at its end are dropped. Refused together with `passwordEnv`,
    /// or if it cannot be read. Left out: none.
    pub(crate) password_file: Option<String>,
    /// A PEM file with certificate authorities that are trusted instead of those of the system. Refused if it
    /// cannot be read. Left out: the authorities of the system.
    pub(crate) ca_bundle_path: Option<String>,
    /// The prefix of every key. Left out: `thv:rl:`.
    pub(crate) key_prefix: Option<String>,
    /// The time-out of one decision by Redis; after it `onStoreFailure` decides. Zero is refused, more than
    /// 1s causes a warning. Left out: 50ms.
    pub(crate) deadline: Option<GoDuration>,
    /// The number of replicas that share the limits, at least 1. Left out: the replicas count each other in
    /// Redis.
    pub(crate) replicas: Option<u32>,
}

/// When and how callers learn how much of a limit is left.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitHints {
    /// The result of a call says in `_meta` what is left when a bucket holds less than this percentage of its
    /// capacity, 0 to 100; 0 for never. Left out: 20.
    pub(crate) below_percent: Option<u8>,
    /// Offers the resource `vmcp://limits`, which shows each caller what is left of its limits. Left out:
    /// false.
    pub(crate) resource: Option<bool>,
}

/// How exactly replicas share their buckets.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitConsistency {
    /// Redis decides on every call.
    Exact,
    /// Replicas take tokens of fast shared buckets in advance.
    Lease,
    /// Like `lease`; in addition the buckets of each user have a hash slot of their own in a Redis cluster.
    Split,
}

/// How replicas take tokens in advance.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitLease {
    /// For how long a replica may spend tokens that it has taken, from `20ms` to `10s`. Left out: `100ms`.
    pub(crate) duration: Option<GoDuration>,
    /// Makes a leased bucket smaller by what leases may add to a burst, so that no interval exceeds the
    /// limit. Left out: false.
    pub(crate) hold_back: Option<bool>,
}

/// What happens while Redis does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreFailurePolicy {
    /// Each replica enforces its share of every limit alone.
    Local,
    /// Calls pass without a limit.
    Allow,
    /// Limited calls are refused.
    Deny,
}
