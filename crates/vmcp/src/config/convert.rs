//! From the file to the settings: everything that types cannot say is checked here, and all that is wrong is
//! found in one go. Structs of the file are taken apart completely, so that no key can be forgotten.

mod admin;
mod aggregation;
mod audit;
mod backend;
mod bounds;
mod edge;
mod health;
mod incoming;
mod isolation;
mod limits;
mod loops;
mod optimizer;
mod outgoing;
mod stdio;
mod unbuilt;

use std::collections::BTreeMap;
use std::time::Duration;

use vmcp_edge::policy::EdgePolicy;

use super::expand::EnvLookup;
use super::file::{
    Backend, File, GoDuration, LogLevel as FileLogLevel, Operational, SessionStorage, StorageProvider,
};
use super::report::{Problem, join_path};
use super::settings::{LogLevel, OptimizerSettings, Overrides, Settings};

pub(super) use unbuilt::{UNSUPPORTED, remove_unsupported};

/// What the conversion found, and what it may look at.
pub(super) struct Findings<'a> {
    /// Why the config is refused.
    pub(super) problems: Vec<Problem>,
    /// What has no effect.
    pub(super) warnings: Vec<Problem>,
    /// Looks a variable up, for keys that name one.
    pub(super) env: EnvLookup<'a>,
    /// The file means backends that are not in it, so nothing can be said about their names.
    has_discovery: bool,
}

impl<'a> Findings<'a> {
    /// Nothing found yet.
    pub(super) fn new(env: EnvLookup<'a>) -> Self {
        Self { problems: Vec::new(), warnings: Vec::new(), env, has_discovery: false }
    }

    fn add_problem(&mut self, path: impl Into<String>, message: impl Into<String>) -> &mut Problem {
        self.push(Problem::new(path, message))
    }

    fn push(&mut self, problem: Problem) -> &mut Problem {
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn add_warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Problem::new(path, message));
    }

    /// A duration that must be longer than nothing.
    fn require_positive(&mut self, path: &str, duration: GoDuration) -> Option<Duration> {
        if duration.0.is_zero() {
            self.add_problem(path, "must be greater than zero").hint =
                Some("leave the key out for the default".to_owned());
            return None;
        }
        Some(duration.0)
    }

    /// A name that should be that of a backend; a warning where it is not. ToolHive's groups come and go, so its files name
    /// backends that are not there. Backends without a name are reported elsewhere, and then
    /// nothing can be said about names that are missing.
    fn check_backend_name(&mut self, path: &str, name: &str, known: &[String]) -> bool {
        if known.iter().any(|known| known == name) {
            return true;
        }
        if !self.has_discovery && !known.iter().any(String::is_empty) {
            let problem = Problem::new(path, format!("no backend is called `{name}`, so this has no effect"));
            let problem = Problem { names_missing_backend: true, ..problem };
            self.warnings.push(problem.with_nearest(name, known.iter().map(String::as_str)));
        }
        false
    }
}

