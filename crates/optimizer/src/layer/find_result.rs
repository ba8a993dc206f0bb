//! The result of `find_tool`: the tools, their availability, and the tokens saved by not listing all tools.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use vmcp_domain::{Availability, RateLimit, Reply, Retry};
use vmcp_json::{Json, Members};
use vmcp_wire::{definitions, tool_result};

use crate::layer::find_text;
use crate::optimizer::{SearchResult, SearchResults};
use crate::policy::{OptimizerPolicy, Schemas};

/// Bytes of JSON that count as one token, as in the reference implementation.
const TOKEN_BYTES: usize = 4;
/// A longer retry delay is reported as `over_quota`, a shorter one as `throttled`.
const THROTTLED_WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// Maximum size of one tool in a result, and of all tools together, in bytes. Some servers describe a tool in
/// megabytes.
const TOOL_BYTES_MAX: usize = 16 << 10;
const RESULT_BYTES_MAX: usize = 64 << 10;
/// How many characters of the description remain in a tool that exceeds its limit.
const SHORT_DESCRIPTION_CHARS: usize = 1000;
const SHORTEST_DESCRIPTION_CHARS: usize = 200;

/// The cost of the whole list and of the result, in tokens of four bytes of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TokenMetrics {
    /// Tokens of the whole list.
    pub baseline_tokens: usize,
    /// Tokens of the returned tools.
    pub returned_tokens: usize,
    /// The saving in percent of the whole list, rounded to two decimals. Negative when the result is longer
    /// than the list.
    pub savings_percent: f64,
}

impl TokenMetrics {
    /// The metrics for a result of `returned_bytes` bytes instead of a list of `list_bytes` bytes.
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
struct FindResult<'a> {
    tools: Vec<&'a RawValue>,
    token_metrics: TokenMetrics,
}

#[derive(Serialize)]
struct AvailabilityNote {
    state: &'static str,
    #[serde(rename = "retryAfterSeconds", skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    message: String,
}

/// Writes the result of `find_tool` as a tool result with structured content.
pub(crate) fn write_result(
    results: &SearchResults,
    policy: &OptimizerPolicy,
) -> Result<(Reply, TokenMetrics), vmcp_json::JsonError> {
    let mut bytes_left = RESULT_BYTES_MAX;
    let bounded = results.tools.iter().map(|one| {
        let entry = shorten(tool_entry(one, policy.schemas)?, one, TOOL_BYTES_MAX.min(bytes_left))?;
        bytes_left = bytes_left.saturating_sub(entry.as_str().len());
        Ok(entry)
    });
    let tools: Vec<Json> = bounded.collect::<Result<_, vmcp_json::JsonError>>()?;
    let returned = tools.iter().map(|tool| tool.as_str().len()).sum();
    let token_metrics = TokenMetrics::of(results.list_bytes, returned);
    let raw: Vec<&RawValue> = tools.iter().map(Json::decode::<&RawValue>).collect::<Result<_, _>>()?;
    let result = Json::encode(&FindResult { tools: raw, token_metrics })?;
    Ok((tool_result::structured(result, &find_text::write(results, &policy.names.call)), token_metrics))
}

fn tool_entry(result: &SearchResult, schemas: Schemas) -> Result<Json, vmcp_json::JsonError> {
    let written = match schemas {
        Schemas::Full => definitions::write_tool(&result.tool),
        Schemas::Compact => definitions::compact_tool(&result.tool),
    };
    let availability = match &result.availability {
        Availability::Available => return Ok(written),
        Availability::Unavailable => AvailabilityNote {
            state: "unavailable",
            retry_after_seconds: None,
            message: "the server of this tool cannot be reached now".to_owned(),
        },
        Availability::RateLimited(limit) => limited_note(limit),
    };
    let mut members = written.members()?;
    members.insert("availability", Json::encode(&availability)?);
    Ok(members.to_json())
}

/// Returns the entry if it has at most `bytes_max` bytes. Otherwise shortens description and schema and adds
/// a note.
fn shorten(entry: Json, result: &SearchResult, bytes_max: usize) -> Result<Json, vmcp_json::JsonError> {
    if entry.as_str().len() <= bytes_max {
        return Ok(entry);
    }
    let bytes = entry.as_str().len();
    let short = |schema: Option<Json>, chars: usize| {
        let description: String =
            result.tool.description.iter().flat_map(|text| text.chars()).take(chars).collect();
        let mut members = Members::new();
        members.insert("name", Json::string(result.tool.name.as_str()));
        members.insert("description", Json::string(&description));
        let note = match schema {
            Some(schema) => {
                members.insert("inputSchema", schema);
                "its description is cut"
            }
            None => {
                let any = [("type".to_owned(), Json::string("object"))].into_iter().collect::<Members>();
                members.insert("inputSchema", any.to_json());
                "its description is cut and its arguments are left out"
            }
        };
        members.insert("note", Json::string(&format!("this tool takes {bytes} bytes in the list; {note}")));
        if let Some(availability) =
            entry.members().ok().and_then(|members| members.get("availability").cloned())
        {
            members.insert("availability", availability);
        }
        members.to_json()
    };
    let compact = definitions::compact_tool(&result.tool).members()?.get("inputSchema").cloned();
    let with_schema = short(compact, SHORT_DESCRIPTION_CHARS);
    if with_schema.as_str().len() <= bytes_max {
        return Ok(with_schema);
    }
    let without = short(None, SHORT_DESCRIPTION_CHARS);
    // The result names every tool that was found, even when no space is left for it.
    Ok(if without.as_str().len() <= bytes_max { without } else { short(None, SHORTEST_DESCRIPTION_CHARS) })
}

fn limited_note(limit: &RateLimit) -> AvailabilityNote {
    let is_used_up = match limit.retry {
        Retry::After(wait) => wait > THROTTLED_WAIT_MAX,
        Retry::WhenReleased => false,
        Retry::Never | Retry::NeverTogether | Retry::Blocked => true,
    };
    AvailabilityNote {
        state: if is_used_up { "over_quota" } else { "throttled" },
        retry_after_seconds: limit.retry_after_seconds(),
        message: limit.to_string(),
    }
}

#[cfg(test)]
mod tests;
