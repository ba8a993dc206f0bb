//! Diagnoses text that is not valid JSON: which request of the gateway it was meant to answer.

use super::UnreadableMessage;
use crate::jsonrpc::{parse_number, string_end};

/// Describes a text that cannot be parsed. It concerns a request of the gateway when it begins like a
/// response, or contains one, and has no `method`. Anything else may be a log line.
pub(super) fn describe_invalid(text: &str, cause: String) -> UnreadableMessage {
    let nothing = |cause| UnreadableMessage { id: None, is_message: false, cause };
    let Some(start) = text.find('{') else { return nothing(cause) };
    let is_first =
        text.get(..start).is_some_and(|before| before.trim_ascii_start().trim_matches('[').is_empty());
    let object = text.get(start..).unwrap_or_default();
    let has_jsonrpc = object.contains("\"jsonrpc\"");
    let has_outcome = object.contains("\"result\"") || object.contains("\"error\"");
    let can_be_response = if is_first { has_jsonrpc || has_outcome } else { has_jsonrpc && has_outcome };
    let found = scan_outer_members(object);
    if !can_be_response || found.has_method {
        return nothing(cause);
    }
    let id = found.id.or_else(|| trailing_id(object));
    UnreadableMessage { id, is_message: is_first && has_jsonrpc, cause }
}

/// What is found in the outermost object of a text that is not valid JSON, as far as its start can be
/// followed.
#[derive(Default)]
struct OuterMembers {
    id: Option<u64>,
    has_method: bool,
}

fn scan_outer_members(text: &str) -> OuterMembers {
    let mut found = OuterMembers::default();
    let (mut depth, mut offset) = (0_usize, 0_usize);
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(offset) {
        offset += 1;
        match byte {
            b'"' => {
                let end = string_end(bytes, offset);
                let name = end.checked_sub(1).and_then(|last| text.get(offset..last));
                offset = end;
                let after = text.get(end..).unwrap_or_default().trim_ascii_start();
                match (depth, name, after.strip_prefix(':')) {
                    (1, Some("id"), Some(value)) if found.id.is_none() => {
                        found.id = leading_number(value.trim_ascii_start());
                    }
                    (1, Some("method"), Some(value)) => {
                        found.has_method |= !value.trim_ascii_start().starts_with("null");
                    }
                    _ => {}
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => break,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    found
}

fn leading_number(text: &str) -> Option<u64> {
    match text.strip_prefix('"') {
        Some(inside) => parse_number(inside.split('"').next()?),
        None => {
            let is_number = |char: char| char.is_ascii_digit() || matches!(char, '.' | 'e' | 'E' | '+' | '-');
            parse_number(text.split(|char| !is_number(char)).next()?)
        }
    }
}

fn trailing_id(text: &str) -> Option<u64> {
    let text = text.trim_ascii_end().strip_suffix('}')?;
    let (before, value) = text.rsplit_once(':')?;
    let name = before.trim_ascii_end();
    let is_member = name.strip_suffix("\"id\"")?.trim_ascii_end().ends_with([',', '{']);
    if is_member { parse_number(value.trim_ascii()) } else { None }
}