/// Makes the settings of a file; `None` when there are problems.
pub(super) fn convert(file: File, overrides: &Overrides, findings: &mut Findings<'_>) -> Option<Settings> {
    unbuilt::refuse(&file, findings);
    let File {
        name,
        group_ref,
        listen,
        admin,
        state_folder,
        backends,
        isolation,
        incoming_auth,
        outgoing_auth,
        aggregation,
        composite_tools: _,
        composite_tool_refs: _,
        operational,
        metadata,
        telemetry,
        audit,
        optimizer,
        code_mode: _,
        session_storage,
        rate_limiting,
        loop_breaker,
        passthrough_headers,
        auth_server_config: _,
    } = file;
    check_file(&name, &metadata, (session_storage.as_ref(), rate_limiting.is_some()), findings);
    check_has_backends(&backends, group_ref.as_deref(), findings);
    let Operational { log_level, timeouts, failure_handling } = operational.unwrap_or_default();
    let health = health::convert(failure_handling.unwrap_or_default(), findings);
    let names: Vec<String> = backends.iter().map(|backend| backend.name.clone()).collect();
    let has_one_identity = isolation::has_one_identity(incoming_auth.as_ref());
    let callers = limits::KnownCallers::of(incoming_auth.as_ref(), &passthrough_headers);
    let whose = (state_folder, incoming_auth.as_ref(), &*name);
    let (admin, scrape_key) = admin::convert(admin, telemetry.as_ref(), whose, findings);
    let outgoing = (outgoing_auth.unwrap_or_default(), incoming::has_tokens(incoming_auth.as_ref()));
    let backends = backend::convert_all((backends, &names), timeouts.unwrap_or_default(), outgoing, findings);
    let aggregation = aggregation::convert(aggregation.unwrap_or_default(), &names, findings);
    let authz = incoming::authz(incoming_auth.as_ref(), (&name, &names), optimizer.is_some(), findings);
    let (listen, passthrough) = (listen.unwrap_or_default(), passthrough_headers);
    let parts = edge::EdgeSections { name: name.clone(), listen, incoming: incoming_auth, passthrough };
    let edge = edge::convert(parts, overrides, findings);
    let (backends, process_count_max) =
        isolation::convert(backends, isolation, (edge.as_ref(), has_one_identity), findings);
    let limits =
        rate_limiting.map(|file| limits::convert(file, &name, session_storage.as_ref(), callers, findings));
    let loops = loop_breaker.map(|file| loops::convert(file, findings));
    let optimizer = optimizer.map(|file| optimizer::convert(file, findings));
    let audit = audit::convert(audit, overrides.enable_audit, findings);
    let (aggregation, edge) = (aggregation?, edge?);
    let (limits, answer) = limits.unzip();
    let edge = EdgePolicy { limit_answer: answer.unwrap_or(edge.limit_answer), scrape_key, ..edge };
    findings.problems.is_empty().then(|| Settings {
        name,
        group: group_ref,
        aggregation,
        backends,
        process_count_max,
        edge,
        admin,
        health,
        authz,
        limits,
        loop_breaker: loops,
        optimizer,
        audit,
        namespace: namespace(findings),
        log_level: convert_log_level(log_level, overrides),
        warnings: Vec::new(),
    })
}

/// The Kubernetes namespace that the reference's operator sets, part of metrics and of keys in a shared store.
fn namespace(findings: &Findings<'_>) -> String {
    (findings.env)("VMCP_NAMESPACE").unwrap_or_else(|| "local".to_owned())
}

/// What an empty section `optimizer` asks for.
pub fn default_optimizer(env: EnvLookup<'_>) -> OptimizerSettings {
    optimizer::convert(super::file::Optimizer::default(), &mut Findings::new(env))
}

/// What concerns the file as a whole.
fn check_file(
    name: &str,
    metadata: &BTreeMap<String, String>,
    (storage, limited): (Option<&SessionStorage>, bool),
    findings: &mut Findings<'_>,
) {
    if name.trim().is_empty() {
        findings.add_problem("name", "must not be empty");
    }
    if !metadata.is_empty() {
        findings.add_warning("metadata", "has no effect");
    }
    if let Some(storage) = storage {
        warn_of_session_storage(storage.clone(), limited, findings);
    }
}

fn check_has_backends(backends: &[Backend], group: Option<&str>, findings: &mut Findings<'_>) {
    match group {
        _ if !backends.is_empty() => {}
        Some(group) => {
            findings.has_discovery = true;
            findings
                .add_problem(
                    "groupRef",
                    format!(
                        "finding the servers of the ToolHive group `{group}` is not possible in this build"
                    ),
                )
                .hint = Some("list the servers under `backends`".to_owned());
        }
        None => findings.add_warning("backends", "there are none, so clients will see no tools"),
    }
}

fn warn_of_session_storage(storage: SessionStorage, limited: bool, findings: &mut Findings<'_>) {
    let SessionStorage { provider, address, db, key_prefix } = storage;
    if provider == StorageProvider::Redis {
        let what = if limited { "serves the limits only" } else { "has no effect" };
        let text = format!(
            "{what}: sessions are kept in this process and end with it, so run one replica, or send each client to \
             the same one"
        );
        findings.add_warning("sessionStorage.provider", text);
        if key_prefix.is_some() {
            findings.add_warning("sessionStorage.keyPrefix", "has no effect on limits");
        }
        return;
    }
    for (key, set) in
        [("address", address.is_some()), ("db", db.is_some()), ("keyPrefix", key_prefix.is_some())]
    {
        if set {
            findings.add_warning(join_path("sessionStorage", key), "has no effect with `provider: memory`");
        }
    }
}

fn convert_log_level(level: Option<FileLogLevel>, overrides: &Overrides) -> LogLevel {
    match level {
        _ if overrides.debug => LogLevel::Debug,
        Some(FileLogLevel::Error) => LogLevel::Error,
        Some(FileLogLevel::Warn) => LogLevel::Warn,
        Some(FileLogLevel::Info) | None => LogLevel::Info,
        Some(FileLogLevel::Debug) => LogLevel::Debug,
    }
}
