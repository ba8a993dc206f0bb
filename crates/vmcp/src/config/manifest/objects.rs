//! The objects of a manifest: YAML documents, each an object of Kubernetes or a list of them. An object is found by kind
//! and name, and its `spec` is held against the type of its kind.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ImportFindings;
use crate::config::check::{self, CheckResult};
use crate::config::report::Problem;
use crate::config::schema::schema;
use crate::config::tree::{self, Node, NodeKind};

/// The group of ToolHive's kinds.
const GROUP: &str = "toolhive.stacklok.dev/";
/// Kinds all of whose keys say who may do what.
const SECURITY_KINDS: [&str; 5] =
    ["ConfigMap", "MCPAuthzConfig", "MCPExternalAuthConfig", "MCPOIDCConfig", "MCPToolConfig"];

/// The objects of a manifest.
pub(super) struct Objects(Vec<Object>);

/// An object as it is written.
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// The lines of the file before its document.
    line_offset: u64,
    node: Node,
}

/// What is done about keys that the type of a kind does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownKeys {
    /// They are told: nothing else would act on them.
    Report,
    /// They are passed over: ToolHive's operator goes on acting on them.
    Ignore,
}

impl Objects {
    /// Reads the objects of a text.
    ///
    /// # Errors
    /// Every document that is not YAML, and every object that is there twice.
    pub(super) fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let (mut objects, mut problems) = (Vec::new(), Vec::new());
        for (lines_before, document) in documents(text) {
            match tree::parse(&document) {
                Ok(node) => collect(node, lines_before, &mut objects),
                Err(problem) => problems.push(offset_line(problem, Some(lines_before))),
            }
        }
        for (place, object) in objects.iter().enumerate() {
            let is_same = |other: &Object| {
                (&other.kind, &other.name, &other.namespace)
                    == (&object.kind, &object.name, &object.namespace)
            };
            if objects.iter().take(place).any(is_same) {
                let (path, line) = (format!("{} {}", object.kind, object.name), object.node.line);
                let problem = Problem { line: Some(line), ..Problem::new(path, "is in the file twice") };
                problems.push(offset_line(problem, Some(object.line_offset)));
            }
        }
        if problems.is_empty() { Ok(Self(objects)) } else { Err(problems) }
    }

    /// The objects of a kind, in the order of the file.
    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.0.iter().filter(move |object| object.kind == kind)
    }

    /// The object of that kind and name in `namespace`.
    pub(super) fn find(&self, kind: &str, name: &str, namespace: Option<&str>) -> Option<&Object> {
        let named = self.0.iter().filter(|object| object.kind == kind && object.name == name);
        named.into_iter().find(|object| object.is_in(namespace))
    }
}

impl Object {
    /// True for an object of a namespace. One that names none is applied to the namespace that `kubectl` is told.
    pub(super) fn is_in(&self, namespace: Option<&str>) -> bool {
        self.namespace.is_none() || self.namespace.as_deref() == namespace
    }

    /// Why the cluster has found it invalid, if it has.
    pub(super) fn invalid_reason(&self) -> Option<String> {
        let status = get_entry(&self.node, "status")?;
        if let Some(phase @ ("Failed" | "Pending")) = text_at(status, "phase") {
            return Some(format!("`status.phase` is `{phase}`"));
        }
        let NodeKind::List(conditions) = &get_entry(status, "conditions")?.kind else { return None };
        let is_invalid = |condition: &&Node| {
            text_at(condition, "type") == Some("Valid") && text_at(condition, "status") == Some("False")
        };
        let condition = conditions.iter().find(is_invalid)?;
        Some(format!(
            "its condition `Valid` is `False`: {}",
            text_at(condition, "message").unwrap_or_default()
        ))
    }

