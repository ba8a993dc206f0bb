//! Raw JSON text that is validated once, then shared, sliced and re-assembled without a tree. Key order,
//! number spellings and unknown members survive. `vmcp-wire` defines what the members of MCP messages mean.

pub(crate) mod case_fold;
pub(crate) mod member_ranges;
pub(crate) mod validator;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Range;

use bytestring::ByteString;
use serde::de::Deserialize;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

pub use crate::json::case_fold::{Ambiguity, eq_ignore_case, fold_case};

/// The most members of an object that is split: each takes about 60 bytes, and 5 bytes of text make one.
const MEMBERS_MAX: usize = 10_000;
/// The initial capacity for members: enough for most objects and a few later additions.
const TYPICAL_MEMBER_COUNT: usize = 6;

/// One validated JSON value as text. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(ByteString);

/// Why a text is not the expected JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(#[from] serde_json::Error);

impl Json {
    /// The most members of an object that [`Json::members`] accepts.
    pub const MEMBERS_MAX: usize = MEMBERS_MAX;

    /// Validates `text` as exactly one JSON value. Surrounding white space is dropped.
    ///
    /// # Errors
    /// When the text is not exactly one JSON value; the error says where.
    pub fn parse(text: impl Into<ByteString>) -> Result<Self, JsonError> {
        let text = text.into();
        let raw: &RawValue = serde_json::from_str(&text)?;
        Ok(Self(text.slice_ref(raw.get())))
    }

    /// Validates `text` as one JSON value nested at most `depth_max` deep. Surrounding white space is
    /// dropped. This is faster than [`Json::parse`], but it cannot say what is wrong.
    #[must_use]
    pub fn validate(text: &ByteString, depth_max: usize) -> Option<Self> {
        validator::is_json(text, depth_max).then(|| Self(text.slice_ref(text.trim_ascii())))
    }

    /// Wraps a raw value that serde has validated, and shares the bytes of `parent`.
    ///
    /// `raw` should be borrowed from `parent`. A value from elsewhere is copied.
    #[must_use]
    pub fn slice_of(parent: &ByteString, raw: &RawValue) -> Self {
        let (outer, inner) = (parent.as_bytes().as_ptr_range(), raw.get().as_bytes().as_ptr_range());
        if outer.start <= inner.start && inner.end <= outer.end {
            Self(parent.slice_ref(raw.get()))
        } else {
            Self(ByteString::from(raw.get()))
        }
    }

