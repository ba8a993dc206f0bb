//! Reads the arguments of the two virtual tools.
//!
//! Models write these arguments. An unambiguous deviation from the schema is accepted; any other deviation is
//! answered with a sentence that says how to write the arguments.

use vmcp_json::{Json, Members};
use vmcp_wire::jsonrpc;

/// Maximum length of a query, in bytes; the rest is cut off.
const QUERY_BYTES_MAX: usize = 4096;
/// Maximum number of keywords of one query; further keywords are ignored.
const KEYWORD_COUNT_MAX: usize = 64;

/// The arguments of `find_tool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FindArguments {
    /// The description of the task, followed by the keywords.
    pub(crate) query: String,
}

/// The arguments of `call_tool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallArguments {
    /// The name of the tool to call.
    pub(crate) name: String,
    /// The tool's arguments, unchanged.
    pub(crate) arguments: Json,
}

/// A sentence for the model that says what is wrong with its arguments.
pub(crate) type UsageError = &'static str;

const FIND_USAGE: UsageError = "find_tool needs `tool_description`, a text that says what the tool should do, \
     for example {\"tool_description\": \"create an issue in a repository\", \"tool_keywords\": [\"github\", \"issue\"]}";
const CALL_USAGE: UsageError = "call_tool needs `tool_name`, the name of a tool as find_tool returned it, and `parameters`, \
     an object with that tool's arguments";
const PARAMETERS_USAGE: UsageError =
    "`parameters` must be an object with the tool's arguments, as its inputSchema says";

/// Reads the arguments of `find_tool`.
pub(crate) fn read_find(arguments: Option<&Json>) -> Result<FindArguments, UsageError> {
    let members = arguments.and_then(|json| json.members().ok()).ok_or(FIND_USAGE)?;
    let mut query = match members.get("tool_description").map(Json::decode_string) {
        None => String::new(),
        Some(Some(text)) => text,
        Some(None) => return Err(FIND_USAGE),
    };
    for keyword in keywords(&members)?.into_iter().take(KEYWORD_COUNT_MAX) {
        query.push(' ');
        query.push_str(&keyword);
    }
    query.truncate(query.floor_char_boundary(QUERY_BYTES_MAX));
    if query.trim().is_empty() { Err(FIND_USAGE) } else { Ok(FindArguments { query }) }
}

fn keywords(members: &Members) -> Result<Vec<String>, UsageError> {
    let Some(json) = members.get("tool_keywords").filter(|json| !json.is_null()) else {
        return Ok(Vec::new());
    };
    if let Some(text) = json.decode_string() {
        return Ok(vec![text]);
    }
    let each = json.elements().map_err(|_| FIND_USAGE)?;
    each.iter().map(|keyword| keyword.decode_string().ok_or(FIND_USAGE)).collect()
}

/// Reads the arguments of `call_tool`. A `tool_name` inside `parameters` is accepted too.
pub(crate) fn read_call(arguments: Option<&Json>) -> Result<CallArguments, UsageError> {
    let members = arguments.and_then(|json| json.members().ok()).ok_or(CALL_USAGE)?;
    let parameters = match members.get("parameters") {
        None => None,
        Some(json) if json.is_null() => None,
        Some(json) => Some(parse_object(json)?),
    };
    if let Some(name) = tool_name_in(&members) {
        return Ok(CallArguments { name, arguments: parameters.unwrap_or_else(Json::empty_object) });
    }
    let mut nested = parameters.and_then(|json| json.members().ok()).ok_or(CALL_USAGE)?;
    let name = tool_name_in(&nested).ok_or(CALL_USAGE)?;
    let _ = nested.remove("tool_name");
    let only_parameters = nested.get("parameters").filter(|inner| nested.len() == 1 && inner.is_object());
    let arguments = only_parameters.cloned().unwrap_or_else(|| nested.to_json());
    Ok(CallArguments { name, arguments })
}

fn tool_name_in(members: &Members) -> Option<String> {
    members.get("tool_name").and_then(Json::decode_string).filter(|name| !name.is_empty())
}

/// Reads an object, or a text that contains one, because some models write their arguments as text.
fn parse_object(json: &Json) -> Result<Json, UsageError> {
    if json.is_object() {
        return Ok(json.clone());
    }
    let text = json.decode_string().ok_or(PARAMETERS_USAGE)?;
    // The depth limit of messages also applies to JSON inside a text.
    if !jsonrpc::is_within_depth(text.as_bytes(), jsonrpc::DEPTH_MAX) {
        return Err(PARAMETERS_USAGE);
    }
    Json::parse(text).ok().filter(Json::is_object).ok_or(PARAMETERS_USAGE)
}

#[cfg(test)]
mod tests;
