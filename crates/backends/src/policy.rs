//! The validated settings of one backend: how it is reached, and the bounds of every exchange with it.
//! Built by `vmcp` from the config file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vmcp_credentials::CredentialSource;
use vmcp_domain::BackendId;

use crate::transport::child::{Environment, Launcher};
pub use vmcp_domain::Secret;

/// Everything the transports need to know about one backend.
#[derive(Clone, Debug)]
pub struct BackendPolicy {
    /// The backend's name.
    pub id: BackendId,
    /// How it is reached.
    pub transport: Transport,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// Headers sent with every HTTP request to it, names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// Which callers share a connection where the backend keeps state. Has no effect with `credentials`.
    pub isolation: Isolation,
    /// The bounds of connections that belong to single callers.
    pub caller_bounds: CallerBounds,
    /// The credential each HTTP request to it carries on behalf of its caller, if any does. Callers of different scopes
    /// then share neither connections nor sessions.
    pub credentials: Option<Credentials>,
}

impl BackendPolicy {
    /// What proves the gateway or its caller to the backend, in the words of `outgoingAuth`.
    #[must_use]
    pub fn auth_type(&self) -> &'static str {
        match &self.credentials {
            Some(credentials) => credentials.0.name(),
            None if self.headers.is_empty() => "unauthenticated",
            None => "header_injection",
        }
    }
}

/// Which callers share a connection to a backend that keeps state: a stdio process, or an HTTP session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All of them.
    #[default]
    Shared,
    /// Those of one identity; without an identity, those of one session.
    PerCaller,
    /// Those of one session; without a session, those of one identity.
    PerSession,
    /// Those of one identity; without an identity those of one session where `sessions_apart`, else all.
    Automatic {
        /// Sessions without identity may belong to different people.
        sessions_apart: bool,
    },
}

impl Isolation {
    /// Its name in config and `/status`.
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

/// The bounds of connections to one backend that belong to single callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerBounds {
    /// The most of them. The one idle for longest gives way.
    pub connections_max: usize,
    /// The most of one caller: a user, or an address where callers have no identity.
    pub per_caller_max: usize,
    /// How long one may be idle.
    pub idle_timeout: Duration,
    /// How long a caller waits where there is no room.
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

/// Where the credentials of a backend's requests come from.
#[derive(Clone)]
pub struct Credentials(pub Arc<dyn CredentialSource>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

/// How a backend is reached.
#[derive(Clone, Debug)]
pub enum Transport {
    /// A child process, spoken to over its standard streams.
    Stdio(StdioPolicy),
    /// Streamable HTTP (2025-03-26 and later).
    StreamableHttp(HttpPolicy),
    /// HTTP+SSE (2024-11-05).
    Sse(HttpPolicy),
}

impl Transport {
    /// The transport's name in config and `/status`.
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
    /// Its arguments.
    pub args: Vec<String>,
    /// Its own variables, values kept out of logs.
    pub env: BTreeMap<String, Secret>,
    /// Variables of the gateway's environment that it gets besides the usual ones, by name. A name that ends in `*`
    /// names all that begin so.
    pub inherit_env: Vec<String>,
    /// The folder it runs in; the gateway's own if left out.
    pub cwd: Option<PathBuf>,
}

/// How child processes are started, for all backends alike.
#[derive(Clone, Debug)]
pub struct ProcessPolicy {
    /// The gateway's environment, of which children get what they need.
    pub environment: Environment,
    /// The program that starts children so that they end with the gateway. Without one a child whose gateway is killed
    /// only sees the end of its standard input.
    pub launcher: Option<Launcher>,
    /// The most processes of all stdio backends together. Each backend's own runs in any case.
    pub count_max: usize,
}

impl ProcessPolicy {
    /// How many processes there may be by default.
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
    /// The endpoint, `http` or `https`, with its path.
    pub url: http::Uri,
    /// A PEM file of authorities trusted in place of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// HTTP+SSE is tried where the server refuses streamable HTTP: the operator has not said which it speaks.
    pub may_be_sse: bool,
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Opening the connection and finding out the protocol version. A process has so long after each sign of life.
    pub connect: Duration,
    /// How long a process may take to start while it gives signs of life: an installer writes what it does.
    pub start: Duration,
    /// One request, from sending to the end of the answer. Reported progress allows as much again.
    pub call: Duration,
    /// One request at most, whatever progress is reported.
    pub call_max: Duration,
}

impl Timeouts {
    /// 30 seconds to connect and to answer, as the reference has it; 5 minutes to start, and 10 for a call that reports
    /// progress.
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

/// The largest answer taken from a backend, in bytes (100 MiB, the reference's bound).
pub const RESPONSE_BYTES_MAX: usize = 100 << 20;
