//! What a policy looks at, found in its syntax tree once, so that a decision gathers only what some policy reads.
//! Cedar reaches attributes by literal names only, so what no policy names makes no difference.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use vmcp_domain::fold;

use crate::words::{ARGUMENT, HINTS, PRESENT};

/// One `x.attribute` or `x has attribute`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    /// `principal`, `action`, `resource` or `context`, where `x` is one of these.
    pub(crate) of: Option<String>,
    pub(crate) attribute: String,
    /// `has`, which is no error when there is nothing.
    pub(crate) asks: bool,
}

/// What one policy, or several, look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    pub(crate) accesses: HashSet<Access>,
    /// `context` as a whole, so that all of it counts.
    pub(crate) whole_context: bool,
    pub(crate) context: bool,
    pub(crate) principal: bool,
    pub(crate) action: bool,
    pub(crate) resource: bool,
}

impl Reads {
    pub(crate) fn of(tree: &Value) -> Self {
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
                        "." | "has" if self.access(value, key == "has") => {}
                        "Var" => {
                            self.variable(value.as_str());
                            self.whole_context |= value == "context";
                        }
                        _ => self.walk(value),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn variable(&mut self, name: Option<&str>) {
        self.context |= name == Some("context");
        self.principal |= name == Some("principal");
        self.action |= name == Some("action");
        self.resource |= name == Some("resource");
    }

    /// Notes `{"left": …, "attr": …}`; false for anything else.
    fn access(&mut self, node: &Value, asks: bool) -> bool {
        let (Some(left), Some(names)) = (node.get("left"), node.get("attr")) else { return false };
        let of = left.get("Var").and_then(Value::as_str);
        match of {
            Some(_) => self.variable(of),
            None => self.walk(left),
        }
        // `has a.b.c` looks at `a` of the left side, and then further.
        let path: Vec<&str> = match names {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                names.as_str().into_iter().collect()
            }
        };
        for (depth, name) in path.into_iter().enumerate() {
            let of = of.filter(|_| depth == 0).map(str::to_owned);
            self.accesses.insert(Access { of, attribute: name.to_owned(), asks });
        }
        true
    }

    pub(crate) fn add(&mut self, more: &Self) {
        let Self { accesses, whole_context, context, principal, action, resource } = more;
        self.accesses.extend(accesses.iter().cloned());
        self.whole_context |= whole_context;
        self.context |= context;
        self.principal |= principal;
        self.action |= action;
        self.resource |= resource;
    }

    /// True when the call's arguments matter.
    pub(crate) fn arguments(&self) -> bool {
        self.whole_context || self.accesses.iter().any(|access| access.attribute.starts_with(ARGUMENT))
    }

    /// True when the tool's annotations matter.
    pub(crate) fn hints(&self) -> bool {
        self.accesses.iter().any(|access| HINTS.contains(&access.attribute.as_str()))
    }

    pub(crate) fn names(&self) -> Names {
        let attributes: HashSet<String> =
            self.accesses.iter().map(|access| access.attribute.clone()).collect();
        let arguments: HashSet<String> =
            attributes.iter().filter_map(|name| name.strip_prefix(ARGUMENT)).map(str::to_owned).collect();
        let present: HashSet<String> =
            arguments.iter().filter_map(|name| name.strip_suffix(PRESENT)).map(str::to_owned).collect();
        let mut folded = HashMap::new();
        for name in arguments.iter().chain(&present) {
            let name: &String = name;
            folded.insert(fold(name).into_owned(), name.clone());
        }
        Names { attributes, arguments, present, folded, all: self.whole_context }
    }
}

/// The names that some policy reads.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    attributes: HashSet<String>,
    arguments: HashSet<String>,
    present: HashSet<String>,
    /// The arguments that are read, by what a reader that ignores letter case makes of their names.
    folded: HashMap<String, String>,
    /// Some policy reads the context as a whole.
    all: bool,
}

impl Names {
    /// Whether the attribute of an entity may be read.
    pub(crate) fn attribute(&self, name: &str) -> bool {
        self.attributes.contains(name)
    }

    /// Whether the member of the context may be read.
    pub(crate) fn in_context(&self, name: &str) -> bool {
        self.all || self.attributes.contains(name)
    }

    /// Whether anything is made of the argument `name`.
    ///
    /// # Errors
    /// The argument that is read, where `name` differs from it only in letter case: the backend may take one for the
    /// other.
    pub(crate) fn argument(&self, name: &str) -> Result<bool, &str> {
        if self.all || self.arguments.contains(name) || self.present.contains(name) {
            return Ok(true);
        }
        self.folded.get(&*fold(name)).map_or(Ok(false), |known| Err(known))
    }
}
