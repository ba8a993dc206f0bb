//! Parses YAML text into a tree that keeps the line of each value and the spelling of each scalar. Messages
//! can name the line, and a version number without quotes stays the text that was written. This module does
//! not know the keys of the config.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error as Yaml, NonFiniteFloatPolicy, Options, Spanned};

use crate::report::{Problem, ProblemCode};

/// The largest config file, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;

/// The deepest nesting of a config file. The parser calls itself for each level.
const DEPTH_MAX: usize = 32;

/// A value with its line.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// The line, counted from 1.
    pub(crate) line: u64,
    /// The value.
    pub(crate) kind: NodeKind,
}

impl Node {
    /// The value without lines. Of a key that occurs twice, the last value.
    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            NodeKind::Null => Value::Null,
            NodeKind::Bool(value, _) => (*value).into(),
            NodeKind::Number(number, _) => number.clone().into(),
            NodeKind::Text { text, .. } => text.as_str().into(),
            NodeKind::List(items) => items.iter().map(Self::to_value).collect(),
            NodeKind::Map(entries) => {
                entries.iter().map(|(key, _, value)| (key.clone(), value.to_value())).collect()
            }
        }
    }
}

/// The kind of a value, with its content.
#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    /// No value, or `null`.
    Null,
    /// A truth value and its spelling.
    Bool(bool, String),
    /// A number and its spelling.
    Number(Number, String),
    /// A text.
    Text {
        /// The text itself.
        text: String,
        /// True if the text contained a reference to the environment. It may then be a secret.
        is_expanded: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A map in the order of the file: key, line of the key, value. A key may occur twice.
    Map(Vec<(String, u64, Node)>),
}

/// Parses one YAML document.
///
/// # Errors
/// If the text is larger than [`FILE_BYTES_MAX`], is not YAML, has more than one document, or repeats anchors
/// too often.
pub(crate) fn parse(text: &str) -> Result<Node, Problem> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Problem::new(
            "",
            format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", text.len()),
        )
        .with_code(ProblemCode::File));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: 100_000,
            max_events: 300_000,
            max_anchors: 1_000,
            max_aliases: 1_000,
            max_merge_keys: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        reject_unsupported_tags: true,
    };
    let root = from_str(text, options)?;
    Ok(root.into_node(text))
}

fn from_str(text: &str, options: Options) -> Result<RawNode, Problem> {
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        let whole = error.to_string();
        // The library ends its messages with the position, which here is at the beginning.
        let message = whole.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or(message).trim();
        let location = error.location();
        let message = own_message(error).unwrap_or_else(|| message.to_owned());
        let column =
            location.map_or_else(String::new, |location| format!(" at column {}", location.column()));
        let line = location.map(|location| location.line());
        let problem =
            Problem::new("", format!("not valid YAML{column}: {message}")).with_code(ProblemCode::Syntax);
        let is_flow = line.is_some_and(|line| has_bare_reference(text, line));
        Problem {
            line,
            ..if is_flow {
                problem.with_hint("inside `{}` and `[]`, a text with `${NAME}` needs quotes")
            } else {
                problem
            }
        }
    })
}

/// The message for a limit of this module; the library's messages name its internal counters.
fn own_message(error: &Yaml) -> Option<String> {
    if let Yaml::AliasError { error, .. } = error {
        return own_message(error);
    }
    let repeats_anchors = matches!(
        error,
        Yaml::AliasReplayLimitExceeded { .. }
            | Yaml::AliasExpansionLimitExceeded { .. }
            | Yaml::AliasReplayStackDepthExceeded { .. }
    );
    let is_too_deep = matches!(error, Yaml::Budget { breach: BudgetBreach::Depth { .. }, .. })
        // The parser below the library has a limit of its own, which it reports as text.
        || error.to_string().starts_with("recursion limit");
    if repeats_anchors {
        Some("anchors are repeated too often".to_owned())
    } else if is_too_deep {
        Some(format!("it is nested deeper than {DEPTH_MAX} levels"))
    } else if matches!(error, Yaml::Budget { .. }) {
        Some("it has too many values".to_owned())
    } else if matches!(error, Yaml::MultipleDocuments { .. }) {
        Some("there is more than one document".to_owned())
    } else {
        None
    }
}

