//! Converts a Kubernetes manifest with a `VirtualMCPServer` into a config file, as ToolHive's operator does,
//! with all references resolved. No secret is copied: each becomes an environment variable. What cannot be
//! carried over is a remark or a problem.

pub(crate) mod group_servers;
mod incoming;
mod kinds;
mod objects;
mod outgoing;
mod sections;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::convert::remove_unsupported;
use crate::import::imported_config::ImportedConfig;
use crate::load::load_text;
use crate::report::{Problem, Report};
use crate::settings::Overrides;
use crate::show::to_yaml;
use kinds::{KeyRef, VirtualMcpServer};
use objects::{Object, Objects, UnknownKeys};

/// The kind of the virtual server that becomes a config.
const SERVER: &str = "VirtualMCPServer";

/// True for a text with objects of Kubernetes: it has the keys `apiVersion` and `kind`.
pub(crate) fn is_manifest(text: &str) -> bool {
    let has = |key: &str| {
        text.match_indices(key).any(|(at, _)| {
            let before = text[..at].trim_end_matches(['"', '\'']);
            let after = text[at + key.len()..].trim_start_matches(['"', '\'', ' ']);
            after.starts_with(':')
                && (before.is_empty() || before.ends_with([' ', '\n', '\t', '{', ',', '\u{feff}']))
        })
    };
    has("apiVersion") && has("kind")
}

/// The config file for the virtual server with this name, or for the only one of the manifest. `file` is the
/// path of the manifest, for messages.
///
/// # Errors
/// Every problem of the manifest, and each object that it refers to and does not contain. A missing object is
/// no remark, because a policy or a filter that is left out would allow what it forbids.
pub(crate) fn convert(text: &str, file: &str, name: Option<&str>) -> Result<ImportedConfig, Report> {
    let refused = |problems, warnings| Report { file: file.to_owned(), problems, warnings };
    let objects = Objects::read(text).map_err(|problems| refused(problems, Vec::new()))?;
    let server = chosen_server(&objects, name).map_err(|problem| refused(vec![problem], Vec::new()))?;
    let namespace = server.namespace.as_deref();
    let mut conversion =
        Conversion { objects: &objects, server, namespace, findings: ImportFindings::default() };
    let root = conversion.build_root();
    let ImportFindings { problems, mut remarks, variables, .. } = conversion.findings;
    let Some(mut root) = root.filter(|_| problems.is_empty()) else { return Err(refused(problems, remarks)) };
    let enables_metrics =
        root.get("telemetry").is_some_and(|section| section["enablePrometheusMetricsPath"] == true);
    remarks.extend(remove_unsupported(&mut root).map_err(|problem| refused(vec![problem], Vec::new()))?);
    if enables_metrics && !root.contains_key("telemetry") {
        // `remove_unsupported` drops the whole section; `/metrics` works without the rest of it.
        root.insert("telemetry".to_owned(), serde_json::json!({"enablePrometheusMetricsPath": true}));
    }
    let yaml = to_yaml(&Value::Object(root)).map_err(|error| {
        refused(vec![Problem::new("", format!("cannot be written as YAML: {error}"))], Vec::new())
    })?;
    let is_used = |variable: &Variable| variable.is_implicit || yaml.contains(&variable.name);
    let variables: Vec<Variable> = variables.into_iter().filter(is_used).collect();
    let text = format!("{}{yaml}", header_comment(&server.name, file, &remarks, &variables));
    remarks.extend(variables.iter().map(Variable::remark));
    let any_value = |_: &str| Some("set-before-the-start".to_owned());
    let unserved = match load_text(&text, "", &any_value, &Overrides::default()) {
        Ok(_) => Vec::new(),
        Err(report) => report.problems,
    };
    Ok(ImportedConfig { text, remarks, blocking_problems: unserved })
}

fn chosen_server<'a>(objects: &'a Objects, name: Option<&str>) -> Result<&'a Object, Problem> {
    let servers: Vec<_> = objects.of_kind(SERVER).collect();
    let chosen = servers
        .iter()
        .filter(|server| name.is_none_or(|name| server.name == name || server.full_name() == name));
    match (&*chosen.collect::<Vec<_>>(), &*servers) {
        ([server], _) => Ok(server),
        (_, []) => Err(Problem::new("", "has no `VirtualMCPServer`")
            .with_hint("add it, with the objects that it refers to and the servers of its group")),
        _ => {
            let names: Vec<_> = servers.iter().map(|server| format!("`{}`", server.full_name())).collect();
            let message = format!("has these virtual servers: {}", names.join(", "));
            Err(Problem::new("", message).with_hint("choose one with `--server NAME`"))
        }
    }
}

