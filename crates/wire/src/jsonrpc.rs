//! The JSON-RPC 2.0 envelope: parses and writes one message, and leaves parameters and results untouched.

mod error_object;
mod lenient;

use std::borrow::Cow;

use bytestring::ByteString;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use vmcp_json::{Json, JsonSlice, Members};

use self::error_object::read_error;
pub use self::lenient::{UnreadableMessage, parse_lenient};

/// The deepest nesting of arrays and objects that is accepted from a peer.
pub const DEPTH_MAX: usize = 128;

/// The identifier of a request: a string or a number, in its original spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Id(Json);

impl Id {
    /// Builds a numeric identifier for a request of the gateway.
    #[must_use]
    pub fn number(value: u64) -> Self {
        Self(Json::integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    /// Wraps a JSON value that is a string or a number; `None` for another value.
    #[must_use]
    pub fn from_json(json: Json) -> Option<Self> {
        let first = json.as_str().bytes().next()?;
        (first == b'"' || first == b'-' || first.is_ascii_digit()).then_some(Self(json))
    }

    /// The identifier as JSON.
    #[must_use]
    pub fn as_json(&self) -> &Json {
        &self.0
    }

    /// The number of an identifier that the gateway made, whatever spelling the peer uses.
    #[must_use]
    pub fn as_number(&self) -> Option<u64> {
        parse_number(self.0.as_str())
    }
}

/// Parses a number of the gateway in a peer's spelling: `7`, `"7"`, `7.0` and `7e0` are equal.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    /// From this value on an `f64` no longer represents every integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let text = text.trim_matches('"').trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be a whole number within the exact ones"
    )]
    (number.fract() == 0.0 && (0.0..EXACT_MAX).contains(&number)).then_some(number as u64)
}

/// A JSON-RPC error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The error code.
    pub code: i64,
    /// The error message.
    pub message: String,
    /// Additional data.
    pub data: Option<Json>,
}

impl RpcError {
    /// Builds an error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
}

/// One message of a peer.
#[derive(Clone, Debug)]
pub enum Message {
    /// A request, which is answered under its identifier.
    Request {
        /// The request's identifier.
        id: Id,
        /// The method name.
        method: ByteString,
        /// The parameters, if any.
        params: Option<Json>,
    },
    /// A notification, which is never answered.
    Notification {
        /// The method name.
        method: ByteString,
        /// The parameters, if any.
        params: Option<Json>,
    },
    /// The response to a request of the gateway.
    Response {
        /// The request's identifier; absent when the peer could not read it.
        id: Option<Id>,
        /// The result or the error.
        outcome: Result<Json, RpcError>,
    },
}

/// Why a text is not one message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is not JSON.
    #[error("the body is not valid JSON: {0}")]
    NotJson(String),
    /// The text is nested deeper than [`DEPTH_MAX`].
    #[error("the body is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    /// The text is an array of messages. Batches are not part of the protocol since 2025-06-18.
    #[error("batches of messages are not supported; send one message per request")]
    Batch,
    /// The text is JSON, but not a message.
    #[error("the body is not a JSON-RPC 2.0 message: {0}")]
    InvalidMessage(&'static str),
}

impl ParseError {
    /// The JSON-RPC code of the answer.
    #[must_use]
    pub fn code(&self) -> i64 {
        match self {
            Self::NotJson(_) => crate::code::PARSE_ERROR,
            Self::TooDeep | Self::Batch | Self::InvalidMessage(_) => crate::code::INVALID_REQUEST,
        }
    }
}

/// Borrows where possible; a bare `Option<Cow>` field would always copy.
#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<BorrowedText<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<BorrowedText<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Distinguishes `null` from an absent member: serde would read both as `None`.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Parses one message of a client. A leading byte order mark is ignored. `null` for `params`, and `null` next
/// to a result or an error, count as absent. [`parse_lenient`] is for backends and accepts more.
///
/// # Errors
/// When the text is not one JSON-RPC 2.0 message; see [`ParseError`].
pub fn parse(text: &ByteString) -> Result<Message, ParseError> {
    let text = &text.slice_ref(text.trim_start_matches('\u{feff}'));
    // The common forms take two fast passes. Everything else goes to a parser that can report the error.
    match parse_common(text) {
        Some(message) => Ok(message),
        None => parse_general(text),
    }
}

/// Parses a message whose envelope has nothing unusual; `None` for all others.
fn parse_common(text: &ByteString) -> Option<Message> {
    let json = Json::validate(text, DEPTH_MAX)?;
    let (mut version, mut id, mut method, mut params, mut result) = (None, None, None, None, None);
    let mut is_plain = true;
    let object = json.visit_members(|name, value| {
        let slot = match name {
            "\"jsonrpc\"" => &mut version,
            "\"id\"" => &mut id,
            "\"method\"" => &mut method,
            "\"params\"" => &mut params,
            "\"result\"" => &mut result,
            _ => {
                // An escaped name may spell one of the known names differently.
                is_plain &= name != "\"error\"" && !name.contains('\\');
                return;
            }
        };
        is_plain &= slot.replace(value).is_none();
    });
    if !(object && is_plain && version?.as_str() == "\"2.0\"") {
        return None;
    }
    let id = match id {
        None => None,
        Some(id) => Some(Id::from_json(id.to_json())?),
    };
    let params = params.filter(|params| params.as_str() != "null").map(JsonSlice::to_json);
    match (method, result, id) {
        (Some(_), Some(_), _) => None,
        (Some(method), None, Some(id)) => Some(Message::Request { id, method: method.plain_text()?, params }),
        (Some(method), None, None) => Some(Message::Notification { method: method.plain_text()?, params }),
        (None, Some(result), id) if result.as_str() != "null" => {
            Some(Message::Response { id, outcome: Ok(result.to_json()) })
        }
        (None, Some(_) | None, _) => None,
    }
}

