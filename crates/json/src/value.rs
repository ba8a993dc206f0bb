//! One JSON value as raw text, and slices of it.

use std::fmt::{self, Write as _};

use bytestring::ByteString;
use serde::de::Deserialize;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::validator;

/// One validated JSON value as text. A clone shares the bytes.
///
/// ```
/// use vmcp_json::Json;
///
/// let call = Json::parse(r#"{"name": "search", "arguments": {"limit": 1.0}}"#)?;
/// let mut members = call.members()?;
/// members.insert("name", Json::string("files_search"));
/// // Everything else is unchanged, number spellings included.
/// assert_eq!(members.to_json().as_str(), r#"{"name":"files_search","arguments":{"limit": 1.0}}"#);
/// # Ok::<(), vmcp_json::JsonError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(pub(crate) ByteString);

/// Why a text is not the expected JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(#[from] pub(crate) serde_json::Error);

impl Json {
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

    /// The value `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(ByteString::from_static("null"))
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

    /// The decoded text of a JSON string, or `None` for any other value. Lone surrogates become U+FFFD.
    #[must_use]
    pub fn decode_string(&self) -> Option<String> {
        let inside = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if !inside.contains('\\') {
            return Some(inside.to_owned());
        }
        self.decode().or_else(|_| self.replace_lone_surrogates().decode()).ok()
    }
}

/// A value inside another value, which borrows from it.
#[derive(Clone, Copy, Debug)]
pub struct JsonSlice<'a> {
    pub(crate) whole: &'a ByteString,
    pub(crate) text: &'a str,
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
