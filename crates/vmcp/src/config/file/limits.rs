//! `rateLimiting`: how often tools may be called, by whom, and what happens then. The reference's keys mean what they
//! mean there; the others are ours and may be left out.

mod bucket;
mod methods;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;
pub(crate) use bucket::{
    CallQuota, ClaimLists, ClaimRateLimit, ClaimText, MissingClaimOutcome, NamedCallers, QuotaPeriod,
    RateLimitBucket, RateLimitOverride, RateLimitWindow, ReservedShare, ValueRateLimit,
};
pub(crate) use methods::{MethodRateLimit, MethodRateLimits};

/// How often tools may be called.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimiting {
    /// One bucket for all callers together.
    pub(crate) shared: Option<RateLimitBucket>,
    /// One bucket for each caller.
    pub(crate) per_user: Option<RateLimitBucket>,
    /// Buckets for callers by what their claims say, such as one for each team.
    #[serde(default)]
    pub(crate) per_claim: Vec<ClaimRateLimit>,
    /// Buckets for calls by what they say in an argument or header, such as one for each repository.
    #[serde(default)]
    pub(crate) per_value: Vec<ValueRateLimit>,
    /// Buckets of single tools.
    #[serde(default)]
    pub(crate) tools: Vec<ToolRateLimit>,
    /// Buckets of tools by what their annotations let one assume.
    pub(crate) by_annotation: Option<AnnotationRateLimits>,
    /// Limits on what clients ask besides calls of tools.
    pub(crate) methods: Option<MethodRateLimits>,
    /// How many calls may be in flight.
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// With Redis: for how long calls in flight count when nothing is heard of their replica any more, from `1s` to `5m`.
    /// Left out: `15s`.
    pub(crate) concurrency_lease: Option<GoDuration>,
    /// What every rule that does not say otherwise does when it would refuse. Left out: enforce.
    pub(crate) mode: Option<LimitMode>,
    /// How long a call waits for every rule that does not say otherwise before it is refused, at most `1h`. Left out or
    /// `0s`: it is refused at once.
    pub(crate) max_wait: Option<GoDuration>,
    /// How many calls may wait.
    pub(crate) waiting: Option<LimitWaiting>,
    /// What limits per user do with callers that have no identity. Left out: an error, if there are any.
    pub(crate) anonymous: Option<AnonymousUser>,
    /// Where buckets are kept. Left out: redis if sessionStorage is, else memory.
    pub(crate) store: Option<LimitStore>,
    /// The bounds of the memory store.
    pub(crate) memory: Option<LimitMemory>,
    /// The Redis or Valkey server. Left out: the one of sessionStorage.
    pub(crate) redis: Option<LimitRedis>,
    /// Whether Redis decides about every call, or replicas take tokens ahead. Left out: exact.
    pub(crate) consistency: Option<LimitConsistency>,
    /// How tokens are taken ahead.
    pub(crate) lease: Option<LimitLease>,
    /// What happens while Redis does not answer. Left out: local.
    pub(crate) on_store_failure: Option<StoreFailurePolicy>,
    /// For which failures tokens are given back although the backend has read the request. Left out: none.
    #[serde(default)]
    pub(crate) refund_on: Vec<RefundFailure>,
    /// When callers are told how much is left.
    pub(crate) hints: Option<LimitHints>,
    /// How a limited call is answered. Left out: auto.
    pub(crate) answer: Option<LimitAnswerShape>,
    /// The code of that answer. Left out: 429.
    pub(crate) code: Option<i64>,
}

/// A failure for which tokens may be given back. `busy`: it asked to be called less (HTTP 429), or redirected. `unauthorized`: it
/// refused the credential. `failed`: it failed to answer. `timedOut`: it did not answer in time.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum RefundFailure {
    Busy,
    Unauthorized,
    Failed,
    TimedOut,
}

/// What one call costs.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum CallCost {
    /// So many tokens.
    Tokens(u32),
    /// What a CEL expression comes to.
    Expression(String),
}

