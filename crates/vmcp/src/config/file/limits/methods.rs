//! `rateLimiting.methods`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClaimRateLimit, ConcurrencyLimit, LimitMode, RateLimitBucket};
use crate::config::file::GoDuration;

/// Limits on requests that call no tool, by the names of methods. They are free where none is written.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MethodRateLimits {
    /// Pages of the list of tools.
    #[serde(rename = "tools/list")]
    pub(crate) list_tools: Option<MethodRateLimit>,
    /// Pages of the list of resources.
    #[serde(rename = "resources/list")]
    pub(crate) list_resources: Option<MethodRateLimit>,
    /// Pages of the list of resource templates.
    #[serde(rename = "resources/templates/list")]
    pub(crate) list_templates: Option<MethodRateLimit>,
    /// Pages of the list of prompts.
    #[serde(rename = "prompts/list")]
    pub(crate) list_prompts: Option<MethodRateLimit>,
    /// Resources that are read.
    #[serde(rename = "resources/read")]
    pub(crate) read_resource: Option<MethodRateLimit>,
    /// Prompts.
    #[serde(rename = "prompts/get")]
    pub(crate) get_prompt: Option<MethodRateLimit>,
    /// Completions of arguments.
    #[serde(rename = "completion/complete")]
    pub(crate) complete: Option<MethodRateLimit>,
    /// Resources that a client wants to hear of, also on streams of `subscriptions/listen`.
    #[serde(rename = "resources/subscribe")]
    pub(crate) subscribe: Option<MethodRateLimit>,
    /// Streams of changes.
    #[serde(rename = "subscriptions/listen")]
    pub(crate) listen: Option<MethodRateLimit>,
}

/// The buckets of one method.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MethodRateLimit {
    /// One bucket for all callers together.
    pub(crate) shared: Option<RateLimitBucket>,
    /// One bucket for each caller.
    pub(crate) per_user: Option<RateLimitBucket>,
    /// Buckets for callers by what their claims say.
    #[serde(default)]
    pub(crate) per_claim: Vec<ClaimRateLimit>,
    /// How many requests may be in work. Not for `resources/subscribe` and `subscriptions/listen`.
    pub(crate) concurrency: Option<ConcurrencyLimit>,
    /// What the rule does when it would refuse. Left out: the mode of all rules.
    pub(crate) mode: Option<LimitMode>,
    /// How long a request waits for this rule before it is refused. Left out: as long as for all rules.
    pub(crate) max_wait: Option<GoDuration>,
}
