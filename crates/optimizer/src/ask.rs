//! What a client asks of the two virtual tools, read from their arguments. Models write arguments, so what can only
//! mean one thing is taken as meant, and everything else is answered with a sentence that says how to write it.

use vmcp_domain::{Json, Members};
use vmcp_wire::jsonrpc;

/// The longest search, in bytes; what is beyond it is cut off.
const QUERY_BYTES_MAX: usize = 4096;
/// The most keywords of one search.
const KEYWORD_COUNT_MAX: usize = 64;

/// A search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FindTool {
    /// What is to be done, in words, and keywords.
    pub(crate) query: String,
}

/// A call by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedCall {
    /// The tool's name.
    pub(crate) name: String,
    /// Its arguments, untouched.
    pub(crate) arguments: Json,
}

/// A sentence for the model that says what is wrong with its arguments.
pub(crate) type Complaint = &'static str;

const FIND_FORM: Complaint = "find_tool needs `tool_description`, a text that says what the tool should do, \
     for example {\"tool_description\": \"create an issue in a repository\", \"tool_keywords\": [\"github\", \"issue\"]}";
const CALL_FORM: Complaint = "call_tool needs `tool_name`, the name of a tool as find_tool returned it, and `parameters`, \
     an object with that tool's arguments";
const PARAMETERS_FORM: Complaint =
    "`parameters` must be an object with the tool's arguments, as its inputSchema says";

/// Reads the arguments of `find_tool`.
pub(crate) fn read_find(arguments: Option<&Json>) -> Result<FindTool, Complaint> {
    let members = arguments.and_then(|json| json.members().ok()).ok_or(FIND_FORM)?;
    let mut query = match members.get("tool_description").map(Json::to_text) {
        None => String::new(),
        Some(Some(text)) => text,
        Some(None) => return Err(FIND_FORM),
    };
    for keyword in keywords(&members)?.into_iter().take(KEYWORD_COUNT_MAX) {
        query.push(' ');
        query.push_str(&keyword);
    }
    query.truncate(query.floor_char_boundary(QUERY_BYTES_MAX));
    if query.trim().is_empty() { Err(FIND_FORM) } else { Ok(FindTool { query }) }
}

fn keywords(members: &Members) -> Result<Vec<String>, Complaint> {
    let Some(json) = members.get("tool_keywords").filter(|json| !json.is_null()) else {
        return Ok(Vec::new());
    };
    if let Some(text) = json.to_text() {
        return Ok(vec![text]);
    }
    let each = json.elements().map_err(|_| FIND_FORM)?;
    each.iter().map(|keyword| keyword.to_text().ok_or(FIND_FORM)).collect()
}

/// Reads the arguments of `call_tool`. A name that stands among the parameters is taken from there.
pub(crate) fn read_call(arguments: Option<&Json>) -> Result<NamedCall, Complaint> {
    let members = arguments.and_then(|json| json.members().ok()).ok_or(CALL_FORM)?;
    let parameters = match members.get("parameters") {
        None => None,
        Some(json) if json.is_null() => None,
        Some(json) => Some(object(json)?),
    };
    if let Some(name) = name_in(&members) {
        return Ok(NamedCall { name, arguments: parameters.unwrap_or_else(Json::empty_object) });
    }
    let mut nested = parameters.and_then(|json| json.members().ok()).ok_or(CALL_FORM)?;
    let name = name_in(&nested).ok_or(CALL_FORM)?;
    let _ = nested.take("tool_name");
    let alone = nested.get("parameters").filter(|inner| nested.len() == 1 && inner.is_object());
    let arguments = alone.cloned().unwrap_or_else(|| nested.to_json());
    Ok(NamedCall { name, arguments })
}

fn name_in(members: &Members) -> Option<String> {
    members.get("tool_name").and_then(Json::to_text).filter(|name| !name.is_empty())
}

/// An object, or a text that holds one: some models write their arguments as text.
fn object(json: &Json) -> Result<Json, Complaint> {
    if json.is_object() {
        return Ok(json.clone());
    }
    let text = json.to_text().ok_or(PARAMETERS_FORM)?;
    // A text is no way past the bound that every message is held to.
    if !jsonrpc::depth_within(text.as_bytes(), jsonrpc::DEPTH_MAX) {
        return Err(PARAMETERS_FORM);
    }
    Json::parse(text).ok().filter(Json::is_object).ok_or(PARAMETERS_FORM)
}

#[cfg(test)]
mod tests;
