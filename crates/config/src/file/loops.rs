//! The section `loopBreaker`: calls that keep having the same outcome.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;

/// When a call counts as a loop: the same caller, tool, arguments and outcome, several times in a row.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoopBreaker {
    /// How many times in a row a call may have the same outcome, at least 2. The next call is not made and
    /// gets a failed tool result. Left out: 5.
    pub(crate) repeats: Option<u32>,
    /// For how long the call is not made after that. Zero is refused. Left out: `1m`.
    pub(crate) within: Option<GoDuration>,
    /// The names of the advertised tools that are watched. `*` matches any run of characters; an empty name
    /// is refused. Left out: all tools except those with the annotation `readOnlyHint: false`.
    #[serde(default)]
    pub(crate) tools: Vec<String>,
}