    /// Its name with its namespace, if it has one.
    pub(super) fn full_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// The path of a key of it in messages.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{} {} {key}", self.kind, self.name)
    }

    /// The text at `keys`.
    pub(super) fn text_at_keys(&self, keys: &[&str]) -> Option<&str> {
        let (last, keys) = keys.split_last()?;
        text_at(keys.iter().try_fold(&self.node, |node, key| get_entry(node, key))?, last)
    }

    /// The `spec`, as the type of its kind. What does not fit is told, and then there is none.
    pub(super) fn parse_spec<S: DeserializeOwned + JsonSchema>(
        &self,
        unknown: UnknownKeys,
        findings: &mut ImportFindings,
    ) -> Option<S> {
        let empty = Node { line: self.node.line, kind: NodeKind::Map(Vec::new()) };
        let mut spec = get_entry(&self.node, "spec").unwrap_or(&empty).clone();
        if self.kind == super::SERVER {
            set_config_name(&mut spec, &self.name);
        }
        self.parse_as(&spec, "spec", Some(self.line_offset), unknown, findings)
    }

    /// A node of it, as a type. What does not fit is told, and then there is none. `lines_before` is `None` for a node that
    /// has no place in the file.
    fn parse_as<S: DeserializeOwned + JsonSchema>(
        &self,
        node: &Node,
        at: &str,
        lines_before: Option<u64>,
        unknown: UnknownKeys,
        findings: &mut ImportFindings,
    ) -> Option<S> {
        let schema: Value =
            SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<S>().into();
        let checked = check::check(node, &schema);
        let place = |problem: Problem| {
            let dot = if problem.path.is_empty() || problem.path.starts_with('[') { "" } else { "." };
            let path = self.path(&format!("{at}{dot}{}", problem.path));
            Problem { path, ..offset_line(problem, lines_before) }
        };
        let CheckResult { value, problems, unknown_keys: others, .. } = checked;
        if unknown == UnknownKeys::Report {
            others.into_iter().map(place).for_each(|problem| self.report_unknown_key(problem, findings));
        }
        if !problems.is_empty() {
            findings.problems.extend(problems.into_iter().map(place));
            return None;
        }
        match serde_json::from_value(escape_references(value)) {
            Ok(spec) => Some(spec),
            // The check leaves only what fits the type, so this tells of a gap in the check.
            Err(error) => {
                findings.problems.push(Problem::new(self.path(at), error.to_string()));
                None
            }
        }
    }

    /// Tells of a key that the type of its kind does not have. The cluster refuses such a key; here, what only describes
    /// something is left out, and what may have been meant to protect something is a problem.
    fn report_unknown_key(&self, problem: Problem, findings: &mut ImportFindings) {
        let key = problem.path.strip_prefix(&self.path("spec."));
        let belongs =
            key.filter(|key| self.kind == super::SERVER && schema()["properties"].get(key).is_some());
        let is_meant =
            belongs.is_some() || problem.hint.as_deref().is_some_and(|hint| hint.starts_with("did"));
        let protects = SECURITY_KINDS.contains(&&*self.kind)
            || key.is_some_and(|key| key.starts_with("incomingAuth.") || key.starts_with("outgoingAuth."));
        let hint = belongs.map(|key| format!("write it as `spec.config.{key}`")).or(problem.hint);
        if is_meant || protects {
            let message = "is not a key of ToolHive".to_owned();
            findings.problems.push(Problem { message, hint, ..problem });
        } else {
            let message = "is not a key of ToolHive, and is left out".to_owned();
            findings.remarks.push(Problem { message, hint, ..problem });
        }
    }

    /// The text at `data.KEY` of a `ConfigMap`, read as YAML, as a type.
    pub(super) fn parse_data<S: DeserializeOwned + JsonSchema>(
        &self,
        key: &str,
        findings: &mut ImportFindings,
    ) -> Option<S> {
        let at = format!("data.{key}");
        let Some(text) = self.text_at_keys(&["data", key]) else {
            findings.problems.push(Problem::new(self.path(&at), "is missing"));
            return None;
        };
        match tree::parse(text) {
            Ok(node) => self.parse_as(&node, &at, None, UnknownKeys::Report, findings),
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
    let scalar = |node: &Node, key: &str| match &get_entry(node, key)?.kind {
        NodeKind::Text { text, .. } | NodeKind::Number(_, text) | NodeKind::Bool(_, text) => {
            Some(text.clone())
        }
        NodeKind::Null | NodeKind::List(_) | NodeKind::Map(_) => None,
    };
    let (Some(kind), Some(version)) = (scalar(&node, "kind"), scalar(&node, "apiVersion")) else { return };
    if let NodeKind::Map(entries) = &node.kind
        && kind.ends_with("List")
        && let Some((_, _, Node { kind: NodeKind::List(items), .. })) =
            entries.iter().find(|(key, ..)| key == "items")
    {
        for item in items {
            collect(item.clone(), lines_before, objects);
        }
        return;
    }
    // Other groups have kinds of the same names.
    let is_known = version.starts_with(GROUP) || (version == "v1" && kind == "ConfigMap");
    if !is_known {
        return;
    }
    let metadata = get_entry(&node, "metadata");
    let name = metadata.and_then(|metadata| scalar(metadata, "name")).unwrap_or_default();
    let namespace = metadata.and_then(|metadata| scalar(metadata, "namespace"));
    objects.push(Object { kind, name, namespace, line_offset: lines_before, node });
}

fn text_at<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match &get_entry(node, key)?.kind {
        NodeKind::Text { text, .. } | NodeKind::Bool(_, text) => Some(text),
        NodeKind::Null | NodeKind::Number(..) | NodeKind::List(_) | NodeKind::Map(_) => None,
    }
}

fn get_entry<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let NodeKind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|(name, ..)| name == key).map(|(.., node)| node)
}

/// Gives the configuration within a `spec` the object's name, which is what counts.
fn set_config_name(spec: &mut Node, name: &str) {
    let NodeKind::Map(entries) = &mut spec.kind else { return };
    let Some((_, line, config)) = entries.iter_mut().find(|(key, ..)| key == "config") else { return };
    if let NodeKind::Map(entries) = &mut config.kind {
        entries.retain(|(key, ..)| key != "name");
        let text = NodeKind::Text { text: name.to_owned(), is_expanded: false };
        entries.insert(0, ("name".to_owned(), *line, Node { line: *line, kind: text }));
    }
}

/// The problem of a document at its line in the file.
fn offset_line(problem: Problem, lines_before: Option<u64>) -> Problem {
    Problem { line: problem.line.zip(lines_before).map(|(line, before)| line + before), ..problem }
}

/// The value with each `${` as `$${`: manifests have no references to the environment, and files do.
fn escape_references(value: Value) -> Value {
    match value {
        Value::String(text) => text.replace("${", "$${").into(),
        Value::Array(items) => items.into_iter().map(escape_references).collect(),
        Value::Object(entries) => {
            entries.into_iter().map(|(key, value)| (key, escape_references(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}
