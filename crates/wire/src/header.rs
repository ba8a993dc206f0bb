//! HTTP headers that repeat parts of the body (2026-07-28, Streamable HTTP, "Request Metadata"), and those of
//! versions with sessions. Values are compared after decoding, and a mismatch is rejected.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vmcp_json::{Json, Members};

/// The protocol version of the request.
pub const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Repeats the method (2026-07-28).
pub const METHOD: &str = "mcp-method";
/// Repeats the name of the tool or prompt, or the resource URI (2026-07-28).
pub const NAME: &str = "mcp-name";
/// The session identifier (2025-11-25 and older).
pub const SESSION_ID: &str = "mcp-session-id";
/// The last event that the client received before its stream ended (2025-11-25 and older).
pub const LAST_EVENT_ID: &str = "last-event-id";
/// The prefix of headers that repeat arguments (2026-07-28).
pub const PARAM_PREFIX: &str = "mcp-param-";

const SENTINEL_START: &str = "=?base64?";
const SENTINEL_END: &str = "?=";

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A required header is missing.
    #[error("Header mismatch: the {0} header is required")]
    Missing(&'static str),
    /// The value has bytes that are illegal in a header, or an invalid base64 form.
    #[error("Header mismatch: the {0} header has invalid characters")]
    Malformed(&'static str),
    /// The value does not match the body.
    #[error("Header mismatch: {header} header value '{found}' does not match body value '{expected}'")]
    Mismatch {
        /// The header's name.
        header: &'static str,
        /// The value in the header.
        found: String,
        /// The value in the body.
        expected: String,
    },
}

impl HeaderError {
    /// The error data in the form that ToolHive's vMCP uses: `header`, and `headerValue` and `bodyValue` as
    /// far as they are known.
    pub(crate) fn data(&self) -> Json {
        match self {
            Self::Missing(header) | Self::Malformed(header) => mismatch_data(header, None, None),
            Self::Mismatch { header, found, expected } => mismatch_data(header, Some(found), Some(expected)),
        }
    }
}

/// Error data with the value of a header and the value of the body.
pub(crate) fn mismatch_data(header: &str, header_value: Option<&str>, body_value: Option<&str>) -> Json {
    let values = [("header", Some(header)), ("headerValue", header_value), ("bodyValue", body_value)];
    let members =
        values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Json::string(value?))));
    members.collect::<Members>().to_json()
}

/// Encodes a value for a header: unchanged when it is plain, else in the base64 form.
#[must_use]
pub fn encode(value: &str) -> Cow<'_, str> {
    let safe = value.bytes().all(|byte| byte == b'\t' || (0x20..=0x7e).contains(&byte))
        && value.trim_matches([' ', '\t']).len() == value.len()
        && !(value.starts_with(SENTINEL_START) && value.ends_with(SENTINEL_END));
    if safe {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!("{SENTINEL_START}{}{SENTINEL_END}", STANDARD.encode(value)))
    }
}

/// Decodes a header value. `None` when it has invalid bytes or an invalid base64 form.
#[must_use]
pub fn decode(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(value).ok()?;
    if !text.bytes().all(|byte| byte == b'\t' || (0x20..=0x7e).contains(&byte)) {
        return None;
    }
    match text.strip_prefix(SENTINEL_START).and_then(|rest| rest.strip_suffix(SENTINEL_END)) {
        None => Some(Cow::Borrowed(text)),
        Some(encoded) => Some(Cow::Owned(String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?)),
    }
}

/// Compares one required header with the body's value.
///
/// # Errors
/// When the header is missing, malformed or different.
pub fn check(header: &'static str, found: Option<&[u8]>, expected: &str) -> Result<(), HeaderError> {
    let found = decode(found.ok_or(HeaderError::Missing(header))?).ok_or(HeaderError::Malformed(header))?;
    if found == expected {
        Ok(())
    } else {
        Err(HeaderError::Mismatch { header, found: found.into_owned(), expected: expected.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_examples() {
        for (value, header) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode(value), header);
            assert_eq!(decode(header.as_bytes()).unwrap(), value);
        }
    }

    #[test]
    fn broken_values_are_refused() {
        assert_eq!(check(NAME, None, "x"), Err(HeaderError::Missing(NAME)));
        assert_eq!(check(NAME, Some(b"=?base64?***?="), "x"), Err(HeaderError::Malformed(NAME)));
        assert_eq!(check(NAME, Some("é".as_bytes()), "é"), Err(HeaderError::Malformed(NAME)));
        assert!(matches!(check(NAME, Some(b"y"), "x"), Err(HeaderError::Mismatch { .. })));
        assert_eq!(check(NAME, Some(b"=?base64?eA==?="), "x"), Ok(()));
    }
}
