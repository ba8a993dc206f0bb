//! A change of limits by an operator.

use serde::Serialize;

/// The change that was made, as the record shows it.
#[derive(Serialize)]
pub struct LimitsChange<'a> {
    /// `reset`, `grant`, `block` or `unblock`.
    pub act: &'static str,
    /// The tool whose limits were changed.
    pub tool: &'a str,
    /// The issuer of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    /// The user whose limits were changed. `None` if the change applies to the limits that all callers share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// The number of tokens that were granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// How long the tool is blocked, in seconds. `None` if no duration was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}
