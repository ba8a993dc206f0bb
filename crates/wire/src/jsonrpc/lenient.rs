//! Reading what backends write. Servers in many languages spell the envelope in their own ways, and a call must not
//! wait for its time-out because of a spelling: whatever can be read without a guess is read, and anything else that
//! names a request ends that request at once.
//!
//! Read: byte order marks, bytes that are not UTF-8, `NaN` and `Infinity`, a missing `jsonrpc`, `null` for an absent
//! member, identifiers as texts or fractions, error objects of any types, log text around a message, several messages
//! in one text. Not read: members given twice. Of a result and
//! an error the error counts, unless it says nothing.

use bytes::Bytes;
use bytestring::ByteString;
use serde_json::value::RawValue;
use vmcp_domain::Json;

use super::error_object::{is_empty_error, read_error};
use super::{DEPTH_MAX, Id, Message, depth_within, number_by_value, usual};

/// How many places of one text are tried for the start of a message, and how long such a text may be: a log line before a
/// message is short, and each try may read all of it.
const STARTS_MAX: usize = 16;
const EMBEDDED_BYTES_MAX: usize = 4 << 20;
/// How many messages of one text are read.
const MESSAGES_MAX: usize = 10_000;

/// A text that is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The request of ours that it names and does not answer in a way that can be read.
    pub id: Option<u64>,
    /// The text was plainly meant as a message.
    pub is_message: bool,
    /// What is wrong with it. Names nothing of its content.
    pub cause: String,
}

/// Reads the messages in what a backend wrote as one: a line, an event, or a body. `each` gets every one of them, and
/// what cannot be read; at least one of either.
pub fn hear(bytes: Bytes, mut each: impl FnMut(Result<Message, Unreadable>)) {
    let text = decode(bytes);
    // As nearly everybody writes it.
    match usual(&text) {
        Some(message) => each(Ok(message)),
        None => hear_unusual(&text, &mut each),
    }
}

/// Text of the bytes, without byte order marks. What is not UTF-8 becomes U+FFFD.
fn decode(bytes: Bytes) -> ByteString {
    let text = ByteString::try_from(bytes.clone())
        .unwrap_or_else(|_| ByteString::from(String::from_utf8_lossy(&bytes).into_owned()));
    match text.strip_prefix('\u{feff}') {
        Some(rest) => text.slice_ref(rest.trim_start_matches('\u{feff}')),
        None => text,
    }
}

fn hear_unusual(text: &ByteString, each: &mut impl FnMut(Result<Message, Unreadable>)) {
    if !depth_within(text.as_bytes(), DEPTH_MAX) {
        let cause = format!("the message is nested deeper than {DEPTH_MAX} levels");
        return each(Err(Unreadable { id: find_id(text), is_message: true, cause }));
    }
    let mut rest = text.clone();
    let mut heard = 0_usize;
    while let Some((value, after)) = first_value(&rest) {
        heard += hear_value(&value, each);
        if heard >= MESSAGES_MAX || after.trim_ascii().is_empty() {
            return;
        }
        // A log line may follow a message; another message may too.
        match after.trim_ascii_start().starts_with(['{', '[']) {
            true => rest = after,
            false => return,
        }
    }
    if heard > 0 && !looks_like_a_message(&rest) {
        return;
    }
    if let Some((value, _)) = embedded(&rest) {
        hear_value(&value, each);
        return;
    }
    let cause = match serde_json::from_str::<&RawValue>(&rest) {
        Err(error) => format!("it is not valid JSON: {error}"),
        Ok(_) => "it is not a JSON-RPC message".to_owned(),
    };
    each(Err(Unreadable { id: find_id(&rest), is_message: looks_like_a_message(&rest), cause }));
}

fn looks_like_a_message(text: &str) -> bool {
    text.contains("\"jsonrpc\"") || text.contains("\"result\"") || text.contains("\"error\"")
}

/// The JSON value that the text begins with, and what follows it.
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
    first(text).or_else(|| first(&without_nan(text)?))
}