/// The findings of a conversion.
#[derive(Default)]
struct ImportFindings {
    problems: Vec<Problem>,
    remarks: Vec<Problem>,
    variables: Vec<Variable>,
    /// The names of backends with addresses that exist in the cluster only.
    cluster_backends: Vec<String>,
}

/// An environment variable that the operator has to set.
struct Variable {
    name: String,
    /// The description of its value, such as the key of a `Secret`.
    value: String,
    /// True if no key of the config names the variable; the gateway reads it all the same.
    is_implicit: bool,
}

impl Variable {
    fn remark(&self) -> Problem {
        Problem::new(&self.name, format!("set it to {}", self.value))
    }
}

/// The state of one conversion.
struct Conversion<'a> {
    objects: &'a Objects,
    /// The virtual server that is converted.
    server: &'a Object,
    namespace: Option<&'a str>,
    findings: ImportFindings,
}

impl<'a> Conversion<'a> {
    /// The root of the config; `None` if the `spec` of the virtual server has problems.
    fn build_root(&mut self) -> Option<Map<String, Value>> {
        let spec: VirtualMcpServer = self.server.parse_spec(UnknownKeys::Report, &mut self.findings)?;
        self.report_deployment_keys(&spec);
        if let Some(namespace) = self.namespace {
            let value = format!("`{namespace}`, the namespace in keys and metrics of limits");
            self.add_implicit_variable("VMCP_NAMESPACE", value);
        }
        let mut config = spec.config.unwrap_or_default();
        let group = spec.group_ref.name;
        let mut root = Map::new();
        root.insert("name".to_owned(), self.server.name.clone().into());
        root.insert("groupRef".to_owned(), group.clone().into());
        let server = spec.auth_server_config.as_ref();
        root.insert("incomingAuth".to_owned(), self.convert_incoming_auth(spec.incoming_auth, server));
        let mut strategies = self.inline_strategies(spec.outgoing_auth);
        let backends = self.group_backends(&group, config.remove("backends"), &mut strategies);
        self.report_cluster_addresses();
        Self::add_unassigned_strategies(&mut strategies);
        root.extend(strategies.section().map(|section| ("outgoingAuth".to_owned(), section)));
        root.insert("aggregation".to_owned(), self.aggregation(config.remove("aggregation")));
        let tools = self.composite_tools(config.remove("compositeTools"), config.remove("compositeToolRefs"));
        if !tools.is_empty() {
            root.insert("compositeTools".to_owned(), tools.into());
        }
        let optimizer = self.optimizer(config.remove("optimizer"), spec.embedding_server_ref);
        root.extend(optimizer.map(|section| ("optimizer".to_owned(), section)));
        if config.remove("telemetry").is_some() {
            let message = "is not read by ToolHive's operator, and is ignored; `telemetryConfigRef` counts";
            self.add_remark(&self.server.path("spec.config.telemetry"), message);
        }
        let telemetry = spec.telemetry_config_ref.and_then(|reference| self.telemetry(&reference));
        root.extend(telemetry.map(|section| ("telemetry".to_owned(), section)));
        let audit = config.remove("audit").map(|section| self.audit(section));
        root.extend(audit.map(|section| ("audit".to_owned(), section)));
        for key in ["incomingAuth", "outgoingAuth", "sessionStorage"] {
            if config.remove(key).is_some() {
                let message =
                    format!("is not read by ToolHive's operator, and is ignored; `spec.{key}` counts");
                self.add_remark(&self.server.path(&format!("spec.config.{key}")), message);
            }
        }
        let storage = spec.session_storage.map(|storage| self.session_storage(storage));
        root.extend(storage.map(|section| ("sessionStorage".to_owned(), section)));
        if !spec.passthrough_headers.is_empty() {
            root.insert("passthroughHeaders".to_owned(), spec.passthrough_headers.into());
        }
        let server = spec.auth_server_config.map(Value::Object);
        root.extend(server.map(|section| ("authServerConfig".to_owned(), section)));
        // The other keys of `spec.config` mean the same in a config file.
        for (key, value) in config {
            root.entry(key).or_insert(value);
        }
        root.insert("backends".to_owned(), backends.into());
        Some(root)
    }

    /// Reports the keys about the deployment of the server, which a config does not have.
    fn report_deployment_keys(&mut self, spec: &VirtualMcpServer) {
        let keys = [
            ("serviceType", &spec.service_type),
            ("sessionAffinity", &spec.session_affinity),
            ("serviceAccount", &spec.service_account),
            ("podTemplateSpec", &spec.pod_template_spec),
            ("replicas", &spec.replicas),
            ("imagePullSecrets", &spec.image_pull_secrets),
        ];
        for (key, _) in keys.into_iter().filter(|(_, value)| value.is_some()) {
            let message = "says how the server is deployed, which a configuration does not: left out";
            self.add_remark(&self.server.path(&format!("spec.{key}")), message);
        }
    }