/// The buckets of one tool, or of all that fit a pattern.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ToolRateLimit {
    /// The tool's advertised name; `*` stands for any run of characters.
    pub(crate) name: String,
    /// One bucket for all tools that fit, in place of one for each.
    pub(crate) group: Option<bool>,
    /// One bucket for all callers together.
    pub(crate) shared: Option<RateLimitBucket>,
    /// One bucket for each caller.
    pub(crate) per_user: Option<RateLimitBucket>,
    /// Buckets for callers by what their claims say, such as one for each team.
    #[serde(default)]
    pub(crate) per_claim: Vec<ClaimRateLimit>,
    /// Buckets for calls by what they say in an argument or header, such as one for each repository.
    #[serde(default)]
    pub(crate) per_value: Vec<ValueRateLimit>,
    /// How many tokens one call costs in every bucket: a number, or a CEL expression over `args` and `tool`. Left out: 1.
    pub(crate) cost: Option<CallCost>,
    /// How many tokens it turned out to cost: a CEL expression over `args`, `tool`, `cost` (what was paid) and `result`. The
    /// difference is charged or given back when the call has ended.
    pub(crate) settle: Option<String>,
    /// The most tokens that a call may turn out to cost by `settle`.
    pub(crate) settle_max: Option<u32>,
    /// How many calls may be in flight.
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// What the rule does when it would refuse. Left out: the mode of all rules.
    pub(crate) mode: Option<LimitMode>,
    /// How long a call waits for this rule before it is refused. Left out: as long as for all rules.
    pub(crate) max_wait: Option<GoDuration>,
}

/// Limits on tools by what their annotations let one assume, in addition to all others. What a tool does not say is assumed
/// as the specification has it: that it writes, may destroy and reaches beyond its server.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AnnotationRateLimits {
    /// Tools without `readOnlyHint: true`.
    pub(crate) writes: Option<AnnotationRateLimit>,
    /// Tools without `readOnlyHint: true` and without `destructiveHint: false`.
    pub(crate) destructive: Option<AnnotationRateLimit>,
    /// Tools without `openWorldHint: false`.
    pub(crate) open_world: Option<AnnotationRateLimit>,
}

/// The buckets of each of these tools.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AnnotationRateLimit {
    /// One bucket for all of these tools, in place of one for each.
    pub(crate) group: Option<bool>,
    /// One bucket for all callers together.
    pub(crate) shared: Option<RateLimitBucket>,
    /// One bucket for each caller.
    pub(crate) per_user: Option<RateLimitBucket>,
    /// Buckets for callers by what their claims say, such as one for each team.
    #[serde(default)]
    pub(crate) per_claim: Vec<ClaimRateLimit>,
    /// Buckets for calls by what they say in an argument or header, such as one for each repository.
    #[serde(default)]
    pub(crate) per_value: Vec<ValueRateLimit>,
    /// How many tokens one call costs in every bucket: a number, or a CEL expression over `args` and `tool`. Left out: 1.
    pub(crate) cost: Option<CallCost>,
    /// How many tokens it turned out to cost: a CEL expression over `args`, `tool`, `cost` (what was paid) and `result`. The
    /// difference is charged or given back when the call has ended.
    pub(crate) settle: Option<String>,
    /// The most tokens that a call may turn out to cost by `settle`.
    pub(crate) settle_max: Option<u32>,
    /// How many calls may be in flight.
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// What the rule does when it would refuse. Left out: the mode of all rules.
    pub(crate) mode: Option<LimitMode>,
    /// How long a call waits for this rule before it is refused. Left out: as long as for all rules.
    pub(crate) max_wait: Option<GoDuration>,
}

/// How many calls may be in flight.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConcurrencyLimit {
    /// For all callers together.
    pub(crate) shared: Option<u32>,
    /// For each caller.
    pub(crate) per_user: Option<u32>,
}

