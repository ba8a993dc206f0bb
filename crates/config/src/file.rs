//! The types of the config file: every key with its type and description, without logic. The JSON Schema, the
//! unknown-key check and the configuration reference are generated from these types. Defaults and checks across keys
//! are in `convert`.

pub(crate) mod duration;
pub(crate) mod schema;

mod admin;
mod aggregation;
mod code_mode;
mod feature;
mod incoming;
mod limits;
mod listen;
mod loops;
mod operational;
mod outgoing;
mod workflow;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use crate::file::duration::GoDuration;
pub(crate) use admin::*;
pub(crate) use aggregation::*;
pub(crate) use code_mode::*;
pub(crate) use feature::*;
pub(crate) use incoming::*;
pub(crate) use limits::*;
pub(crate) use listen::*;
pub(crate) use loops::*;
pub(crate) use operational::*;
pub(crate) use outgoing::*;
pub(crate) use workflow::*;

/// The configuration of vmcp, a virtual MCP server: one MCP endpoint in front of several MCP servers (backends).
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "vmcp config")]
pub(crate) struct File {
    /// The name of this server. Clients see it in the server information, and it is part of the limiter's keys in
    /// Redis. An empty name is refused.
    pub(crate) name: String,
    /// The name of the ToolHive group of the backends. It is a label without effect. Refused if `backends` is empty,
    /// because this build cannot find the servers of a group.
    pub(crate) group_ref: Option<String>,
    /// The address, the path and the bounds of the HTTP listener for clients. Left out: `127.0.0.1:4483`, path
    /// `/mcp`.
    pub(crate) listen: Option<Listen>,
    /// The listener with the pages for operators (`/status`, `/metrics`, `/limits`). Left out: `127.0.0.1:4484`.
    pub(crate) admin: Option<Admin>,
    /// The folder for files that outlive the process: the operators' token, the saved levels of rate limits and the
    /// last known lists of backends. A text of spaces only is refused. Left out: `$STATE_DIRECTORY`, or `vmcp/NAME` in `$XDG_STATE_HOME` or in
    /// `~/.local/state`.
    pub(crate) state_folder: Option<String>,
    /// The MCP servers that this server aggregates. Left out: none, with a warning.
    #[serde(default)]
    pub(crate) backends: Vec<Backend>,
    /// Bounds of the backend connections and processes that belong to single callers. Left out: the defaults of its
    /// keys.
    pub(crate) isolation: Option<IsolationBounds>,
    /// How callers are authenticated, and which policies apply to them. Left out: callers are anonymous, and an
    /// address other than loopback is refused.
    pub(crate) incoming_auth: Option<IncomingAuth>,
    /// The credentials that the gateway sends to HTTP backends. Left out: `{source: inline}`, no credentials.
    pub(crate) outgoing_auth: Option<OutgoingAuth>,
    /// How the tools of all backends become one list: name conflicts, filters and overrides. Left out:
    /// `{conflictResolution: auto}`.
    pub(crate) aggregation: Option<Aggregation>,
    /// The form of the answer to a failed tool call: a limit, a denial, an unknown tool, an absent or busy backend, a
    /// time-out. Left out: `auto`, or `reference` if the environment has `TOOLHIVE_RUNTIME=kubernetes`.
    pub(crate) answer: Option<AnswerForm>,
    /// Workflows written by the operator, each offered as one tool; 1000 at most. Left out: none.
    #[serde(default)]
    pub(crate) composite_tools: Vec<CompositeTool>,
    /// How many workflows may run at once. Left out: the defaults of its keys.
    pub(crate) workflows: Option<WorkflowBounds>,
    /// The names of `VirtualMCPCompositeToolDefinition` objects of Kubernetes. A list that is not empty is refused,
    /// because no Kubernetes objects are read. Left out: none.
    #[serde(default)]
    pub(crate) composite_tool_refs: Vec<NameRef>,
    /// The log level, the time-outs of calls, health checks and the circuit breaker. Left out: the defaults of its
    /// keys.
    pub(crate) operational: Option<Operational>,
    /// Labels without effect. A map that is not empty causes a warning.
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    /// Traces and metrics. Traces and the export to an OTLP collector are not in this build: a section that turns
    /// them on is refused. Left out: `/metrics` on the admin listener, and on the client listener with a credential.
    pub(crate) telemetry: Option<Telemetry>,
    /// Audit records: one JSON object for each request, with caller, tool and outcome. Left out: no records, unless
    /// the flag `--enable-audit` is set.
    pub(crate) audit: Option<Audit>,
    /// Offers the two tools `find_tool` and `call_tool` instead of the list of all tools. Left out: all tools are
    /// listed.
    pub(crate) optimizer: Option<Optimizer>,
    /// Code mode: one tool, `execute_tool_script`, which runs a script that calls other tools. Left out: off.
    pub(crate) code_mode: Option<CodeMode>,
    /// The store for sessions. Sessions always stay in the memory of this process; with `provider: redis` the address
    /// is used for `rateLimiting` only. Left out: memory.
    pub(crate) session_storage: Option<SessionStorage>,
    /// Rate limits: how often, and how many at once, tools and other methods may be called. Left out: no limits.
    pub(crate) rate_limiting: Option<RateLimiting>,
    /// Stops calls that keep having the same outcome, and answers them with an explanation instead. Left out: off.
    pub(crate) loop_breaker: Option<LoopBreaker>,
    /// The names of client request headers that are sent on to every HTTP backend. Refused: `Authorization`,
    /// `Cookie`, `Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `Mcp-*`, and headers that the gateway writes itself.
    /// Left out: none.
    #[serde(default)]
    pub(crate) passthrough_headers: Vec<String>,
    /// An embedded authorization server. Not in this build: the section is refused.
    pub(crate) auth_server_config: Option<Map<String, Value>>,
}

