//! Converts the config file into [`Settings`]. Everything that the types cannot express is checked here, and
//! every problem is reported in one run. The structs of the file are destructured completely, so that the
//! compiler reports a key that is not converted.

mod admin;
mod aggregation;
mod answers;
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
mod scripts;
mod stdio;
pub(crate) mod unsupported;
mod workflows;

use std::time::Duration;

use serde_json::Value;

use vmcp_loopbreaker::LoopPolicy;
use vmcp_script::ScriptPolicy;

use super::file::{
    Backend, CodeMode, CompositeTool, File, GoDuration, LogLevel as FileLogLevel, LoopBreaker, Optimizer,
    SessionStorage, StorageProvider, WorkflowBounds,
};
use super::report::{Problem, ProblemCode, join_path};
use super::settings::{LogLevel, OptimizerSettings, Overrides, Settings, WorkflowSettings};
use crate::load::expand::EnvLookup;

pub(super) use crate::convert::unsupported::{UNSUPPORTED, remove_unsupported};

/// The problems and warnings of a conversion, and its access to the environment.
pub(super) struct Findings<'a> {
    /// The reasons why the config is refused.
    pub(super) problems: Vec<Problem>,
    /// Settings that have no effect, or that are accepted but risky.
    pub(super) warnings: Vec<Problem>,
    /// Reads an environment variable, for keys that name one.
    pub(super) env: EnvLookup<'a>,
    /// True if the file expects backends from a ToolHive group. Their names are unknown, so no name of a
    /// backend can be called wrong.
    has_discovery: bool,
}

impl<'a> Findings<'a> {
    /// Starts without problems and warnings.
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
        self.warnings.push(Problem::new(path, message).with_code(ProblemCode::Warning));
    }

    /// Returns the duration, or reports a problem if it is zero.
    fn require_positive(&mut self, path: &str, duration: GoDuration) -> Option<Duration> {
        if duration.0.is_zero() {
            self.add_problem(path, "must be greater than zero").hint =
                Some("leave the key out for the default".to_owned());
            return None;
        }
        Some(duration.0)
    }

    /// Returns whether a backend has this name, and warns if none has. It is a warning and no problem,
    /// because the servers of a ToolHive group change, so ToolHive's files name backends that do not exist.
    /// There is no warning while a backend has an empty name: that is reported elsewhere, and the name could
    /// be meant for it.
    fn check_backend_name(&mut self, path: &str, name: &str, known: &[String]) -> bool {
        if known.iter().any(|known| known == name) {
            return true;
        }
        if !self.has_discovery && !known.iter().any(String::is_empty) {
            let problem = Problem::new(path, format!("no backend is called `{name}`, so this has no effect"));
            let problem = problem.with_code(ProblemCode::NoSuchBackend);
            self.warnings.push(problem.with_nearest(name, known.iter().map(String::as_str)));
        }
        false
    }
}

