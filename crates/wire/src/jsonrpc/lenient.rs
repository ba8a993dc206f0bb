//! Parses what backends write. Servers in many languages spell the envelope in their own ways, and a call
//! must not wait for its time-out because of a spelling. Whatever can be parsed without a guess is parsed.
//! Anything else that names a request ends that request at once.
//!
//! Accepted: byte order marks, bytes that are not UTF-8, `NaN` and `Infinity`, a missing `jsonrpc`, `null`
//! for an absent member, identifiers as strings or fractions, error objects of any types, log text around a
//! message, several messages in one text. Rejected: duplicate members, requests of clients (some servers log
//! what they receive), and other JSON such as log lines. When a message has both a result and an error, the
//! error counts, unless it is empty.

pub(crate) mod invalid_json;

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::value::RawValue;
use vmcp_json::Json;

use super::error_object::{has_code, is_empty_error, read_error};
use super::{DEPTH_MAX, Id, Message, is_within_depth, parse_common, parse_number};
use crate::jsonrpc::lenient::invalid_json::describe_invalid;
use crate::method;

/// The most `{` of one text that are tried as the start of a message, and the longest such text in bytes. Log
/// text before a message is short, and each attempt may read the whole text.
const MESSAGE_STARTS_MAX: usize = 16;
const EMBEDDED_BYTES_MAX: usize = 4 << 20;
/// The most messages of one text.
const MESSAGES_MAX: usize = 10_000;

/// Member names that are typical of JSON log lines.
const LOG_MEMBERS: [&str; 11] = [
    "@timestamp",
    "event",
    "level",
    "lvl",
    "logger",
    "message",
    "msg",
    "severity",
    "time",
    "timestamp",
    "ts",
];

/// A text that is not a readable message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableMessage {
    /// The gateway's request that it names without a readable response.
    pub id: Option<u64>,
    /// True when the text was clearly meant as a message.
    pub is_message: bool,
    /// What is wrong with it. It quotes nothing of the content.
    pub cause: String,
}

impl UnreadableMessage {
    fn is_irrelevant(&self) -> bool {
        self.id.is_none() && !self.is_message
    }
}

/// Parses the messages in one unit of backend output: a line, an event, or a body. `each` receives every
/// message and every unreadable part, at least one of either.
pub fn parse_lenient(bytes: Bytes, mut each: impl FnMut(Result<Message, UnreadableMessage>)) {
    let text = decode(bytes);
    // The form that nearly all servers use.
    match parse_common(&text) {
        Some(Message::Request { method, .. }) if method::is_client_request(&method) => {
            each(Err(client_request()))
        }
        Some(message) => each(Ok(message)),
        None => parse_irregular(&text, &mut each),
    }
}

/// Decodes the bytes without byte order marks. Invalid UTF-8 becomes U+FFFD.
fn decode(bytes: Bytes) -> ByteString {
    let text = ByteString::try_from(bytes.clone())
        .unwrap_or_else(|_| ByteString::from(String::from_utf8_lossy(&bytes).into_owned()));
    match text.strip_prefix('\u{feff}') {
        Some(rest) => text.slice_ref(rest.trim_start_matches('\u{feff}')),
        None => text,
    }
}

fn parse_irregular(text: &ByteString, each: &mut impl FnMut(Result<Message, UnreadableMessage>)) {
    if !is_within_depth(text.as_bytes(), DEPTH_MAX) {
        let cause = format!("the message is nested deeper than {DEPTH_MAX} levels");
        return each(Err(describe_invalid(text, cause)));
    }
    let mut rest = text.slice_ref(text.trim_ascii());
    let mut message_count = 0_usize;
    while let Some((value, after)) = first_value(&rest) {
        message_count += parse_value(&value, each);
        // A log line or another message may follow a message.
        let after = after.slice_ref(after.trim_ascii_start());
        if message_count >= MESSAGES_MAX || !after.starts_with(['{', '[']) {
            return;
        }
        rest = after;
    }
    if message_count > 0 && describe_invalid(&rest, String::new()).is_irrelevant() {
        return;
    }
    if let Some((value, _)) = find_embedded(&rest) {
        parse_value(&value, each);
        return;
    }
    let cause = match serde_json::from_str::<&RawValue>(&rest) {
        Err(error) => format!("it is not valid JSON: {error}"),
        Ok(_) => "it is not a JSON-RPC message".to_owned(),
    };
    each(Err(describe_invalid(&rest, cause)));
}

