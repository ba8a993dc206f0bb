//! `loopBreaker`: calls that repeat themselves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GoDuration;

/// When a call repeats itself: the same caller, tool, arguments and outcome, again and again.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoopBreaker {
    /// How often in a row a call may have the same outcome, at least 2. Left out: 5.
    pub(crate) repeats: Option<u32>,
    /// For how long the call is then not made. Left out: `1m`.
    pub(crate) within: Option<GoDuration>,
    /// The advertised tools that are watched; `*` stands for any run of characters. Left out: all but those with the
    /// annotation `readOnlyHint: false`.
    #[serde(default)]
    pub(crate) tools: Vec<String>,
}
