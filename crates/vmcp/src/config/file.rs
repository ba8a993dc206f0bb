//! The config file exactly as it is written: every key, its type and its description, and no logic.
//! The JSON Schema, the unknown-key check and the reference page are made from these types;
//! what the values mean together is `convert`'s to say.

mod admin;
mod feature;
mod incoming;
mod limits;
mod loops;
mod operational;
mod outgoing;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use super::duration::GoDuration;
pub(crate) use admin::*;
pub(crate) use feature::*;
pub(crate) use incoming::*;
pub(crate) use limits::*;
pub(crate) use loops::*;
pub(crate) use operational::*;
pub(crate) use outgoing::*;

/// The configuration of a virtual MCP server: one endpoint in front of many MCP servers.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "vmcp config")]
pub(crate) struct File {
    /// The name the server introduces itself with.
    pub(crate) name: String,
    /// The group the backends belong to. A label: backends are those listed under `backends`.
    pub(crate) group_ref: Option<String>,
    /// Where HTTP is served. Left out: `127.0.0.1:4483`, path `/mcp`.
    pub(crate) listen: Option<Listen>,
    /// Pages for operators. Left out: on `127.0.0.1:4484`.
    pub(crate) admin: Option<Admin>,
    /// The folder of what outlives the process, such as the token of operators. Left out: `$STATE_DIRECTORY`, or
    /// `vmcp/NAME` in `$XDG_STATE_HOME` or in `~/.local/state`.
    pub(crate) state_folder: Option<String>,
    /// The MCP servers behind this one.
    #[serde(default)]
    pub(crate) backends: Vec<Backend>,
    /// The bounds of connections that belong to single callers.
    pub(crate) isolation: Option<IsolationBounds>,
    /// Who callers are. Left out: anonymous, and then only loopback addresses may be listened on.
    pub(crate) incoming_auth: Option<IncomingAuth>,
    /// How the gateway proves itself to backends. Left out: `{source: inline}`.
    pub(crate) outgoing_auth: Option<OutgoingAuth>,
    /// How many lists become one. Left out: `{conflictResolution: auto}`.
    pub(crate) aggregation: Option<Aggregation>,
    /// Operator-written workflows, each offered as one tool.
    #[serde(default)]
    pub(crate) composite_tools: Vec<CompositeTool>,
    /// Names of `VirtualMCPCompositeToolDefinition` objects. Kubernetes only.
    #[serde(default)]
    pub(crate) composite_tool_refs: Vec<NameRef>,
    /// Timeouts, health checks and log level.
    pub(crate) operational: Option<Operational>,
    /// Free labels. They have no effect.
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    /// Traces and metrics.
    pub(crate) telemetry: Option<Telemetry>,
    /// A record of who did what.
    pub(crate) audit: Option<Audit>,
    /// Two tools, find and call, in place of the whole list.
    pub(crate) optimizer: Option<Optimizer>,
    /// One tool that runs a script over the others.
    pub(crate) code_mode: Option<CodeMode>,
    /// Where sessions are kept. Left out: in memory.
    pub(crate) session_storage: Option<SessionStorage>,
    /// How often tools may be called.
    pub(crate) rate_limiting: Option<RateLimiting>,
    /// Explains a call that keeps having the same outcome, in place of making it again.
    pub(crate) loop_breaker: Option<LoopBreaker>,
    /// Client request headers that are passed on to every backend.
    #[serde(default)]
    pub(crate) passthrough_headers: Vec<String>,
    /// An authorization server of the gateway's own. Not in this build.
    pub(crate) auth_server_config: Option<Map<String, Value>>,
}

/// Where HTTP is served. Flags of the command line win over these.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Listen {
    /// The address: an IP address or `localhost`. Left out: `127.0.0.1`.
    pub(crate) host: Option<String>,
    /// The port; 0 takes any free one. Left out: 4483.
    pub(crate) port: Option<u16>,
    /// The path of the MCP endpoint, with its leading slash. Left out: `/mcp`.
    pub(crate) path: Option<String>,
    /// Origins that browsers may call from, besides loopback ones on a loopback address. `*` allows any.
    #[serde(default)]
    pub(crate) allowed_origins: Vec<String>,
    /// Host names the server answers to, besides loopback ones. Left out on a non-loopback address: any.
    #[serde(default)]
    pub(crate) allowed_hosts: Vec<String>,
    /// Addresses or networks of proxies whose `X-Forwarded-For` is believed.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<String>,
    /// What clients may take.
    pub(crate) bounds: Option<ListenBounds>,
}

