//! The objects of a manifest: YAML documents, each an object of Kubernetes or a list of them. An object is found by kind
//! and name, and its `spec` is held against the type of its kind.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Findings;
use crate::config::check::{self, Checked};
use crate::config::report::Problem;
use crate::config::schema::schema;
use crate::config::tree::{self, Kind, Node};

/// The objects of a manifest.
pub(super) struct Objects(Vec<Object>);

/// An object as it is written.
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// The lines of the file before its document.
    lines_before: u64,
    node: Node,
}

/// What is done about keys that the type of a kind does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// They are told: nothing else would act on them.
    Told,
    /// They are passed over: ToolHive's operator goes on acting on them.
    Passed,
}

impl Objects {
    /// Reads the objects of a text.
    ///
    /// # Errors
    /// Every document that is not YAML.
    pub(super) fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let (mut objects, mut problems) = (Vec::new(), Vec::new());
        for (lines_before, document) in documents(text) {
            match tree::parse(&document) {
                Ok(node) => collect(node, lines_before, &mut objects),
                Err(problem) => problems.push(moved(problem, lines_before)),
            }
        }
        if problems.is_empty() { Ok(Self(objects)) } else { Err(problems) }
    }

    /// The objects of a kind, in the order of the file.
    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.0.iter().filter(move |object| object.kind == kind)
    }

    /// The object of that kind and name in `namespace`. An object without a namespace is in every one: it is applied to
    /// the namespace that `kubectl` is told.
    pub(super) fn find(&self, kind: &str, name: &str, namespace: Option<&str>) -> Option<&Object> {
        let named = self.0.iter().filter(|object| object.kind == kind && object.name == name);
        named.into_iter().find(|object| object.is_in(namespace))
    }
}

impl Object {
    /// True unless it is in another namespace.
    pub(super) fn is_in(&self, namespace: Option<&str>) -> bool {
        match (&self.namespace, namespace) {
            (Some(own), Some(other)) => own == other,
            (None, _) | (_, None) => true,
        }
    }

