//! The data of templates: JSON values that share their parts.

mod decode;

use std::sync::{Arc, OnceLock};

use vmcp_json::Json;

use crate::number::Number;

/// A value. A clone shares lists, objects and strings.
#[derive(Clone, Debug)]
pub enum Value {
    /// Data that does not exist, and JSON's null. Templates do not distinguish them.
    Missing,
    /// `true` or `false`.
    Boolean(bool),
    /// A number.
    Number(Number),
    /// A string.
    String(Arc<str>),
    /// A list.
    List(Arc<List>),
    /// An object.
    Object(Arc<Object>),
    /// A value that is decoded when it is read first.
    Deferred(Arc<Deferred>),
}

/// A list.
#[derive(Debug)]
pub struct List {
    items: Vec<Value>,
}

/// An object. Its members are in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Sorted by their names, each name once. A list, because most objects have few members.
    members: Vec<(Arc<str>, Value)>,
    /// The text that the object was decoded from, which has the members in their own order.
    pub(crate) text: Option<Json>,
}

/// A value with its text, which is decoded once.
#[derive(Debug)]
pub struct Deferred {
    pub(crate) text: Json,
    value: OnceLock<Value>,
}

impl Value {
    /// Decodes a JSON value.
    #[must_use]
    pub fn decode(json: &Json) -> Self {
        decode::decode(json)
    }

    /// A value that is decoded when a template reads it first.
    #[must_use]
    pub fn deferred(json: Json) -> Self {
        Self::Deferred(Arc::new(Deferred { text: json, value: OnceLock::new() }))
    }

    /// A string.
    #[must_use]
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Self::String(text.into())
    }

    /// An integer.
    #[must_use]
    pub fn integer(value: i64) -> Self {
        Self::Number(Number::Integer(value))
    }

    /// A list.
    #[must_use]
    pub fn list(items: Vec<Self>) -> Self {
        Self::List(Arc::new(List { items }))
    }

    /// An object.
    #[must_use]
    pub fn object<N: Into<Arc<str>>>(members: impl IntoIterator<Item = (N, Self)>) -> Self {
        let members = members.into_iter().map(|(name, value)| (name.into(), value));
        Self::Object(Arc::new(Object::new(members, None)))
    }

    /// An object that shares its members with `object`.
    #[must_use]
    pub fn from_object(object: Object) -> Self {
        Self::Object(Arc::new(object))
    }

    /// The value itself, decoded.
    #[must_use]
    pub fn resolve(&self) -> &Self {
        match self {
            Self::Deferred(deferred) => deferred.value.get_or_init(|| Self::decode(&deferred.text)),
            Self::Missing
            | Self::Boolean(_)
            | Self::Number(_)
            | Self::String(_)
            | Self::List(_)
            | Self::Object(_) => self,
        }
    }

    /// The member `name` of an object. `None` for a value that has no members.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        match self.resolve() {
            Self::Object(object) => Some(object.get(name).cloned().unwrap_or(Self::Missing)),
            Self::Missing => Some(Self::Missing),
            Self::Boolean(_) | Self::Number(_) | Self::String(_) | Self::List(_) | Self::Deferred(_) => None,
        }
    }

    /// Whether a condition with this value holds: `false`, zero, nothing and everything empty do not.
    #[must_use]
    pub fn is_true(&self) -> bool {
        match self.resolve() {
            Self::Missing | Self::Deferred(_) => false,
            Self::Boolean(value) => *value,
            Self::Number(number) => !number.is_zero(),
            Self::String(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Object(object) => !object.members.is_empty(),
        }
    }

    /// Whether the value is missing or null.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.resolve(), Self::Missing)
    }

    /// The text of a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if let Self::String(text) = self.resolve() { Some(text) } else { None }
    }

    /// The number.
    #[must_use]
    pub fn as_number(&self) -> Option<&Number> {
        if let Self::Number(number) = self.resolve() { Some(number) } else { None }
    }

    /// The items of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self.resolve() { Some(&list.items) } else { None }
    }

    /// The members of an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self.resolve() { Some(object) } else { None }
    }

    /// What the value is, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self.resolve() {
            Self::Missing | Self::Deferred(_) => "nothing",
            Self::Boolean(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self.resolve(), other.resolve()) {
            (Self::Missing, Self::Missing) => true,
            (Self::Boolean(left), Self::Boolean(right)) => left == right,
            (Self::Number(left), Self::Number(right)) => left == right,
            (Self::String(left), Self::String(right)) => left == right,
            (Self::List(left), Self::List(right)) => left.items == right.items,
            (Self::Object(left), Self::Object(right)) => left.members == right.members,
            (_, _) => false,
        }
    }
}

impl List {
    /// The items.
    #[must_use]
    pub fn items(&self) -> &[Value] {
        &self.items
    }
}

impl Object {
    /// The last of members with the same name counts.
    pub(crate) fn new(members: impl Iterator<Item = (Arc<str>, Value)>, text: Option<Json>) -> Self {
        let mut members: Vec<(Arc<str>, Value)> = members.collect();
        // The sort is stable, so the last of equal names comes last.
        members.sort_by(|(left, _), (right, _)| left.cmp(right));
        members.reverse();
        members.dedup_by(|(later, _), (kept, _)| later == kept);
        members.reverse();
        members.shrink_to_fit();
        Self { members, text }
    }

    /// The member of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.position(name).ok().and_then(|index| self.members.get(index)).map(|(_, value)| value)
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.members.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    /// The members in the order of their names.
    #[must_use]
    pub fn members(&self) -> &[(Arc<str>, Value)] {
        &self.members
    }

    /// Sets a member.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: Value) {
        let name = name.into();
        match self.position(&name) {
            Ok(index) => self.members[index].1 = value,
            Err(index) => self.members.insert(index, (name, value)),
        }
        self.text = None;
    }
}

#[cfg(test)]
mod tests;
