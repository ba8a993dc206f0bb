//! The result of `find_tool`: tools, what speaks against using one now, and what was saved by not listing them all.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use vmcp_domain::{Json, Prospect, RateLimit, Reply, Retry};
use vmcp_wire::{offer, reply};

use crate::optimizer::{Finding, Findings};
use crate::policy::Schemas;

/// How many bytes of JSON are taken for one token, as in the reference.
const TOKEN_BYTES: usize = 4;
/// A limit that gives way later than this is a quota that is used up rather than a brake.
const THROTTLED_MAX: Duration = Duration::from_secs(60 * 60);

/// What the list would have cost and what the result costs, in tokens of four bytes of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TokenMetrics {
    /// The whole list.
    pub baseline_tokens: usize,
    /// The tools returned.
    pub returned_tokens: usize,
    /// What is saved, in percent of the whole list; below zero when the result is the longer one.
    pub savings_percent: f64,
}

impl TokenMetrics {
    /// What `returned_bytes` of a list of `list_bytes` come to.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no list has 2^52 tokens")]
    pub fn of(list_bytes: usize, returned_bytes: usize) -> Self {
        let (baseline_tokens, returned_tokens) = (list_bytes / TOKEN_BYTES, returned_bytes / TOKEN_BYTES);
        let part =
            if baseline_tokens == 0 { 0.0 } else { 1.0 - returned_tokens as f64 / baseline_tokens as f64 };
        Self { baseline_tokens, returned_tokens, savings_percent: (part * 10_000.0).round() / 100.0 }
    }
}

#[derive(Serialize)]
struct Found<'a> {
    tools: Vec<&'a RawValue>,
    token_metrics: TokenMetrics,
}

#[derive(Serialize)]
struct Availability {
    state: &'static str,
    #[serde(rename = "retryAfterSeconds", skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    message: String,
}

/// Writes the result.
pub(crate) fn write(
    found: &Findings,
    schemas: Schemas,
) -> Result<(Reply, TokenMetrics), vmcp_domain::JsonError> {
    let tools: Vec<Json> = found.tools.iter().map(|one| entry(one, schemas)).collect::<Result<_, _>>()?;
    let returned = tools.iter().map(|tool| tool.as_str().len()).sum();
    let token_metrics = TokenMetrics::of(found.list_bytes, returned);
    let raw: Vec<&RawValue> = tools.iter().map(Json::decode::<&RawValue>).collect::<Result<_, _>>()?;
    let whole = Json::encode(&Found { tools: raw, token_metrics })?;
    Ok((reply::structured(whole), token_metrics))
}

fn entry(finding: &Finding, schemas: Schemas) -> Result<Json, vmcp_domain::JsonError> {
    let written = match schemas {
        Schemas::Full => offer::tool(&finding.tool),
        Schemas::Compact => offer::compact_tool(&finding.tool),
    };
    let availability = match &finding.prospect {
        Prospect::Usable => return Ok(written),
        Prospect::Unavailable => Availability {
            state: "unavailable",
            retry_after_seconds: None,
            message: "the server of this tool cannot be reached now".to_owned(),
        },
        Prospect::Limited(limit) => limited(limit),
    };
    let mut members = written.members()?;
    members.set("availability", Json::encode(&availability)?);
    Ok(members.to_json())
}

fn limited(limit: &RateLimit) -> Availability {
    let used_up = match limit.retry {
        Retry::After(wait) => wait > THROTTLED_MAX,
        Retry::WhenReleased => false,
        Retry::Never => true,
    };
    Availability {
        state: if used_up { "over_quota" } else { "throttled" },
        retry_after_seconds: limit.retry_after_seconds(),
        message: limit.to_string(),
    }
}

#[cfg(test)]
mod tests;