/// What clients may take. A caller is an identity, or an address where callers have none.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListenBounds {
    /// The most bytes of a request's body. Left out: 8388608.
    pub(crate) max_body_bytes: Option<u32>,
    /// The most bytes of a request's head. Left out: 65536.
    pub(crate) max_head_bytes: Option<u32>,
    /// How long a client may take to send a head; an idle connection ends after it, too. Left out: 10s.
    pub(crate) head_timeout: Option<GoDuration>,
    /// How long a client may take to send a body. Left out: 30s.
    pub(crate) body_timeout: Option<GoDuration>,
    /// How long a client may take nothing of what is sent to it. Left out: 1m.
    pub(crate) write_timeout: Option<GoDuration>,
    /// The most sessions of all callers. Left out: 100000.
    pub(crate) max_sessions: Option<u32>,
    /// The most sessions of one caller. Left out: 1000.
    pub(crate) max_sessions_per_caller: Option<u32>,
    /// How long a session may be idle. Left out: 30m.
    pub(crate) session_idle_timeout: Option<GoDuration>,
    /// The most requests in work of all callers. Left out: 10000.
    pub(crate) max_requests: Option<u32>,
    /// The most requests in work of one caller. Left out: 1000.
    pub(crate) max_requests_per_caller: Option<u32>,
    /// The most connections of one address; peers in `trustedProxies` may have any number. Left out: 4096.
    pub(crate) max_connections_per_address: Option<u32>,
    /// The most bytes of large answers that wait to be read, of all callers. Left out: 1073741824.
    pub(crate) max_answer_bytes: Option<u32>,
    /// The same of one caller. Left out: 268435456.
    pub(crate) max_answer_bytes_per_caller: Option<u32>,
    /// How long a shutdown takes at most. Left out: 10s.
    pub(crate) shutdown_grace: Option<GoDuration>,
}

/// An MCP server behind this one: either `url`, or `command` for a server spoken to over standard streams.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Backend {
    /// Its name, unique here. Prefixes, `aggregation.tools` and `outgoingAuth.backends` refer to it.
    pub(crate) name: String,
    /// Its endpoint, `http` or `https`.
    pub(crate) url: Option<String>,
    /// How it is spoken to. Left out: `stdio` with `command`, `streamable-http` with `url`.
    pub(crate) transport: Option<BackendTransport>,
    /// `entry` for a server that ToolHive does not run. Accepted for the reference's sake.
    #[serde(rename = "type")]
    pub(crate) kind: Option<BackendKind>,
    /// A PEM file of authorities trusted in place of the system's, with its absolute path.
    pub(crate) ca_bundle_path: Option<String>,
    /// Free labels. They have no effect.
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    /// The program to start: a path, or a name looked up in `PATH`.
    pub(crate) command: Option<String>,
    /// Arguments of the program.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Variables of the program, besides the usual ones of the gateway's environment.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Variables of the gateway's environment that the program gets besides the usual ones (`PATH`, `HOME`, locale,
    /// proxies, certificates). A name that ends in `*` names all that begin so.
    #[serde(default)]
    pub(crate) inherit_env: Vec<String>,
    /// The folder the program runs in. Left out: the gateway's own.
    pub(crate) cwd: Option<String>,
    /// Headers sent with every HTTP request to it.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// How long one call may take. Left out: `operational.timeouts`.
    pub(crate) timeout: Option<GoDuration>,
    /// How long it may take to start. Left out: 30s after each sign of life (something written to standard error or output),
    /// and 5m in all; 30s over HTTP.
    pub(crate) start_timeout: Option<GoDuration>,
    /// Which callers share a connection where the server keeps state. Left out: a process is shared; at a server over HTTP
    /// that hands out sessions each caller has a connection of its own.
    pub(crate) isolation: Option<Isolation>,
}

