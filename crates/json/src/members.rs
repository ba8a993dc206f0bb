//! The members of a JSON object as raw text.

use std::borrow::Cow;
use std::ops::Range;

use bytestring::ByteString;

use crate::member_ranges;
use crate::value::{Json, JsonError, JsonSlice};

/// The initial capacity for members: enough for most objects and a few later additions.
const TYPICAL_MEMBER_COUNT: usize = 6;

/// The members of one JSON object in their original order, keys and values as raw text.
///
/// A key that occurs twice is kept twice, so that what arrives is also sent. [`Members::get`] returns the
/// last, as common parsers do, and [`Members::insert`] leaves exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(pub(crate) Vec<(Json, Json)>);

impl Json {
    /// The most members of an object that [`Json::members`] accepts: each takes about 60 bytes, and 5 bytes of
    /// text make one.
    pub const MEMBERS_MAX: usize = 10_000;

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
            if count <= Self::MEMBERS_MAX {
                members.push((slice(key), slice(value)));
            }
        };
        let Some(()) = member_ranges::visit_member_ranges(&self.0, each) else {
            let error = serde::de::Error::custom("not an object");
            return Err(JsonError(error));
        };
        if count > Self::MEMBERS_MAX {
            let error = serde::de::Error::custom(format_args!(
                "an object with more than {} members",
                Self::MEMBERS_MAX
            ));
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
}

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
        let pairs: usize =
            self.0.iter().map(|(key, value)| key.as_str().len() + 1 + value.as_str().len()).sum();
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

pub(crate) fn decode_key(key: &Json) -> Cow<'_, str> {
    match key.as_str().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        _ => Cow::Owned(key.decode_string().unwrap_or_default()),
    }
}