    /// The path of a key of it in messages.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{} {} {key}", self.kind, self.name)
    }

    /// The text at `keys`.
    pub(super) fn text(&self, keys: &[&str]) -> Option<&str> {
        match &keys.iter().try_fold(&self.node, |node, key| entry(node, key))?.kind {
            Kind::Text { text, .. } => Some(text),
            Kind::Null | Kind::Bool(..) | Kind::Number(..) | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// The `spec`, as the type of its kind. What does not fit is told, and then there is none.
    pub(super) fn spec<S: DeserializeOwned + JsonSchema>(
        &self,
        unknown: Unknown,
        findings: &mut Findings,
    ) -> Option<S> {
        let empty = Node { line: self.node.line, kind: Kind::Map(Vec::new()) };
        let mut spec = entry(&self.node, "spec").unwrap_or(&empty).clone();
        if self.kind == super::SERVER {
            name_config(&mut spec, &self.name);
        }
        self.fit(&spec, "spec", unknown, findings)
    }

    /// A node of it, as a type. What does not fit is told, and then there is none.
    fn fit<S: DeserializeOwned + JsonSchema>(
        &self,
        node: &Node,
        at: &str,
        unknown: Unknown,
        findings: &mut Findings,
    ) -> Option<S> {
        let schema: Value =
            SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<S>().into();
        let checked = check::check(node, &schema);
        let place = |problem: Problem| {
            let dot = if problem.path.is_empty() || problem.path.starts_with('[') { "" } else { "." };
            let path = self.path(&format!("{at}{dot}{}", problem.path));
            Problem { path, ..moved(problem, self.lines_before) }
        };
        let Checked { value, problems, unknown: others, .. } = checked;
        if unknown == Unknown::Told {
            let others = others.into_iter().map(place);
            findings.remarks.extend(others.map(|problem| self.unknown_key(problem)));
        }
        if !problems.is_empty() {
            findings.problems.extend(problems.into_iter().map(place));
            return None;
        }
        match serde_json::from_value(escaped(value)) {
            Ok(spec) => Some(spec),
            // The check leaves only what fits the type, so this tells of a gap in the check.
            Err(error) => {
                findings.problems.push(Problem::new(self.path(at), error.to_string()));
                None
            }
        }
    }

    /// What is told of a key that the type of its kind does not have.
    fn unknown_key(&self, problem: Problem) -> Problem {
        let message = "is not a key of ToolHive, and is left out".to_owned();
        let key = problem.path.strip_prefix(&self.path("spec."));
        let belongs =
            key.filter(|key| self.kind == super::SERVER && schema()["properties"].get(key).is_some());
        let hint = belongs.map(|key| format!("`spec.config.{key}` is one"));
        Problem { message, hint: hint.or(problem.hint), ..problem }
    }

    /// The text at `data.KEY` of a `ConfigMap`, read as YAML, as a type.
    pub(super) fn data<S: DeserializeOwned + JsonSchema>(
        &self,
        key: &str,
        findings: &mut Findings,
    ) -> Option<S> {
        let at = format!("data.{key}");
        let Some(text) = self.text(&["data", key]) else {
            findings.problems.push(Problem::new(self.path(&at), "is missing"));
            return None;
        };
        match tree::parse(text) {
            Ok(node) => self.fit(&node, &at, Unknown::Told, findings),
            Err(problem) => {
                findings.problems.push(Problem { path: self.path(&at), line: None, ..problem });
                None
            }
        }
    }
}

/// The documents of a text, each with the number of lines before it. A line of three dashes begins one, and nothing else
/// in YAML can begin so in the first column.
fn documents(text: &str) -> Vec<(u64, String)> {
    let mut documents = vec![(0, String::new())];
    for (line, count) in text.lines().zip(1_u64..) {
        let after = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(after) = after {
            documents.push((count - 1, format!("{after}\n")));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    documents.retain(|(_, document)| {
        document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    });
    documents
}

/// Adds the object of a document, or the items of a list.
fn collect(node: Node, lines_before: u64, objects: &mut Vec<Object>) {
    let scalar = |node: &Node, key: &str| match &entry(node, key)?.kind {
        Kind::Text { text, .. } | Kind::Number(_, text) | Kind::Bool(_, text) => Some(text.clone()),
        Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    };
    let Some(kind) = scalar(&node, "kind") else { return };
    if let Kind::Map(entries) = &node.kind
        && kind.ends_with("List")
        && let Some((_, _, Node { kind: Kind::List(items), .. })) =
            entries.iter().find(|(key, ..)| key == "items")
    {
        for item in items {
            collect(item.clone(), lines_before, objects);
        }
        return;
    }
    let metadata = entry(&node, "metadata");
    let name = metadata.and_then(|metadata| scalar(metadata, "name")).unwrap_or_default();
    let namespace = metadata.and_then(|metadata| scalar(metadata, "namespace"));
    objects.push(Object { kind, name, namespace, lines_before, node });
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Kind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|(name, ..)| name == key).map(|(.., node)| node)
}

/// Gives the configuration within a `spec` the object's name, which is what counts.
fn name_config(spec: &mut Node, name: &str) {
    let Kind::Map(entries) = &mut spec.kind else { return };
    let Some((_, line, config)) = entries.iter_mut().find(|(key, ..)| key == "config") else { return };
    if let Kind::Map(entries) = &mut config.kind {
        entries.retain(|(key, ..)| key != "name");
        let text = Kind::Text { text: name.to_owned(), expanded: false };
        entries.insert(0, ("name".to_owned(), *line, Node { line: *line, kind: text }));
    }
}

/// The problem of a document at its line in the file.
fn moved(problem: Problem, lines_before: u64) -> Problem {
    Problem { line: problem.line.map(|line| line + lines_before), ..problem }
}

/// The value with each `${` as `$${`: manifests have no references to the environment, and files do.
fn escaped(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace("${", "$${").into(),
        Value::Array(items) => items.into_iter().map(escaped).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, escaped(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}
