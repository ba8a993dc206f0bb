//! Parses the error object of a response, whatever types its members have, so that the peer's information is
//! not lost.

use vmcp_json::Json;

use super::RpcError;
use crate::code;

/// The longest text that is shown of an error without a message string, in characters.
const SHOWN_BYTES_MAX: usize = 2000;

/// Parses an error object. A code that is not a number becomes [`code::INTERNAL_ERROR`]. Without a message
/// the text is the error's data, else the whole error.
pub(super) fn read_error(json: &Json) -> RpcError {
    let Ok(members) = json.members() else {
        return RpcError::new(code::INTERNAL_ERROR, error_text(json));
    };
    let code = members.get("code").and_then(read_code).unwrap_or(code::INTERNAL_ERROR);
    let data = members.get("data").filter(|data| !data.is_null());
    let message = members.get("message").filter(|message| !message.is_null());
    let message = match (message, data) {
        (Some(message), _) => error_text(message),
        (None, Some(data)) => error_text(data),
        (None, None) => error_text(json),
    };
    RpcError { code, message, data: data.cloned() }
}

/// True for the empty error object that some serialisers write for success: no code, no message and no data.
pub(super) fn is_empty_error(json: &Json) -> bool {
    let Ok(members) = json.members() else { return false };
    let is_empty = |name: &str, empty: &str| {
        members.get(name).is_none_or(|value| value.is_null() || value.as_str() == empty)
    };
    is_empty("code", "0") && is_empty("message", "\"\"") && is_empty("data", "null")
}

/// True for an object with a numeric code, in any spelling.
pub(super) fn has_code(json: &Json) -> bool {
    json.members().is_ok_and(|members| members.get("code").and_then(read_code).is_some())
}

/// Parses a code that is an integer, a fraction without a remainder, or a string with one of these.
fn read_code(json: &Json) -> Option<i64> {
    let text = json.as_str().trim_matches('"').trim();
    if let Ok(code) = text.parse() {
        return Some(code);
    }
    let fraction: f64 = text.parse().ok()?;
    // No known code exceeds 32 bits.
    #[allow(clippy::cast_possible_truncation, reason = "checked to be within 32 bits")]
    (fraction.fract() == 0.0 && fraction.abs() < f64::from(i32::MAX)).then_some(fraction as i64)
}

/// The content of a string, or any other value as JSON text of limited length.
fn error_text(json: &Json) -> String {
    let text = json.decode_string().unwrap_or_else(|| json.as_str().to_owned());
    match text.char_indices().nth(SHOWN_BYTES_MAX) {
        Some((end, _)) if json.decode_string().is_none() => {
            format!("{}…", text.get(..end).unwrap_or_default())
        }
        _ => text,
    }
}