    fn find_object(&mut self, kind: &str, name: &str, at: &str) -> Option<&'a Object> {
        let found = self.objects.find(kind, name, self.namespace);
        if found.is_none() {
            let at = if at.starts_with("spec.") { self.server.path(at) } else { at.to_owned() };
            let namespace = self.namespace.map(|name| format!(" -n {name}")).unwrap_or_default();
            let problem = Problem::new(at, format!("refers to {kind} `{name}`, which is not in the file"))
                .with_hint(format!(
                    "add what `kubectl get {} {name}{namespace} -o yaml` prints",
                    kind.to_lowercase()
                ));
            if !self.findings.problems.contains(&problem) {
                self.findings.problems.push(problem);
            }
        }
        found
    }

    /// The object that the key at `at` refers to, with its `spec`. An object that the manifest does not
    /// contain, or that is invalid in the cluster, is a problem.
    fn resolve_reference<S: DeserializeOwned + JsonSchema>(
        &mut self,
        kind: &str,
        name: &str,
        at: &str,
    ) -> Option<(S, &'a Object)> {
        let object = self.find_object(kind, name, at)?;
        if let Some(reason) = object.invalid_reason() {
            self.add_problem_at(format!("{kind} {name}"), &format!("is not valid in the cluster: {reason}"));
            return None;
        }
        Some((object.parse_spec(UnknownKeys::Report, &mut self.findings)?, object))
    }

    fn add_problem(&mut self, key: &str, message: &str) {
        self.add_problem_at(self.server.path(key), message);
    }

    fn add_problem_at(&mut self, path: String, message: &str) {
        self.findings.problems.push(Problem::new(path, message));
    }

    /// Adds a remark, unless it is there already.
    fn add_remark(&mut self, path: &str, message: impl Into<String>) {
        let remark = Problem::new(path, message);
        if !self.findings.remarks.contains(&remark) {
            self.findings.remarks.push(remark);
        }
    }

    /// The name of the variable for a key of a `Secret`. Two keys never share a variable; a name that is
    /// taken gets a number.
    fn variable_for_secret(&mut self, name: String, reference: &KeyRef) -> String {
        let key = reference.key.as_deref().unwrap_or_default();
        let value = format!("key `{key}` of Secret `{}`", reference.name);
        let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}_{number}")));
        for name in names {
            match self.findings.variables.iter().find(|variable| variable.name == name) {
                Some(known) if known.value == value => return name,
                Some(_) => {}
                None => {
                    let variable = Variable { name: name.clone(), value, is_implicit: false };
                    self.findings.variables.push(variable);
                    return name;
                }
            }
        }
        name
    }

    /// Adds a variable that the gateway reads although no key of the config names it.
    fn add_implicit_variable(&mut self, name: &str, value: String) {
        self.findings.variables.push(Variable { name: name.to_owned(), value, is_implicit: true });
    }

    /// The host name of a service in the namespace of the virtual server.
    fn service_host(&self, name: &str) -> String {
        format!("{name}.{}.svc.cluster.local", self.namespace.unwrap_or("default"))
    }
}

/// The name of a variable: a prefix, and the name of an object in capitals.
fn variable_name(prefix: &str, name: &str) -> String {
    let name = name.to_uppercase();
    let end: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{prefix}_{end}")
}

/// A section without members that are null or empty.
fn without_empty(section: Value) -> Value {
    match section {
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| (key, without_empty(value)));
            let is_set = |value: &Value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(entries) => !entries.is_empty(),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
            };
            Value::Object(entries.filter(|(_, value)| is_set(value)).collect())
        }
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => section,
    }
}

/// The comment at the beginning of the config: the source, the variables to set, and the remarks.
fn header_comment(name: &str, file: &str, remarks: &[Problem], variables: &[Variable]) -> String {
    let mut head = format!("# The VirtualMCPServer {name}");
    if !file.is_empty() && !file.contains(char::is_control) {
        head.push_str(&format!(", carried over from {file}"));
    }
    head.push_str(
        ".\n# `vmcp serve --config FILE` listens on 127.0.0.1:4483; `--host 0.0.0.0` on every address.\n",
    );
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            head.push_str(&format!("#\n# {title}\n"));
            items.iter().for_each(|item| head.push_str(&format!("# - {}\n", one_line(item))));
        }
    };
    list(
        "Variables of the environment:",
        variables.iter().map(|variable| variable.remark().to_string()).collect(),
    );
    list(
        "What could not be carried over, and what to check:",
        remarks.iter().map(Problem::to_string).collect(),
    );
    head.push('\n');
    head
}

/// The text without control characters and line breaks, which would end a comment.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || "\u{85}\u{2028}\u{2029}".contains(c) { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
