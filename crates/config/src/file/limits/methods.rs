//! The section `rateLimiting.methods`: limits on requests that are not tool calls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClaimRateLimit, ConcurrencyLimit, LimitMode, RateLimitBucket};
use crate::file::GoDuration;

/// Limits on requests that are not tool calls, by the name of the method. A method that is left out has no
/// limit.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MethodRateLimits {
    /// Requests for a page of the list of tools. Left out: no limit.
    #[serde(rename = "tools/list")]
    pub(crate) list_tools: Option<MethodRateLimit>,
    /// Requests for a page of the list of resources. Left out: no limit.
    #[serde(rename = "resources/list")]
    pub(crate) list_resources: Option<MethodRateLimit>,
    /// Requests for a page of the list of resource templates. Left out: no limit.
    #[serde(rename = "resources/templates/list")]
    pub(crate) list_templates: Option<MethodRateLimit>,
    /// Requests for a page of the list of prompts. Left out: no limit.
    #[serde(rename = "prompts/list")]
    pub(crate) list_prompts: Option<MethodRateLimit>,
    /// Reads of a resource. Left out: no limit.
    #[serde(rename = "resources/read")]
    pub(crate) read_resource: Option<MethodRateLimit>,
    /// Requests for a prompt. Left out: no limit.
    #[serde(rename = "prompts/get")]
    pub(crate) get_prompt: Option<MethodRateLimit>,
    /// Completions of an argument. Left out: no limit.
    #[serde(rename = "completion/complete")]
    pub(crate) complete: Option<MethodRateLimit>,
    /// Subscriptions to a resource, including the resources of a stream of `subscriptions/listen`. Left out:
    /// no limit.
    #[serde(rename = "resources/subscribe")]
    pub(crate) subscribe: Option<MethodRateLimit>,
    /// Streams of change notifications. Left out: no limit.
    #[serde(rename = "subscriptions/listen")]
    pub(crate) listen: Option<MethodRateLimit>,
}

/// The limits of one method. One without `shared`, `perUser`, `perClaim` and `concurrency` is refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MethodRateLimit {
    /// One bucket for all callers together. Left out: no limit.
    pub(crate) shared: Option<RateLimitBucket>,
    /// One bucket for each caller. Left out: no limit.
    pub(crate) per_user: Option<RateLimitBucket>,
    /// Buckets for callers by the value of a claim. Left out: none.
    #[serde(default)]
    pub(crate) per_claim: Vec<ClaimRateLimit>,
    /// How many requests may be in flight. Refused on `resources/subscribe` and `subscriptions/listen`,
    /// because what they start lasts longer than the request. Left out: no bound.
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// What the rule does with a request over the limit: `enforce`, `shadow` or `off`. Left out:
    /// `rateLimiting.mode`.
    pub(crate) mode: Option<LimitMode>,
    /// How long a request waits for this rule before it is refused: `0s`, or `1ms` to `1h`. Left out:
    /// `rateLimiting.maxWait`.
    pub(crate) max_wait: Option<GoDuration>,
}