/// Which callers share a connection to a server that keeps state. `shared`: all of them. `perCaller`: those of one
/// identity; without an identity, those of one session. `perSession`: those of one session; without a session, those of
/// one identity.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Isolation {
    Shared,
    PerCaller,
    PerSession,
}

/// The bounds of connections that belong to single callers.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IsolationBounds {
    /// The most processes of all stdio backends together; each backend's own runs in any case. Left out: 64.
    pub(crate) max_processes: Option<u32>,
    /// The most connections of single callers to one backend. Left out: 1000.
    pub(crate) max_connections: Option<u32>,
    /// The most connections of one caller to one backend: of a user, or of an address where callers have no identity.
    /// Left out: 16.
    pub(crate) max_connections_per_caller: Option<u32>,
    /// How long a caller's connection may be idle before it is ended. Left out: 5m.
    pub(crate) idle_timeout: Option<GoDuration>,
    /// How long a call waits where there is no room for its caller's connection. Left out: 5s.
    pub(crate) wait: Option<GoDuration>,
}

/// How a backend is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BackendTransport {
    StreamableHttp,
    Sse,
    Stdio,
}

/// What kind of backend it is in ToolHive.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendKind {
    Entry,
}

/// A reference to an object by its name.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NameRef {
    /// The object's name.
    pub(crate) name: String,
}

/// How many lists become one.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Aggregation {
    /// `prefix`: every tool gets its backend's prefix. `priority`: the backend listed first keeps a clashing
    /// name. `manual`: a clash that no override resolves is an error. `auto`: only clashing names get a prefix.
    /// Left out: `auto`.
    pub(crate) conflict_resolution: Option<ConflictResolution>,
    /// Details of the strategy.
    pub(crate) conflict_resolution_config: Option<ConflictResolutionConfig>,
    /// What is set for the tools of single backends.
    #[serde(default)]
    pub(crate) tools: Vec<WorkloadTools>,
    /// Hides every tool of every backend from clients.
    pub(crate) exclude_all_tools: Option<bool>,
    /// Whether backends without an entry in `tools` show theirs. Left out: `allow`.
    pub(crate) default_tool_visibility: Option<ToolVisibility>,
}

/// What happens when names clash.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConflictResolution {
    Prefix,
    Priority,
    Manual,
    Auto,
}

/// Details of the strategy for clashing names.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConflictResolutionConfig {
    /// How the prefix looks; `{workload}` becomes the backend's name. Left out: `{workload}_`.
    pub(crate) prefix_format: Option<String>,
    /// Backends, the strongest first. Needed by `priority`.
    #[serde(default)]
    pub(crate) priority_order: Vec<String>,
}

/// Whether something is shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToolVisibility {
    Allow,
    Deny,
}

/// What is set for the tools of one backend.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadTools {
    /// The backend's name.
    pub(crate) workload: String,
    /// The name of an `MCPToolConfig` object. Kubernetes only.
    pub(crate) tool_config_ref: Option<NameRef>,
    /// Shows only these tools, by their name after overrides and before any prefix.
    pub(crate) filter: Option<Vec<String>>,
    /// New names, descriptions and annotations, by the backend's own name of the tool.
    #[serde(default)]
    pub(crate) overrides: BTreeMap<String, ToolOverride>,
    /// Hides all of them.
    pub(crate) exclude_all: Option<bool>,
}

/// What is changed about a tool.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ToolOverride {
    /// Its new name, before any prefix.
    pub(crate) name: Option<String>,
    /// Its new description.
    pub(crate) description: Option<String>,
    /// Its new annotations; those left out stay.
    pub(crate) annotations: Option<ToolAnnotations>,
}

/// Claims about a tool's behaviour.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ToolAnnotations {
    /// A title for people.
    pub(crate) title: Option<String>,
    /// The tool changes nothing.
    pub(crate) read_only_hint: Option<bool>,
    /// The tool may destroy something.
    pub(crate) destructive_hint: Option<bool>,
    /// Calling twice is the same as calling once.
    pub(crate) idempotent_hint: Option<bool>,
    /// The tool reaches beyond its own server.
    pub(crate) open_world_hint: Option<bool>,
}