    /// Serialises `value` as JSON.
    ///
    /// # Errors
    /// When JSON cannot represent the value, for example a map with keys that are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, JsonError> {
        Ok(Self(ByteString::from(serde_json::to_string(value)?)))
    }

    /// Builds the JSON string literal of `text`, with escapes where needed.
    #[must_use]
    pub fn string(text: &str) -> Self {
        if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            return Self::encode(text).unwrap_or_else(|_| Self(ByteString::from_static("\"\"")));
        }
        // With the exact capacity the buffer is shared without another allocation.
        let mut literal = String::with_capacity(text.len() + 2);
        literal.push('"');
        literal.push_str(text);
        literal.push('"');
        Self(ByteString::from(literal))
    }

    /// Builds a JSON number.
    #[must_use]
    pub fn integer(value: i64) -> Self {
        let count = value.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
        let mut digits = String::with_capacity(count + usize::from(value < 0));
        // Writing to a `String` cannot fail.
        let _ = write!(digits, "{value}");
        Self(ByteString::from(digits))
    }

    /// Builds `true` or `false`.
    #[must_use]
    pub fn boolean(value: bool) -> Self {
        Self(ByteString::from_static(if value { "true" } else { "false" }))
    }

    /// Builds the JSON array of `items`.
    #[must_use]
    pub fn array(items: &[Self]) -> Self {
        let items: Vec<&str> = items.iter().map(Self::as_str).collect();
        Self(ByteString::from(format!("[{}]", items.join(","))))
    }

    /// Builds `{}`.
    #[must_use]
    pub fn empty_object() -> Self {
        Self(ByteString::from_static("{}"))
    }

    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as text, with its shared buffer.
    #[must_use]
    pub fn text(&self) -> &ByteString {
        &self.0
    }

    /// Deserialises the value, borrowing from the text where the type allows.
    ///
    /// # Errors
    /// When the value does not have the form of `T`.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, JsonError> {
        Ok(serde_json::from_str(&self.0)?)
    }

    /// The members of the object in order, values unchanged.
    ///
    /// # Errors
    /// When the value is not an object, or it has more than [`Json::MEMBERS_MAX`] members.
    pub fn members(&self) -> Result<Members, JsonError> {
        let slice = |range: Range<usize>| Self(self.0.slice_ref(self.0.get(range).unwrap_or_default()));
        let (mut members, mut count) = (Vec::new(), 0_usize);
        let each = |key, value| {
            if members.capacity() == 0 {
                members.reserve(TYPICAL_MEMBER_COUNT);
            }
            count += 1;
            if count <= MEMBERS_MAX {
                members.push((slice(key), slice(value)));
            }
        };
        let Some(()) = member_ranges::visit_member_ranges(&self.0, each) else {
            let error = serde::de::Error::custom("not an object");
            return Err(JsonError(error));
        };
        if count > MEMBERS_MAX {
            let error =
                serde::de::Error::custom(format_args!("an object with more than {MEMBERS_MAX} members"));
            return Err(JsonError(error));
        }
        Ok(Members(members))
    }

    /// Calls `each` with the name (as its JSON literal) and the value of every member, in order. Returns
    /// false when the value is not an object.
    pub fn visit_members<'a>(&'a self, mut each: impl FnMut(&'a str, JsonSlice<'a>)) -> bool {
        let text = |range| self.0.get(range).unwrap_or_default();
        let each = |key, value| each(text(key), JsonSlice { whole: &self.0, text: text(value) });
        member_ranges::visit_member_ranges(&self.0, each).is_some()
    }

    /// The elements of the array, values unchanged.
    ///
    /// # Errors
    /// When the value is not an array.
    pub fn elements(&self) -> Result<Vec<Self>, JsonError> {
        let raw: Vec<&RawValue> = serde_json::from_str(&self.0)?;
        Ok(raw.into_iter().map(|raw| Self::slice_of(&self.0, raw)).collect())
    }

    /// True for an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// True for `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }

    /// The decoded text of a JSON string, or `None` for any other value.
    #[must_use]
    pub fn decode_string(&self) -> Option<String> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inside.contains('\\') { self.decode::<String>().ok() } else { Some(inside.to_owned()) }
    }
}

/// A value inside another value, which borrows from it.
#[derive(Clone, Copy, Debug)]
pub struct JsonSlice<'a> {
    whole: &'a ByteString,
    text: &'a str,
}

impl<'a> JsonSlice<'a> {
    /// The value as text.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// The content of a string without escapes, sharing the bytes of the whole value. `None` for anything
    /// else.
    #[must_use]
    pub fn plain_text(self) -> Option<ByteString> {
        let inside = self.text.strip_prefix('"')?.strip_suffix('"')?;
        (!inside.contains('\\')).then(|| self.whole.slice_ref(inside))
    }

    /// The value as [`Json`], sharing the bytes of the whole value.
    #[must_use]
    pub fn to_json(self) -> Json {
        Json(self.whole.slice_ref(self.text))
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: Box<RawValue> = Box::deserialize(deserializer)?;
        Ok(Self(ByteString::from(String::from(Box::<str>::from(raw)))))
    }
}

/// The members of one JSON object in their original order, keys and values as raw text.
///
/// A key that occurs twice is kept twice, so that what arrives is also sent. [`Members::get`] returns the
/// last, as common parsers do, and [`Members::insert`] leaves exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(Vec<(Json, Json)>);