/// Bounds of what clients can use. A caller is an identity; callers without identity are distinguished by network
/// address.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListenBounds {
    /// The largest body of a request, in bytes; at least 16384. A larger body gets HTTP 413. Left out: 8388608.
    pub(crate) max_body_bytes: Option<u32>,
    /// The largest head of a request (request line and headers), in bytes; at least 8192. A larger head gets
    /// HTTP 431. Left out: 65536.
    pub(crate) max_head_bytes: Option<u32>,
    /// How long a client may take to send the head of a request; an idle connection is closed after the same time.
    /// Zero is refused. Left out: 10s.
    pub(crate) head_timeout: Option<GoDuration>,
    /// How long a client may take to send the body of a request; after that it gets HTTP 408. Zero is refused.
    /// Left out: 30s.
    pub(crate) body_timeout: Option<GoDuration>,
    /// How long a client may read nothing of what is sent to it before its connection is closed. Zero is refused.
    /// Left out: 1m.
    pub(crate) write_timeout: Option<GoDuration>,
    /// The largest number of sessions of all callers together, at least 1. Left out: 100000.
    pub(crate) max_sessions: Option<u32>,
    /// The largest number of sessions of one caller, at least 1. Left out: 1000.
    pub(crate) max_sessions_per_caller: Option<u32>,
    /// How long a session may be idle before it ends. Zero is refused. Left out: 30m.
    pub(crate) session_idle_timeout: Option<GoDuration>,
    /// The largest number of requests in progress of all callers together, at least 1; more get HTTP 503. Left out:
    /// 10000.
    pub(crate) max_requests: Option<u32>,
    /// The largest number of requests in progress of one caller, at least 1; more get HTTP 429. Left out: 1000.
    pub(crate) max_requests_per_caller: Option<u32>,
    /// The largest number of connections of one network address, at least 1. The proxies in `trustedProxies` have no
    /// such bound. Left out: 4096.
    pub(crate) max_connections_per_address: Option<u32>,
    /// The largest number of bytes of answers over 64 KiB that clients have not read yet, of all callers together; at
    /// least 1048576. Left out: 1073741824.
    pub(crate) max_answer_bytes: Option<u32>,
    /// The largest number of bytes of answers over 64 KiB that one caller has not read yet; at least 1048576.
    /// Left out: 268435456.
    pub(crate) max_answer_bytes_per_caller: Option<u32>,
    /// The longest time that a shutdown takes, from the signal to the end of the last child process. Zero is refused.
    /// Left out: 10s.
    pub(crate) shutdown_grace: Option<GoDuration>,
}