fn parse_general(text: &ByteString) -> Result<Message, ParseError> {
    if !is_within_depth(text.as_bytes(), DEPTH_MAX) {
        return Err(ParseError::TooDeep);
    }
    if text.trim_ascii_start().starts_with('[') {
        return match Json::parse(text.clone()) {
            Ok(_) => Err(ParseError::Batch),
            Err(error) => Err(ParseError::NotJson(error.to_string())),
        };
    }
    let envelope: Envelope<'_> = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) if error.is_data() => {
            return Err(ParseError::InvalidMessage(
                "it must be an object with string members `jsonrpc` and `method`",
            ));
        }
        Err(error) => return Err(ParseError::NotJson(error.to_string())),
    };
    if envelope.jsonrpc.is_none_or(|BorrowedText(version)| version != "2.0") {
        return Err(ParseError::InvalidMessage("`jsonrpc` must be \"2.0\""));
    }
    let slice = |raw: &RawValue| Json::slice_of(text, raw);
    let present = |raw: &&RawValue| raw.get() != "null";
    let id = envelope.id.map(|raw| {
        Id::from_json(slice(raw)).ok_or(ParseError::InvalidMessage("`id` must be a string or a number"))
    });
    if let Some(BorrowedText(method)) = envelope.method {
        let method = match method {
            Cow::Borrowed(method) => text.slice_ref(method),
            Cow::Owned(method) => ByteString::from(method),
        };
        let params = envelope.params.filter(present).map(slice);
        return match id.transpose()? {
            Some(id) => Ok(Message::Request { id, method, params }),
            None => Ok(Message::Notification { method, params }),
        };
    }
    let outcome = match (envelope.result.filter(present), envelope.error.filter(present)) {
        (Some(result), None) => Ok(slice(result)),
        (None, Some(error)) => Err(read_error(&slice(error))),
        (Some(_), Some(_)) => return Err(ParseError::InvalidMessage("it has both `result` and `error`")),
        (None, None) => match envelope.result {
            Some(null) => Ok(slice(null)),
            None => return Err(ParseError::InvalidMessage("it has no `method`, `result` or `error`")),
        },
    };
    // A peer that could not read the gateway's identifier answers with `null` or without one.
    Ok(Message::Response { id: id.and_then(Result::ok), outcome })
}

/// True when brackets outside strings never nest deeper than `depth_max`. One pass without recursion or
/// allocation.
#[must_use]
pub fn is_within_depth(text: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut offset) = (0_usize, 0);
    while let Some(byte) = text.get(offset) {
        offset += 1;
        match byte {
            b'"' => offset = string_end(text, offset),
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// The offset after the string whose content begins at `offset`, or the text's length when the string does not
/// end.
fn string_end(text: &[u8], mut offset: usize) -> usize {
    while let Some(found) = text.get(offset..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        offset += found + 1;
        if text.get(offset - 1) == Some(&b'"') {
            return offset;
        }
        // An escaped character never ends the string.
        offset += 1;
    }
    text.len()
}

/// Writes a request. `method` is one of the protocol's names, which need no escapes; a peer's name cannot be
/// `'static`.
#[must_use]
pub fn write_request(id: &Id, method: &'static str, params: &Json) -> Vec<u8> {
    const FRAME: &str = r#"{"jsonrpc":"2.0","id":,"method":"","params":}"#;
    // The exact size avoids a reallocation, and sharing the buffer then costs none either.
    let texts = id.0.as_str().len() + method.len() + params.as_str().len();
    let mut out = Vec::with_capacity(FRAME.len() + texts);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.0.as_str().as_bytes());
    write_method(&mut out, method, params);
    out
}

/// Writes a notification. Empty parameters are left out.
#[must_use]
pub fn write_notification(method: &'static str, params: &Members) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if params.is_empty() {
        out.extend_from_slice(b",\"method\":");
        out.extend_from_slice(Json::string(method).as_str().as_bytes());
        out.push(b'}');
    } else {
        write_method(&mut out, method, &params.to_json());
    }
    out
}

fn write_method(out: &mut Vec<u8>, method: &'static str, params: &Json) {
    out.extend_from_slice(b",\"method\":\"");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\",\"params\":");
    out.extend_from_slice(params.as_str().as_bytes());
    out.push(b'}');
}

/// Writes a result message; `write` appends the result value.
#[must_use]
pub fn write_result(id: &Id, size_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + size_hint);
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id.0.as_str().as_bytes());
    out.extend_from_slice(b",\"result\":");
    write(&mut out);
    out.push(b'}');
    out
}

/// Writes an error response. Without an identifier the member is left out, as the specification requires.
#[must_use]
pub fn write_error(id: Option<&Id>, error: &RpcError) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + error.message.len());
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.0.as_str().as_bytes());
    }
    out.extend_from_slice(b",\"error\":{\"code\":");
    out.extend_from_slice(error.code.to_string().as_bytes());
    out.extend_from_slice(b",\"message\":");
    out.extend_from_slice(Json::string(&error.message).as_str().as_bytes());
    if let Some(data) = &error.data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_str().as_bytes());
    }
    out.extend_from_slice(b"}}");
    out
}

#[cfg(test)]
mod tests;