/// True if the line has a reference whose braces YAML may have read as a map.
fn has_bare_reference(text: &str, line: u64) -> bool {
    let line = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?));
    line.is_some_and(|line| line.contains("${"))
}

struct RawNode(Spanned<RawKind>);

enum RawKind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<RawNode>),
    Map(Vec<(Spanned<String>, RawNode)>),
}

impl RawNode {
    fn into_node(self, source: &str) -> Node {
        let Self(Spanned { value, referenced, defined }) = self;
        let spelling = || {
            let span = defined.span();
            let range = span.byte_offset().zip(span.byte_len()).and_then(|(from, len)| {
                let from = usize::try_from(from).ok()?;
                Some(from..from.checked_add(usize::try_from(len).ok()?)?)
            });
            range.and_then(|range| source.get(range)).map(|text| text.trim().to_owned())
        };
        let kind = match value {
            RawKind::Null => NodeKind::Null,
            RawKind::Bool(value) => NodeKind::Bool(value, spelling().unwrap_or_else(|| value.to_string())),
            RawKind::Number(value) => {
                let text = spelling().unwrap_or_else(|| value.to_string());
                NodeKind::Number(value, text)
            }
            RawKind::Text(text) => NodeKind::Text { text, is_expanded: false },
            RawKind::List(items) => {
                NodeKind::List(items.into_iter().map(|item| item.into_node(source)).collect())
            }
            RawKind::Map(entries) => NodeKind::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.value, key.referenced.line(), value.into_node(source)))
                    .collect(),
            ),
        };
        Node { line: referenced.line(), kind }
    }
}

impl<'de> Deserialize<'de> for RawNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_none<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawKind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawKind, E> {
        Ok(RawKind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawKind, E> {
        Ok(RawKind::Number(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawKind, E> {
        Ok(RawKind::Text(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawKind, E> {
        Ok(RawKind::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawKind, E> {
        Ok(match Number::from_f64(value) {
            Some(number) => RawKind::Number(number),
            None => RawKind::Text(value.to_string()),
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<RawKind, E> {
        Ok(RawKind::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<RawKind, E> {
        Ok(RawKind::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawKind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawKind::Map(entries))
    }
}

/// The node as JSON, for keys that the schema does not restrict.
pub(crate) fn to_json(node: &Node) -> Value {
    match &node.kind {
        NodeKind::Null => Value::Null,
        NodeKind::Bool(value, _) => (*value).into(),
        NodeKind::Number(number, _) => Value::Number(number.clone()),
        NodeKind::Text { text, .. } => text.clone().into(),
        NodeKind::List(nodes) => nodes.iter().map(to_json).collect(),
        NodeKind::Map(entries) => entries.iter().map(|(key, _, node)| (key.clone(), to_json(node))).collect(),
    }
}

/// A short description of the value for messages. A value from the environment may be a secret, so it is not
/// repeated.
pub(crate) fn describe(node: &Node) -> String {
    match &node.kind {
        NodeKind::Null => "empty".to_owned(),
        NodeKind::Text { is_expanded: true, .. } => "another value from the environment".to_owned(),
        NodeKind::Text { text, .. } if text.chars().count() > 40 || text.contains('\n') => {
            "a text".to_owned()
        }
        NodeKind::Text { text, .. } | NodeKind::Bool(_, text) | NodeKind::Number(_, text) => {
            format!("`{text}`")
        }
        NodeKind::List(_) => "a list".to_owned(),
        NodeKind::Map(_) => "a map".to_owned(),
    }
}