impl Members {
    /// Builds an empty object.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of the last member called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().rev().find(|(key, _)| is_key(key, name)).map(|(_, value)| value)
    }

    /// Removes every member called `name` and returns the value of the last one.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        self.0.extract_if(.., |(key, _)| is_key(key, name)).last().map(|(_, value)| value)
    }

    /// Sets `name` to `value`, at the index of the first member of this name, else at the end. Other members
    /// of this name are removed.
    pub fn insert(&mut self, name: &str, value: Json) {
        let Some(range) = self.0.iter().position(|(key, _)| is_key(key, name)) else {
            self.0.push((Json::string(name), value));
            return;
        };
        let mut index = 0;
        self.0.retain(|(key, _)| {
            let keep = index <= range || !is_key(key, name);
            index += 1;
            keep
        });
        if let Some(slot) = self.0.get_mut(range) {
            slot.1 = value;
        }
    }

    /// Appends all of `more` and removes the members of `self` that `more` has too. It searches `more` once
    /// for every member of `self`, so `self` should be the smaller one: a peer may choose the size of both.
    pub fn merge(&mut self, more: Self) {
        self.0.retain(|(key, _)| more.get(&decode_key(key)).is_none());
        self.0.extend(more.0);
    }

    /// Removes and returns the members for which `is_extracted` holds, in order. `is_extracted` receives the decoded key
    /// and the value.
    #[must_use]
    pub fn extract_if(&mut self, mut is_extracted: impl FnMut(&str, &Json) -> bool) -> Self {
        let leaving = self.0.iter().filter(|(key, value)| is_extracted(&decode_key(key), value)).count();
        match self.0.len() - leaving {
            0 => std::mem::take(self),
            _ if leaving == 0 => Self::new(),
            _ => Self(self.0.extract_if(.., |(key, value)| is_extracted(&decode_key(key), value)).collect()),
        }
    }

    /// Keeps the members for which `keep` holds. `keep` receives the decoded key and the value.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Json) -> bool) {
        self.0.retain(|(key, value)| keep(&decode_key(key), value));
    }

    /// The members in order, keys decoded.
    pub fn iter(&self) -> impl Iterator<Item = (Cow<'_, str>, &Json)> {
        self.0.iter().map(|(key, value)| (decode_key(key), value))
    }

    /// The number of members, duplicates included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the members to `out` as comma-separated `"key":value` pairs without braces. Returns whether it
    /// wrote anything.
    pub fn write_pairs(&self, out: &mut Vec<u8>) -> bool {
        self.write_pairs_without_large(out, usize::MAX);
        !self.0.is_empty()
    }

    /// Like [`Members::write_pairs`], but leaves out the first value of at least `large` bytes, so that it
    /// can be sent without a copy. Returns the offset in `out` where that value belongs, and its text.
    pub fn write_pairs_without_large(&self, out: &mut Vec<u8>, large: usize) -> Option<(usize, ByteString)> {
        let mut large_value = None;
        for (index, (key, value)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(key.as_str().as_bytes());
            out.push(b':');
            if large_value.is_none() && value.as_str().len() >= large {
                large_value = Some((out.len(), value.text().clone()));
            } else {
                out.extend_from_slice(value.as_str().as_bytes());
            }
        }
        large_value
    }

    /// The object as JSON text.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let pairs: usize = self.0.iter().map(|(key, value)| key.0.len() + 1 + value.0.len()).sum();
        // The exact capacity, for the same reason as in `Json::string`.
        let mut out = Vec::with_capacity(2 + pairs + self.0.len().saturating_sub(1));
        out.push(b'{');
        self.write_pairs(&mut out);
        out.push(b'}');
        Json(ByteString::try_from(out).unwrap_or_else(|_| ByteString::from_static("{}")))
    }
}

impl FromIterator<(String, Json)> for Members {
    fn from_iter<I: IntoIterator<Item = (String, Json)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (Json::string(&key), value)).collect())
    }
}

fn is_key(key: &Json, name: &str) -> bool {
    let literal = key.as_str();
    match literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => plain == name,
        Some(_) => key.decode_string().is_some_and(|text| text == name),
        None => false,
    }
}

fn decode_key(key: &Json) -> Cow<'_, str> {
    match key.as_str().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        _ => Cow::Owned(key.decode_string().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
