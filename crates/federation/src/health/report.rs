//! The report on one backend for operators: its connection, its share of the catalogue, and its health.

use vmcp_domain::{BackendId, BackendState, BackendStatus, ListFailure};

use crate::health::circuit_breaker::CircuitReport;
use crate::health::health_checks::HealthChecks;

/// The class of failures that concern credentials.
const AUTH: &str = "auth";

/// The state of one backend and its share of the catalogue, for operators.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// The backend's name.
    pub id: BackendId,
    /// The state of its connection.
    pub status: BackendStatus,
    /// Whether its items are listed now: in the shared lists, or for at least one caller.
    pub is_listed: bool,
    /// Whether its lists are those that an earlier process saved, because it has not answered this one.
    pub is_stale: bool,
    /// The number of tools in its last inventory.
    pub tool_count: usize,
    /// The number of resources and resource templates in its last inventory.
    pub resource_count: usize,
    /// The number of prompts in its last inventory.
    pub prompt_count: usize,
    /// The number of cached caller views that list the backend, if it uses the callers' own credentials. The
    /// counts above are then 0. `None` for other backends.
    pub caller_count: Option<usize>,
    /// The lists that could not be read to their end.
    pub list_failures: Vec<ListFailure>,
    /// The results of its health checks.
    pub checks: HealthChecks,
    /// The state of its circuit. `None` when circuit breakers are off.
    pub circuit: Option<CircuitReport>,
}

/// Whether the items of a backend work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The backend answers and all its lists can be read.
    Healthy,
    /// The backend answers, but some list cannot be read to its end.
    Degraded,
    /// The backend cannot be reached or was stopped, or its last health check failed.
    Unhealthy,
    /// The backend refuses the credential from the configuration, or requires one and none is configured.
    Unauthenticated,
    /// The backend has not answered yet, because a connection is being opened.
    Unknown,
}

impl Health {
    /// All values, from healthy to unknown.
    pub const ALL: [Self; 5] =
        [Self::Healthy, Self::Degraded, Self::Unhealthy, Self::Unauthenticated, Self::Unknown];

    /// The value's name in `/status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Unauthenticated => "unauthenticated",
            Self::Unknown => "unknown",
        }
    }
}

impl BackendReport {
    /// The backend's health, by its connection, its last health check and its list failures.
    #[must_use]
    pub fn health(&self) -> Health {
        let failure = self.checks.failure.as_ref();
        match self.status.state {
            BackendState::Connecting => Health::Unknown,
            BackendState::Unavailable if self.status.last_error == Some(AUTH) => Health::Unauthenticated,
            BackendState::Unavailable | BackendState::Stopped => Health::Unhealthy,
            BackendState::Ready if failure.is_some_and(|failure| failure.class == AUTH) => {
                Health::Unauthenticated
            }
            BackendState::Ready if failure.is_some() => Health::Unhealthy,
            BackendState::Ready if self.list_failures.is_empty() => Health::Healthy,
            BackendState::Ready => Health::Degraded,
        }
    }

    /// Whether the gateway is waiting for its first answer, or for its first failure.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.status.state == BackendState::Connecting
            && self.checks.checked_at.is_none()
            && self.caller_count.is_none()
    }

    /// Why the backend is not listed, in one sentence for its operator. It may quote the backend and name its
    /// address.
    #[must_use]
    pub fn failure_text(&self) -> String {
        if let Some(failure) = &self.status.connect_failure {
            return failure.to_string();
        }
        match (&self.checks.failure, &self.status.startup) {
            (Some(failure), _) => format!("{}: {}", failure.class, failure.cause),
            (None, Some(starting)) => {
                let line = starting.last_line.iter().map(|line| format!(", its last line is `{line}`"));
                format!(
                    "it has been starting for {} s{}",
                    starting.elapsed.as_secs(),
                    line.collect::<String>()
                )
            }
            (None, None) => "it has not answered yet".to_owned(),
        }
    }

    /// The class of the current failure of the health check or else of the first failing list. Without
    /// either, the class of the connection's last failure.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        let failure = self.checks.failure.as_ref().map(|failure| failure.class.as_str());
        failure.or(self.list_failures.first().map(|list| list.class)).or(self.status.last_error)
    }
}