/// What a rule does when it would refuse.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitMode {
    /// It refuses.
    Enforce,
    /// It counts and logs, and lets the call pass.
    Shadow,
    /// Nothing.
    Off,
}

/// What limits per user do with callers that have no identity.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AnonymousUser {
    /// All of them are one user.
    Shared,
    /// Each network address is a user.
    Address,
    /// They are refused.
    Refuse,
}

/// Where buckets are kept.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitStore {
    Memory,
    Redis,
}

/// The bounds of the memory store.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitMemory {
    /// How many users are told apart at once. Left out: 1000000.
    pub(crate) max_users: Option<u64>,
    /// What happens to users beyond that. Left out: share.
    pub(crate) overflow: Option<UserOverflow>,
}

/// How many calls may wait at once. Beyond that they are refused.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitWaiting {
    /// All calls together. Left out: 5000.
    pub(crate) max_calls: Option<u64>,
    /// The calls of one user. Left out: 100.
    pub(crate) max_per_user: Option<u64>,
}

/// What happens to users beyond the bound.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UserOverflow {
    /// They share one bucket.
    Share,
    /// They are refused.
    Refuse,
}

/// A Redis or Valkey server, cluster or sentinel group.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitRedis {
    /// The server, as `redis://host:6379/0`; `rediss://` for TLS.
    pub(crate) url: Option<String>,
    /// Nodes of a cluster to begin with.
    #[serde(default)]
    pub(crate) cluster: Vec<String>,
    /// Sentinels to ask for the master.
    #[serde(default)]
    pub(crate) sentinels: Vec<String>,
    /// The master's name, with `sentinels`.
    pub(crate) master: Option<String>,
    /// The user of an access control list.
    pub(crate) username: Option<String>,
    /// The variable that holds the password. Left out: THV_SESSION_REDIS_PASSWORD, if it is set.
    pub(crate) password_env: Option<String>,
    /// The file that holds the password.
    pub(crate) password_file: Option<String>,
    /// A PEM file of authorities trusted in place of the system's.
    pub(crate) ca_bundle_path: Option<String>,
    /// What every key begins with. Left out: thv:rl:
    pub(crate) key_prefix: Option<String>,
    /// How long one decision may take. Left out: 50ms.
    pub(crate) deadline: Option<GoDuration>,
    /// How many replicas share the limits. Left out: they count each other.
    pub(crate) replicas: Option<u32>,
}

/// When and how callers are told how much is left.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitHints {
    /// The result of a call says so in `_meta` when a bucket holds less than so many hundredths of its capacity, 0 to 100; 0
    /// for never. Left out: 20.
    pub(crate) below_percent: Option<u8>,
    /// Offers the resource `vmcp://limits`, which tells each caller what is left. Left out: false.
    pub(crate) resource: Option<bool>,
}

/// How exactly replicas share their buckets.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitConsistency {
    /// Redis decides about every call.
    Exact,
    /// Replicas take tokens of fast shared buckets ahead.
    Lease,
    /// The same, and the buckets of each user have a place of their own in a Redis cluster.
    Split,
}

/// How tokens are taken ahead.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitLease {
    /// How long a replica may spend what it has taken, from `20ms` to `10s`. Left out: `100ms`.
    pub(crate) duration: Option<GoDuration>,
    /// Takes what leases may add to a burst off the bucket, so that no window exceeds the limit. Left out: false.
    pub(crate) hold_back: Option<bool>,
}

/// What happens while the shared store does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreFailurePolicy {
    /// Each replica enforces its share of every limit by itself.
    Local,
    /// Calls pass.
    Allow,
    /// Calls are refused.
    Deny,
}

/// How a limited call is answered.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LimitAnswerShape {
    /// As the reference: a failed tool result in the session era, a JSON-RPC error in 2026-07-28.
    Auto,
    /// A failed tool result.
    ToolError,
    /// A JSON-RPC error.
    JsonRpcError,
    /// HTTP 429 with `Retry-After`.
    Http429,
}
