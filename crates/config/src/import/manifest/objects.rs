//! Reads the objects of a manifest: YAML documents, each an object of Kubernetes or a list of them. Objects
//! are found by kind and name, and the `spec` of each is checked against the type of its kind.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ImportFindings;
use crate::file::schema::schema;
use crate::load::check::{self, CheckResult};
use crate::load::tree::{self, Node, NodeKind};
use crate::report::Problem;

/// The API group of ToolHive's kinds.
const GROUP: &str = "toolhive.stacklok.dev/";
/// Kinds where every key may protect something, so that an unknown key is a problem and no remark.
const SECURITY_KINDS: [&str; 5] =
    ["ConfigMap", "MCPAuthzConfig", "MCPExternalAuthConfig", "MCPOIDCConfig", "MCPToolConfig"];

/// The objects of a manifest.
pub(super) struct Objects(Vec<Object>);

/// An object of the manifest.
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    /// The number of lines of the file before the object's document.
    line_offset: u64,
    node: Node,
}

/// The treatment of keys that the type of a kind does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownKeys {
    /// Each unknown key is reported, because no other component acts on it.
    Report,
    /// Unknown keys are ignored, because ToolHive's operator continues to act on them.
    Ignore,
}

impl Objects {
    /// Reads the objects of a text.
    ///
    /// # Errors
    /// Every document that is not YAML, and every object that occurs twice.
    pub(super) fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let (mut objects, mut problems) = (Vec::new(), Vec::new());
        for (lines_before, document) in documents(text) {
            match tree::parse(&document) {
                Ok(node) => collect(node, lines_before, &mut objects),
                Err(problem) => problems.push(offset_line(problem, Some(lines_before))),
            }
        }
        for (index, object) in objects.iter().enumerate() {
            let is_same = |other: &Object| {
                (&other.kind, &other.name, &other.namespace)
                    == (&object.kind, &object.name, &object.namespace)
            };
            if objects.iter().take(index).any(is_same) {
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

    /// The object of this kind and name in `namespace`.
    pub(super) fn find(&self, kind: &str, name: &str, namespace: Option<&str>) -> Option<&Object> {
        let named = self.0.iter().filter(|object| object.kind == kind && object.name == name);
        named.into_iter().find(|object| object.is_in(namespace))
    }
}

impl Object {
    /// True if the object may be in this namespace. An object without a namespace is created in the one that
    /// `kubectl` is called with, so it is in every namespace.
    pub(super) fn is_in(&self, namespace: Option<&str>) -> bool {
        self.namespace.is_none() || self.namespace.as_deref() == namespace
    }

    /// The reason why the cluster treats the object as invalid; `None` if it does not.
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

    /// The name of the object, after its namespace and `/` if it has one.
    pub(super) fn full_name(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// The path of a key of the object in messages: kind, name and key.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{} {} {key}", self.kind, self.name)
    }

    /// The text at the nested keys `keys`.
    pub(super) fn text_at_keys(&self, keys: &[&str]) -> Option<&str> {
        let (last, keys) = keys.split_last()?;
        text_at(keys.iter().try_fold(&self.node, |node, key| get_entry(node, key))?, last)
    }

    /// The `spec` as the type of its kind. A `spec` that does not fit is reported, and the result is `None`.
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

    /// A node of the object as a type. A node that does not fit is reported, and the result is `None`.
    /// `lines_before` is `None` for a node that has no line in the file.
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
        let index = |problem: Problem| {
            let dot = if problem.path.is_empty() || problem.path.starts_with('[') { "" } else { "." };
            let path = self.path(&format!("{at}{dot}{}", problem.path));
            Problem { path, ..offset_line(problem, lines_before) }
        };
        let CheckResult { value, problems, unknown_keys: others, .. } = checked;
        if unknown == UnknownKeys::Report {
            others.into_iter().map(index).for_each(|problem| self.report_unknown_key(problem, findings));
        }
        if !problems.is_empty() {
            findings.problems.extend(problems.into_iter().map(index));
            return None;
        }
        match serde_json::from_value(escape_references(value)) {
            Ok(spec) => Some(spec),
            // The check leaves only values that fit the type, so this error is a gap in the check.
            Err(error) => {
                findings.problems.push(Problem::new(self.path(at), error.to_string()));
                None
            }
        }
    }

    /// Reports a key that the type of its kind does not have. The cluster refuses such a key. Here it is a
    /// problem if it may have been meant to protect something, or if a known key was probably meant;
    /// otherwise a remark says that it is left out.
    fn report_unknown_key(&self, problem: Problem, findings: &mut ImportFindings) {
        let key = problem.path.strip_prefix(&self.path("spec."));
        let config_key =
            key.filter(|key| self.kind == super::SERVER && schema()["properties"].get(key).is_some());
        let is_near_miss =
            config_key.is_some() || problem.hint.as_deref().is_some_and(|hint| hint.starts_with("did"));
        let is_security_key = SECURITY_KINDS.contains(&&*self.kind)
            || key.is_some_and(|key| key.starts_with("incomingAuth.") || key.starts_with("outgoingAuth."));
        let hint = config_key.map(|key| format!("write it as `spec.config.{key}`")).or(problem.hint);
        if is_near_miss || is_security_key {
            let message = "is not a key of ToolHive".to_owned();
            findings.problems.push(Problem { message, hint, ..problem });
        } else {
            let message = "is not a key of ToolHive, and is ignored".to_owned();
            findings.remarks.push(Problem { message, hint, ..problem });
        }
    }

    /// The text at `data.KEY` of a `ConfigMap`, parsed as YAML, as a type.
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

/// The documents of a text, each with the number of lines before it. A line of three dashes starts a
/// document; no other construct of YAML starts with three dashes in the first column.
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

/// Adds the object of a document, or each item of a list.
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
    // Other API groups have kinds of the same names.
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

/// Sets the name in `spec.config` to the name of the object, which takes precedence.
fn set_config_name(spec: &mut Node, name: &str) {
    let NodeKind::Map(entries) = &mut spec.kind else { return };
    let Some((_, line, config)) = entries.iter_mut().find(|(key, ..)| key == "config") else { return };
    if let NodeKind::Map(entries) = &mut config.kind {
        entries.retain(|(key, ..)| key != "name");
        let text = NodeKind::Text { text: name.to_owned(), is_expanded: false };
        entries.insert(0, ("name".to_owned(), *line, Node { line: *line, kind: text }));
    }
}

/// Translates the line of a problem from its document to the file.
fn offset_line(problem: Problem, lines_before: Option<u64>) -> Problem {
    Problem { line: problem.line.zip(lines_before).map(|(line, before)| line + before), ..problem }
}

/// The value with each `${` written as `$${`. Texts of a manifest contain no references to the environment,
/// texts of a config file do.
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
