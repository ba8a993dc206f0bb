//! What a policy reads, found once in its syntax tree, so that a decision collects only what some policy
//! reads.
//!
//! Cedar reaches attributes by literal names only, so data that no policy names cannot affect a decision.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use vmcp_json::fold_case;

use crate::policy::names::{ARGUMENT_PREFIX, HINT_ATTRIBUTES, PRESENT_SUFFIX};

/// One `x.attribute` or `x has attribute`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    /// `principal`, `action`, `resource` or `context`, where `x` is one of these.
    pub(crate) variable: Option<String>,
    pub(crate) attribute: String,
    /// The access is `has`, which is no error when the attribute is missing.
    pub(crate) is_has: bool,
}

/// What one policy reads, or several after [`Self::merge`].
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyReads {
    pub(crate) accesses: HashSet<Access>,
    /// A policy uses `context` as a whole, so all its members matter.
    pub(crate) whole_context: bool,
    pub(crate) context: bool,
    pub(crate) principal: bool,
    pub(crate) action: bool,
    pub(crate) resource: bool,
}

impl PolicyReads {
    pub(crate) fn from_tree(tree: &Value) -> Self {
        let mut reads = Self::default();
        if let Some(conditions) = tree.get("conditions") {
            reads.walk(conditions);
        }
        reads
    }

    fn walk(&mut self, node: &Value) {
        match node {
            Value::Array(elements) => elements.iter().for_each(|element| self.walk(element)),
            Value::Object(members) => {
                for (key, value) in members {
                    match key.as_str() {
                        "." | "has" if self.note_access(value, key == "has") => {}
                        "Var" => {
                            self.note_variable(value.as_str());
                            self.whole_context |= value == "context";
                        }
                        _ => self.walk(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn note_variable(&mut self, name: Option<&str>) {
        self.context |= name == Some("context");
        self.principal |= name == Some("principal");
        self.action |= name == Some("action");
        self.resource |= name == Some("resource");
    }

    /// Records the access `{"left": …, "attr": …}`; false for a node of any other shape.
    fn note_access(&mut self, node: &Value, is_has: bool) -> bool {
        let (Some(left), Some(names)) = (node.get("left"), node.get("attr")) else { return false };
        let of = left.get("Var").and_then(Value::as_str);
        match of {
            Some(_) => self.note_variable(of),
            None => self.walk(left),
        }
        // `has a.b.c` reads `a` of the left side, then `b` of the result, then `c`.
        let path: Vec<&str> = match names {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                names.as_str().into_iter().collect()
            }
        };
        for (depth, name) in path.into_iter().enumerate() {
            let of = of.filter(|_| depth == 0).map(str::to_owned);
            self.accesses.insert(Access { variable: of, attribute: name.to_owned(), is_has });
        }
        true
    }

    pub(crate) fn merge(&mut self, more: &Self) {
        let Self { accesses, whole_context, context, principal, action, resource } = more;
        self.accesses.extend(accesses.iter().cloned());
        self.whole_context |= whole_context;
        self.context |= context;
        self.principal |= principal;
        self.action |= action;
        self.resource |= resource;
    }

    /// Whether a decision needs the call's arguments.
    pub(crate) fn reads_arguments(&self) -> bool {
        self.whole_context || self.accesses.iter().any(|access| access.attribute.starts_with(ARGUMENT_PREFIX))
    }

    /// Whether a decision needs the tool's annotations.
    pub(crate) fn reads_hints(&self) -> bool {
        self.accesses.iter().any(|access| HINT_ATTRIBUTES.contains(&access.attribute.as_str()))
    }

    pub(crate) fn referenced_names(&self) -> ReferencedNames {
        let attributes: HashSet<String> =
            self.accesses.iter().map(|access| access.attribute.clone()).collect();
        let arguments: HashSet<String> = attributes
            .iter()
            .filter_map(|name| name.strip_prefix(ARGUMENT_PREFIX))
            .map(str::to_owned)
            .collect();
        let present: HashSet<String> = arguments
            .iter()
            .filter_map(|name| name.strip_suffix(PRESENT_SUFFIX))
            .map(str::to_owned)
            .collect();
        let mut folded = HashMap::new();
        for name in arguments.iter().chain(&present) {
            let name: &String = name;
            folded.insert(fold_case(name).into_owned(), name.clone());
        }
        ReferencedNames { attributes, arguments, present, folded, reads_whole_context: self.whole_context }
    }
}

/// The names that some policy reads.
#[derive(Clone, Debug)]
pub(crate) struct ReferencedNames {
    attributes: HashSet<String>,
    arguments: HashSet<String>,
    present: HashSet<String>,
    /// The arguments that policies read, by their case-folded names.
    folded: HashMap<String, String>,
    /// Some policy reads the context as a whole.
    reads_whole_context: bool,
}

impl ReferencedNames {
    /// Whether some policy reads an entity attribute of this name.
    pub(crate) fn reads_attribute(&self, name: &str) -> bool {
        self.attributes.contains(name)
    }

    /// Whether some policy reads this member of the context.
    pub(crate) fn reads_context_member(&self, name: &str) -> bool {
        self.reads_whole_context || self.attributes.contains(name)
    }

    /// Whether some policy reads the argument `name`.
    ///
    /// # Errors
    /// The argument that a policy reads, when `name` differs from it only in letter case: the backend may
    /// treat them as the same argument.
    pub(crate) fn reads_argument(&self, name: &str) -> Result<bool, &str> {
        if self.reads_whole_context || self.arguments.contains(name) || self.present.contains(name) {
            return Ok(true);
        }
        self.folded.get(&*fold_case(name)).map_or(Ok(false), |known| Err(known))
    }
}
