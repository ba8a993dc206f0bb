//! The validated settings of one gateway, made of the policies of the crates below. What can be built here
//! can be served.

use std::time::Duration;

use vmcp_backends::policy::BackendPolicy;
use vmcp_edge::policy::EdgePolicy;
use vmcp_federation::policy::{AggregationPolicy, HealthPolicy};

use super::report::Problem;

/// Everything the gateway needs to know to serve.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The name it introduces itself with.
    pub(crate) name: String,
    /// The group its backends belong to: a label for `/status` and the effective settings.
    pub(crate) group: Option<String>,
    /// How many lists become one.
    pub(crate) aggregation: AggregationPolicy,
    /// The backends, in the order of the file.
    pub(crate) backends: Vec<BackendPolicy>,
    /// The client edge.
    pub(crate) edge: EdgePolicy,
    /// Health checks and the circuit breaker.
    pub(crate) health: HealthPolicy,
    /// How much is logged.
    pub(crate) log_level: LogLevel,
    /// What in the config has no effect, in the order of the file.
    pub(crate) warnings: Vec<Problem>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// Failures of the gateway itself.
    Error,
    /// Also what went wrong and was survived.
    Warn,
    /// Also what an operator wants to know.
    Info,
    /// Also what a developer wants to know.
    Debug,
}

impl LogLevel {
    /// The level's name in config and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// What the command line sets; it wins over the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// The address to listen on.
    pub(crate) host: Option<String>,
    /// The port to listen on; 0 takes any free one.
    pub(crate) port: Option<u16>,
    /// How long a session may lie idle; zero keeps the default.
    pub(crate) session_ttl: Option<Duration>,
    /// Logs at the level `debug`.
    pub(crate) debug: bool,
    /// The name of the operating-system user who runs the gateway, for `incomingAuth.type: local`.
    pub(crate) user: Option<String>,
}