/// One MCP server behind this one. It has either `url` (HTTP), or `command` (a child process, stdio); both or neither
/// is refused.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Backend {
    /// The name of the backend, unique in this file and at most 64 bytes long. Tool prefixes, `aggregation.tools` and
    /// `outgoingAuth.backends` refer to it. Letters, digits, `-`, `_` and `.` are safe; other characters cause a
    /// warning, control characters are refused.
    pub(crate) name: String,
    /// The URL of the server's MCP endpoint, `http` or `https`. A URL with a user, a password or a fragment is
    /// refused.
    pub(crate) url: Option<String>,
    /// The transport of the backend: `streamable-http`, `sse` (HTTP+SSE of 2024-11-05) or `stdio`. Left out: `stdio`
    /// with `command`; with `url`, streamable HTTP first, and HTTP+SSE if the server refuses that.
    pub(crate) transport: Option<BackendTransport>,
    /// `entry` marks a server that ToolHive does not run. It is accepted for files of ToolHive and has no effect.
    #[serde(rename = "type")]
    pub(crate) kind: Option<BackendKind>,
    /// The absolute path of a PEM file with certificate authorities that are trusted instead of those of the system.
    /// A relative path, or one with `..`, is refused. Left out: the authorities of the system.
    pub(crate) ca_bundle_path: Option<String>,
    /// Labels without effect. A map that is not empty causes a warning.
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    /// The program to start as a child process: a path, or a name that is looked up in `PATH`. A whole command line
    /// is refused; write the arguments under `args`.
    pub(crate) command: Option<String>,
    /// The arguments of the program, one item each. Left out: none.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// Environment variables of the program, in addition to the usual ones that it gets from the gateway (`PATH`,
    /// `HOME`, locale, proxies, certificates). Left out: no others.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// Names of environment variables that the program gets from the gateway in addition to the usual ones (`PATH`,
    /// `HOME`, locale, proxies, certificates). `*` at the end of a name matches every name that begins with it.
    /// Left out: no others.
    #[serde(default)]
    pub(crate) inherit_env: Vec<String>,
    /// The working folder of the program. Left out: the working folder of the gateway.
    pub(crate) cwd: Option<String>,
    /// Headers that are sent with every HTTP request to the backend. Refused: headers that the gateway writes itself,
    /// `Mcp-*`, and a header that `outgoingAuth` sets, too. Left out: none.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The time-out of one call to this backend. Refused together with an entry for the backend in
    /// `operational.timeouts.perWorkload`. Left out: `operational.timeouts`.
    pub(crate) timeout: Option<GoDuration>,
    /// How long one attempt to connect to the backend may take, including the handshake. Left out: 30s over HTTP; for
    /// a process, 30s after each output to standard output or standard error, and 5m in all.
    pub(crate) start_timeout: Option<GoDuration>,
    /// Which callers share a connection, or a process, of a server that keeps state. Has no effect, with a warning,
    /// on a backend with a credential for each caller. Left out: callers share the process of a stdio server; each
    /// caller has its own connection to an HTTP server with sessions.
    pub(crate) isolation: Option<Isolation>,
}

/// Which callers share a connection to a server that keeps state. `shared`: all callers; `perCaller`: one connection
/// for each identity, or for each session if the caller has no identity; `perSession`: one connection for each
/// session, or for each identity if the caller has no session.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Isolation {
    Shared,
    PerCaller,
    PerSession,
}

/// Bounds of the backend connections and processes that belong to single callers.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IsolationBounds {
    /// The largest number of processes of all stdio backends together. Each backend's own process always runs, so
    /// with `isolation: perCaller` or `perSession` on a stdio backend it must be larger than the number of stdio
    /// backends. Left out: 64.
    pub(crate) max_processes: Option<u32>,
    /// The largest number of callers' own connections to one backend, at least 1. At the bound, the connection that
    /// is idle for longest ends. Left out: 1000.
    pub(crate) max_connections: Option<u32>,
    /// The largest number of connections of one caller to one backend, at least 1. A caller is a user, or a network
    /// address if callers have no identity. Left out: 16.
    pub(crate) max_connections_per_caller: Option<u32>,
    /// How long a caller's own connection may be idle before it is closed. Zero is refused. Left out: 5m.
    pub(crate) idle_timeout: Option<GoDuration>,
    /// How long a call waits for a free slot for its caller's own connection before it is refused. Zero is refused.
    /// Left out: 5s.
    pub(crate) wait: Option<GoDuration>,
}

/// The transport of a backend: streamable HTTP, HTTP+SSE, or the standard streams of a child process.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BackendTransport {
    StreamableHttp,
    Sse,
    Stdio,
}

/// The kind of a backend in ToolHive. It has no effect.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendKind {
    Entry,
}

/// A reference to a Kubernetes object by its name.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NameRef {
    /// The name of the object.
    pub(crate) name: String,
}