/// Converts the file; `None` if there are problems, which are in `findings`.
pub(super) fn convert(file: File, overrides: &Overrides, findings: &mut Findings<'_>) -> Option<Settings> {
    check_file(&file, findings);
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
        answer,
        composite_tools,
        workflows,
        composite_tool_refs: _,
        operational,
        metadata: _,
        telemetry,
        audit,
        optimizer,
        code_mode,
        session_storage,
        rate_limiting,
        loop_breaker,
        passthrough_headers,
        auth_server_config: _,
    } = file;
    let (health, log_level, timeouts) = health::convert(operational.unwrap_or_default(), findings);
    let names: Vec<String> = backends.iter().map(|backend| backend.name.clone()).collect();
    let has_one_identity = isolation::has_one_identity(incoming_auth.as_ref());
    let callers = limits::KnownCallers::of(incoming_auth.as_ref(), &passthrough_headers);
    let admin_context = (state_folder, incoming_auth.as_ref(), &*name);
    let (admin, scrape_key) = admin::convert(admin, telemetry.as_ref(), admin_context, findings);
    let outgoing = (outgoing_auth.unwrap_or_default(), incoming::has_tokens(incoming_auth.as_ref()));
    let backends = backend::convert_all((backends, &names), timeouts.unwrap_or_default(), outgoing, findings);
    let aggregation = aggregation::convert(aggregation.unwrap_or_default(), (&name, &names), findings);
    let layers = (optimizer, (composite_tools, workflows), code_mode, loop_breaker);
    let (optimizer, workflows, scripts, loop_breaker) = convert_layers(layers, findings);
    let authz = incoming::authz(incoming_auth.as_ref(), (&name, &names), optimizer.as_ref(), findings);
    let sections = edge::EdgeSections { listen, answer, incoming_auth, passthrough_headers };
    let edge = edge::convert((&name, sections), overrides, findings);
    let (backends, process_count_max) =
        isolation::convert(backends, isolation, (edge.as_ref(), has_one_identity), findings);
    let others = limits::Others { name: &name, session: session_storage.as_ref(), callers, answer };
    let limits = rate_limiting.map(|file| limits::convert(file, others, findings));
    let audit = audit::convert(audit, overrides.enable_audit, findings);
    let (aggregation, mut edge, (limits, limit_answer)) = (aggregation?, edge?, limits.unzip());
    (edge.answers.limit, edge.scrape_key) = (limit_answer.unwrap_or(edge.answers.limit), scrape_key);
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
        loop_breaker,
        optimizer,
        workflows,
        scripts,
        audit,
        namespace: namespace(findings),
        log_level: convert_log_level(log_level, overrides),
        warnings: Vec::new(),
        written: Value::Null,
    })
}

/// The sections of the layers around tool calls.
type LayerSections =
    (Option<Optimizer>, (Vec<CompositeTool>, Option<WorkflowBounds>), Option<CodeMode>, Option<LoopBreaker>);
/// What these sections become.
type LayerSettings = (Option<OptimizerSettings>, WorkflowSettings, Option<ScriptPolicy>, Option<LoopPolicy>);

/// Converts the sections of the layers around tool calls.
fn convert_layers(
    (optimizer, workflows, code_mode, loop_breaker): LayerSections,
    findings: &mut Findings<'_>,
) -> LayerSettings {
    let optimizer = optimizer.map(|file| optimizer::convert(file, findings));
    let workflows = workflows::convert(workflows, optimizer.as_ref(), findings);
    let optimizer_tools = optimizer.as_ref().map_or_else(Vec::new, OptimizerSettings::virtual_tools);
    let workflow_tools = workflows.workflows.iter().map(|workflow| workflow.name().to_owned());
    let names: Vec<String> = optimizer_tools.into_iter().chain(workflow_tools).collect();
    let others = scripts::Others { has_optimizer: optimizer.is_some(), names: &names };
    let scripts = scripts::convert(code_mode, &others, findings);
    let loops = loop_breaker.map(|file| loops::convert(file, findings));
    (optimizer, workflows, scripts, loops)
}

/// The Kubernetes namespace that ToolHive's operator sets, else `local`. It is a label of metrics and part of
/// the keys in Redis.
fn namespace(findings: &Findings<'_>) -> String {
    (findings.env)("VMCP_NAMESPACE").unwrap_or_else(|| "local".to_owned())
}

/// The settings of an empty section `optimizer`.
pub fn default_optimizer(env: EnvLookup<'_>) -> OptimizerSettings {
    optimizer::convert(super::file::Optimizer::default(), &mut Findings::new(env))
}

/// Checks the keys that belong to no section: the name, `metadata` and `sessionStorage`; and that there are
/// backends.
fn check_file(file: &File, findings: &mut Findings<'_>) {
    unsupported::refuse(file, findings);
    if file.name.trim().is_empty() {
        findings.add_problem("name", "must not be empty");
    }
    if !file.metadata.is_empty() {
        findings.add_warning("metadata", "has no effect");
    }
    if let Some(storage) = &file.session_storage {
        warn_of_session_storage(storage.clone(), file.rate_limiting.is_some(), findings);
    }
    check_has_backends(&file.backends, file.group_ref.as_deref(), findings);
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

fn warn_of_session_storage(storage: SessionStorage, has_limits: bool, findings: &mut Findings<'_>) {
    let SessionStorage { provider, address, db, key_prefix } = storage;
    if provider == StorageProvider::Redis {
        let what = if has_limits { "serves the limits only" } else { "has no effect" };
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
