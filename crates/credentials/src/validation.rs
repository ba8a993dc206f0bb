//! Validation of settings that are sent as text.

use crate::error::PolicyError;

const TEXT_CHARS_MAX: usize = 2048;
const SCOPES_MAX: usize = 64;

/// Checks a text of limited length without control characters: ids and audiences.
pub(crate) fn check_text(field: &'static str, text: &str) -> Result<String, PolicyError> {
    let chars = text.chars().count();
    if chars == 0 || chars > TEXT_CHARS_MAX || text.contains(char::is_control) {
        let why = format!("must be 1 to {TEXT_CHARS_MAX} characters without control characters");
        return Err(PolicyError::new(field, why));
    }
    Ok(text.to_owned())
}

/// Validates scopes (RFC 6749, section 3.3) and sorts them, because their order has no meaning and equal sets
/// must be equal.
pub(crate) fn parse_scopes(
    field: &'static str,
    scopes: impl IntoIterator<Item = String>,
) -> Result<Vec<String>, PolicyError> {
    let mut parsed: Vec<String> = Vec::new();
    for scope in scopes {
        let is_token = scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if scope.is_empty() || scope.len() > TEXT_CHARS_MAX || !is_token {
            let why =
                "each must be a word of visible ASCII without quotes and backslashes; write a list of words";
            return Err(PolicyError::new(field, why));
        }
        parsed.push(scope);
        if parsed.len() > SCOPES_MAX {
            return Err(PolicyError::new(field, format!("at most {SCOPES_MAX}; leave some out")));
        }
    }
    parsed.sort_unstable();
    parsed.dedup();
    Ok(parsed)
}

/// Checks a resource (RFC 8707, section 2): an absolute URI without a fragment.
pub(crate) fn check_resource(field: &'static str, uri: &str) -> Result<String, PolicyError> {
    let scheme = uri.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let is_uri = uri.len() <= TEXT_CHARS_MAX && uri.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_scheme || !is_uri || uri.len() == scheme.len() + 1 || uri.contains('#') {
        return Err(PolicyError::new(field, "must be an absolute URI without #, such as https://host/path"));
    }
    Ok(uri.to_owned())
}