/// The JSON value at the start of the text, and the text after it.
fn first_value(text: &ByteString) -> Option<(Json, ByteString)> {
    if !text.trim_ascii_start().starts_with(['{', '[']) {
        return None;
    }
    let first = |text: &ByteString| {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        let value = Json::slice_of(text, values.next()?.ok()?);
        let rest = text.get(values.byte_offset()..).unwrap_or_default();
        Some((value, text.slice_ref(rest)))
    };
    first(text).or_else(|| first(&replace_nan(text)?))
}

/// The first message that has other text before it. Servers also log what they receive, so the gateway's own
/// requests do not count.
fn find_embedded(text: &ByteString) -> Option<(Json, ByteString)> {
    if text.len() > EMBEDDED_BYTES_MAX {
        return None;
    }
    let starts = text.match_indices('{').map(|(offset, _)| offset).take(MESSAGE_STARTS_MAX);
    for start in starts {
        let rest = text.slice_ref(text.get(start..).unwrap_or_default());
        if let Some((value, after)) = first_value(&rest)
            && let Ok(members) = value.members()
            && (members.get("jsonrpc").is_some() || members.get("result").is_some())
        {
            return Some((value, after));
        }
    }
    None
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside strings by `null`. Returns `None` when the text
/// contains none of them.
fn replace_nan(text: &str) -> Option<ByteString> {
    const WORDS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return None;
    }
    let (mut out, mut rest, mut is_string) = (String::with_capacity(text.len()), text, false);
    while let Some(next) = rest.chars().next() {
        let word = WORDS.iter().find(|word| !is_string && rest.starts_with(**word));
        let taken = match (word, next) {
            (Some(word), _) => {
                out.push_str("null");
                rest = rest.get(word.len()..)?;
                continue;
            }
            (None, '\\') if is_string => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            (None, '"') => {
                is_string = !is_string;
                1
            }
            (None, other) => other.len_utf8(),
        };
        out.push_str(rest.get(..taken)?);
        rest = rest.get(taken..)?;
    }
    Some(ByteString::from(out))
}

/// Parses a value that is one message or a batch. Returns how many there were.
fn parse_value(value: &Json, each: &mut impl FnMut(Result<Message, UnreadableMessage>)) -> usize {
    if value.is_object() {
        each(read_object(value));
        return 1;
    }
    let elements = value.elements().unwrap_or_default();
    for element in elements.iter().take(MESSAGES_MAX) {
        each(read_object(element));
    }
    if elements.is_empty() {
        each(Err(not_a_message()));
    }
    elements.len().max(1)
}

/// The members of an envelope; `null` counts as absent.
#[derive(Default)]
struct LenientEnvelope {
    has_jsonrpc: bool,
    id: EnvelopeMember,
    method: EnvelopeMember,
    params: EnvelopeMember,
    result: EnvelopeMember,
    error: EnvelopeMember,
    /// The envelope has members that log lines have.
    has_log_members: bool,
}

/// A member of an envelope.
#[derive(Default)]
struct EnvelopeMember {
    value: Option<Json>,
    null: Option<Json>,
    is_duplicate: bool,
}

impl EnvelopeMember {
    fn set(&mut self, json: Json) {
        self.is_duplicate |= self.null.is_some() || self.value.is_some();
        let offset = if json.is_null() { &mut self.null } else { &mut self.value };
        *offset = Some(json);
    }
}