/// The first message with something else before it.
fn embedded(text: &ByteString) -> Option<(Json, ByteString)> {
    if text.len() > EMBEDDED_BYTES_MAX {
        return None;
    }
    let starts = text.match_indices('{').map(|(place, _)| place).take(STARTS_MAX);
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

/// The text with `null` for `NaN`, `Infinity` and `-Infinity`, where it has some outside of strings.
fn without_nan(text: &str) -> Option<ByteString> {
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

/// Reads a value that is one message, or a batch of them. Returns how many there were.
fn hear_value(value: &Json, each: &mut impl FnMut(Result<Message, Unreadable>)) -> usize {
    if value.is_object() {
        each(read_object(value));
        return 1;
    }
    let elements = value.elements().unwrap_or_default();
    for element in elements.iter().take(MESSAGES_MAX) {
        each(read_object(element));
    }
    if elements.is_empty() {
        let cause = "it is not a JSON-RPC message".to_owned();
        each(Err(Unreadable { id: None, is_message: false, cause }));
    }
    elements.len().max(1)
}

/// The members of an envelope; `null` is absence.
#[derive(Default)]
struct Envelope {
    is_marked: bool,
    id: Option<Json>,
    method: Option<Json>,
    params: Option<Json>,
    result: Option<Json>,
    error: Option<Json>,
    null_result: Option<Json>,
    doubled: bool,
}

impl Envelope {
    fn read(value: &Json) -> Self {
        let mut envelope = Self::default();
        let mut named: Vec<&'static str> = Vec::new();
        value.visit_members(|literal, part| {
            let json = part.to_json();
            let is_null = json.is_null();
            let name = serde_json::from_str::<String>(literal).unwrap_or_default();
            let (name, slot) = match name.as_str() {
                "jsonrpc" => {
                    envelope.is_marked = true;
                    return;
                }
                "id" => ("id", &mut envelope.id),
                "method" => ("method", &mut envelope.method),
                "params" => ("params", &mut envelope.params),
                "result" if is_null => ("result", &mut envelope.null_result),
                "result" => ("result", &mut envelope.result),
                "error" => ("error", &mut envelope.error),
                _ => return,
            };
            envelope.doubled |= named.contains(&name);
            named.push(name);
            if !is_null || name == "result" {
                *slot = Some(json);
            }
        });
        envelope
    }

    fn unreadable(&self, cause: &str) -> Unreadable {
        // A request of the backend has a number of its own.
        let id = self.id.as_ref().filter(|_| self.method.is_none());
        Unreadable {
            id: id.and_then(|id| number_by_value(id.as_str())),
            is_message: self.is_marked || self.result.is_some() || self.error.is_some(),
            cause: cause.to_owned(),
        }
    }
}

fn read_object(value: &Json) -> Result<Message, Unreadable> {
    if !value.is_object() {
        let cause = "it is not a JSON-RPC message".to_owned();
        return Err(Unreadable { id: None, is_message: false, cause });
    }
    let envelope = Envelope::read(value);
    if envelope.doubled {
        return Err(envelope.unreadable("a member of the message is given twice"));
    }
    match (&envelope.method, &envelope.result, &envelope.error) {
        // Some servers repeat the method in the answer, and some write an empty error beside each result.
        (_, Some(result), error) if error.as_ref().is_none_or(is_empty_error) => {
            Ok(Message::Response { id: envelope.id.and_then(Id::from_json), outcome: Ok(result.clone()) })
        }
        (_, _, Some(error)) => {
            let outcome = Err(read_error(error));
            Ok(Message::Response { id: envelope.id.and_then(Id::from_json), outcome })
        }
        (Some(method), _, None) => {
            let method = method.to_text().ok_or_else(|| envelope.unreadable("`method` is no text"))?;
            let method = ByteString::from(method);
            match envelope.id.map(Id::from_json) {
                None => Ok(Message::Notification { method, params: envelope.params }),
                Some(Some(id)) => Ok(Message::Request { id, method, params: envelope.params }),
                Some(None) => Err(Unreadable {
                    id: None,
                    is_message: true,
                    cause: "`id` is neither a text nor a number".to_owned(),
                }),
            }
        }
        (None, _, None) => match envelope.null_result.clone() {
            Some(null) => {
                Ok(Message::Response { id: envelope.id.and_then(Id::from_json), outcome: Ok(null) })
            }
            None => Err(envelope.unreadable("it has no `method`, `result` or `error`")),
        },
    }
}

/// The number under `id` in a text that is no JSON: of the outermost object as far as its start can be followed, else
/// of its very end.
fn find_id(text: &str) -> Option<u64> {
    let text = text.get(text.find('{')?..)?;
    id_from_start(text).or_else(|| id_at_end(text))
}

fn id_from_start(text: &str) -> Option<u64> {
    let (mut depth, mut place) = (0_usize, 0_usize);
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(place) {
        place += 1;
        match byte {
            b'"' => {
                let end = super::after_string(bytes, place);
                let name = text.get(place..end.checked_sub(1)?)?;
                place = end;
                let value = text.get(end..)?.trim_ascii_start().strip_prefix(':');
                if let Some(value) = value.filter(|_| depth == 1 && name == "id") {
                    return leading_number(value.trim_ascii_start());
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn leading_number(text: &str) -> Option<u64> {
    match text.strip_prefix('"') {
        Some(inside) => number_by_value(inside.split('"').next()?),
        None => {
            let is_number = |char: char| char.is_ascii_digit() || matches!(char, '.' | 'e' | 'E' | '+' | '-');
            number_by_value(text.split(|char| !is_number(char)).next()?)
        }
    }
}

fn id_at_end(text: &str) -> Option<u64> {
    let text = text.trim_ascii_end().strip_suffix('}')?;
    let (before, value) = text.rsplit_once(':')?;
    let name = before.trim_ascii_end();
    let is_member = name.strip_suffix("\"id\"")?.trim_ascii_end().ends_with([',', '{']);
    if is_member { number_by_value(value.trim_ascii()) } else { None }
}

#[cfg(test)]
mod tests;
