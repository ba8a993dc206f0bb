//! The validated settings of one backend: how it is reached, and the limits of every exchange with it. `vmcp`
//! builds them from the configuration file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use vmcp_credentials::Strategy;
use vmcp_domain::BackendId;
pub use vmcp_domain::Secret;

use crate::launch::{Environment, Launcher};

/// Everything that the transports need to know about one backend.
#[derive(Clone, Debug)]
pub struct BackendPolicy {
    /// The backend's name.
    pub id: BackendId,
    /// How the backend is reached.
    pub transport: Transport,
    /// The time-outs of each step.
    pub timeouts: Timeouts,
    /// Headers sent with every HTTP request to the backend, with names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// Which callers share a connection if the backend keeps state. Has no effect with `credentials`.
    pub isolation: Isolation,
    /// The limits of connections that belong to single callers.
    pub caller_bounds: CallerBounds,
    /// How each HTTP request gets a credential on behalf of its caller; `None` if requests carry none. Callers
    /// of different scopes then share neither connections nor sessions.
    pub credentials: Option<Strategy>,
}

impl BackendPolicy {
    /// How the gateway or its caller authenticates to the backend, in the terms of `outgoingAuth`.
    #[must_use]
    pub fn auth_type(&self) -> &'static str {
        match &self.credentials {
            Some(credentials) => credentials.name(),
            None if self.headers.is_empty() => "unauthenticated",
            None => "header_injection",
        }
    }
}

/// Which callers share a connection to a backend that keeps state: a stdio process, or an HTTP session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All callers.
    #[default]
    Shared,
    /// The callers of one identity; without an identity, those of one session.
    PerCaller,
    /// The callers of one session; without a session, those of one identity.
    PerSession,
    /// The callers of one identity. Without an identity, those of one session if `sessions_apart`, otherwise
    /// all.
    Automatic {
        /// Sessions without an identity may belong to different people.
        sessions_apart: bool,
    },
}

impl Isolation {
    /// The name in the configuration and in `/status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::PerCaller => "perCaller",
            Self::PerSession => "perSession",
            Self::Automatic { .. } => "automatic",
        }
    }
}

/// The limits of connections to one backend that belong to single callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerBounds {
    /// Maximum number of connections. The longest idle one is evicted for a new one.
    pub connections_max: usize,
    /// Maximum number of connections of one caller: a user, or an address if callers have no identity.
    pub per_caller_max: usize,
    /// How long a connection may be idle before it is closed.
    pub idle_timeout: Duration,
    /// How long a caller waits for a free slot.
    pub acquire_timeout: Duration,
}

impl CallerBounds {
    /// The defaults of docs/isolation.md.
    pub const DEFAULT: Self = Self {
        connections_max: 1000,
        per_caller_max: 16,
        idle_timeout: Duration::from_mins(5),
        acquire_timeout: Duration::from_secs(5),
    };
}

impl Default for CallerBounds {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How a backend is reached.
#[derive(Clone, Debug)]
pub enum Transport {
    /// A child process, over its standard streams.
    Stdio(StdioPolicy),
    /// Streamable HTTP (2025-03-26 and later).
    StreamableHttp(HttpPolicy),
    /// HTTP+SSE (2024-11-05).
    Sse(HttpPolicy),
}

impl Transport {
    /// The transport's name in the configuration and in `/status`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stdio(_) => "stdio",
            Self::StreamableHttp(_) => "streamable-http",
            Self::Sse(_) => "sse",
        }
    }
}

/// How a child process is started.
#[derive(Clone, Debug)]
pub struct StdioPolicy {
    /// The program: a path, or a name looked up in `PATH`.
    pub command: String,
    /// The arguments of the program.
    pub args: Vec<String>,
    /// Environment variables set for the process. Their values are kept out of logs.
    pub env: BTreeMap<String, Secret>,
    /// Names of variables of the gateway's environment that the process inherits in addition to the standard
    /// ones. A name that ends in `*` matches all names with that prefix.
    pub inherit_env: Vec<String>,
    /// The working directory; the gateway's own if `None`.
    pub cwd: Option<PathBuf>,
}

/// How child processes are started, for all backends.
#[derive(Clone, Debug)]
pub struct ProcessPolicy {
    /// The gateway's environment, from which children inherit what they need.
    pub environment: Environment,
    /// The program that starts children so that they end with the gateway. If `None`, a child of a killed
    /// gateway only notices the end of its standard input.
    pub launcher: Option<Launcher>,
    /// Maximum number of processes of all stdio backends together. Each backend's own process runs in any
    /// case.
    pub count_max: usize,
}

impl ProcessPolicy {
    /// The default of `count_max`.
    pub const COUNT_MAX: usize = 64;
}

impl Default for ProcessPolicy {
    fn default() -> Self {
        Self { environment: Environment::default(), launcher: None, count_max: Self::COUNT_MAX }
    }
}

/// How an HTTP backend is reached.
#[derive(Clone, Debug)]
pub struct HttpPolicy {
    /// The address of the endpoint, `http` or `https`, with its path.
    pub url: http::Uri,
    /// A PEM file of CA certificates that are trusted instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Whether HTTP+SSE is tried if the server refuses streamable HTTP. True if the operator has not
    /// configured which of them the server speaks.
    pub may_be_sse: bool,
}

/// The time-outs of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Opening the connection and finding out the protocol version. For a process, each output restarts this
    /// time-out.
    pub connect: Duration,
    /// Maximum time for a process to start while it writes output: an installer reports what it does.
    pub start: Duration,
    /// One request, from sending to the end of the answer. Each reported progress restarts this time-out.
    pub call: Duration,
    /// Maximum time of one request, whatever progress is reported.
    pub call_max: Duration,
}

impl Timeouts {
    /// 30 seconds to connect and to answer, as in the reference implementation; 5 minutes to start, and 10
    /// minutes for a call that reports progress.
    pub const DEFAULT: Self = Self {
        connect: Duration::from_secs(30),
        start: Duration::from_mins(5),
        call: Duration::from_secs(30),
        call_max: Duration::from_mins(10),
    };
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Maximum size of an answer from a backend, in bytes (100 MiB, as in the reference implementation).
pub const RESPONSE_BYTES_MAX: usize = 100 << 20;