impl LenientEnvelope {
    fn read(value: &Json) -> Self {
        let mut envelope = Self::default();
        value.visit_members(|literal, part| {
            let name = serde_json::from_str::<String>(literal).unwrap_or_default();
            let member = match name.as_str() {
                "jsonrpc" => {
                    envelope.has_jsonrpc = true;
                    return;
                }
                "id" => &mut envelope.id,
                "method" => &mut envelope.method,
                "params" => &mut envelope.params,
                "result" => &mut envelope.result,
                "error" => &mut envelope.error,
                other => {
                    envelope.has_log_members |= LOG_MEMBERS.contains(&other);
                    return;
                }
            };
            member.set(part.to_json());
        });
        envelope
    }

    fn has_duplicate(&self) -> bool {
        [&self.id, &self.method, &self.params, &self.result, &self.error].iter().any(|one| one.is_duplicate)
    }

    /// False for a JSON log line. Its `error` is usually a text, and it may contain the identifier of the
    /// request that it is about.
    fn can_be_response(&self) -> bool {
        self.has_jsonrpc
            || !self.has_log_members
            || self.result.value.as_ref().is_some_and(Json::is_object)
            || self.error.value.as_ref().is_some_and(has_code)
    }

    fn unreadable(&self, cause: &str) -> UnreadableMessage {
        // A request of the backend has an identifier of the backend's own.
        let id = self.id.value.as_ref().filter(|_| self.method.value.is_none());
        UnreadableMessage {
            id: id.and_then(|id| parse_number(id.as_str())),
            is_message: self.has_jsonrpc,
            cause: cause.to_owned(),
        }
    }
}

fn not_a_message() -> UnreadableMessage {
    UnreadableMessage { id: None, is_message: false, cause: "it is not a JSON-RPC message".to_owned() }
}

/// Servers may log what they receive. If such a request were answered, the server would log the answer too,
/// and it would be taken for the response to the request.
fn client_request() -> UnreadableMessage {
    UnreadableMessage { cause: "it is a request of a client".to_owned(), ..not_a_message() }
}

fn read_object(value: &Json) -> Result<Message, UnreadableMessage> {
    if !value.is_object() {
        return Err(not_a_message());
    }
    let envelope = LenientEnvelope::read(value);
    let method = envelope.method.value.as_ref();
    if method.is_none() && !envelope.can_be_response() {
        return Err(not_a_message());
    }
    if envelope.has_duplicate() {
        return Err(envelope.unreadable("a member of the message occurs twice"));
    }
    let answer = |outcome| {
        let id = envelope.id.value.clone().and_then(Id::from_json);
        Ok(Message::Response { id, outcome })
    };
    match (method, &envelope.result.value, &envelope.error.value) {
        // Some servers repeat the method in the response, and some write an empty error next to each result.
        (_, Some(result), error) if error.as_ref().is_none_or(is_empty_error) => answer(Ok(result.clone())),
        (_, _, Some(error)) => answer(Err(read_error(error))),
        (Some(method), _, None) => read_backend_message(&envelope, method),
        (None, _, None) => match &envelope.result.null {
            Some(null) => answer(Ok(null.clone())),
            None => Err(envelope.unreadable("it has no `method`, `result` or `error`")),
        },
    }
}

/// Builds a request or a notification of the backend.
fn read_backend_message(envelope: &LenientEnvelope, method: &Json) -> Result<Message, UnreadableMessage> {
    let method = method.decode_string().ok_or_else(|| envelope.unreadable("`method` is not a string"))?;
    if method::is_client_request(&method) {
        return Err(client_request());
    }
    let (method, params) = (ByteString::from(method), envelope.params.value.clone());
    match envelope.id.value.clone().map(Id::from_json) {
        None => Ok(Message::Notification { method, params }),
        Some(Some(id)) => Ok(Message::Request { id, method, params }),
        Some(None) => Err(envelope.unreadable("`id` is neither a text nor a number")),
    }
}

#[cfg(test)]
mod tests;
