//! Results that the gateway builds itself, for virtual tools and built-in servers.

use vmcp_domain::{Reply, ResultType};
use vmcp_json::{Json, Members};

fn text_content(text: &str) -> Members {
    let block: Members = [("type".to_owned(), Json::string("text")), ("text".to_owned(), Json::string(text))]
        .into_iter()
        .collect();
    let content = Json::encode(&[block.to_json()]).unwrap_or_else(|_| Json::empty_object());
    [("content".to_owned(), content)].into_iter().collect()
}

/// Builds a tool result with one text block.
#[must_use]
pub fn text(text: &str) -> Reply {
    Reply::complete(text_content(text))
}

/// Builds a tool result with one JSON value as structured content, and a text for clients that ignore structured
/// content.
#[must_use]
pub fn structured(value: Json, text: &str) -> Reply {
    let mut members = text_content(text);
    members.insert("structuredContent", value);
    Reply::complete(members)
}

/// Builds a failed tool result with an explanation that a model can act on.
#[must_use]
pub fn failure(text: &str) -> Reply {
    let mut members = text_content(text);
    members.insert("isError", Json::boolean(true));
    Reply { members, is_error: true, result_type: ResultType::Complete, ttl: None }
}

/// Joins the text blocks of a tool result with line feeds, for display in a terminal.
#[must_use]
pub fn to_text(reply: &Reply) -> String {
    let blocks = reply.members.get("content").and_then(|json| json.elements().ok()).unwrap_or_default();
    let texts = blocks.iter().filter_map(|block| block.members().ok()?.get("text")?.decode_string());
    texts.collect::<Vec<_>>().join("\n")
}
