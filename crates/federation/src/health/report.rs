//! What an operator may know about one backend: its connection, its share of the offer, and whether that works.

use vmcp_domain::{BackendId, BackendState, BackendStatus, ListFailure};

use crate::health::circuit_breaker::CircuitReport;
use crate::health::health_checks::HealthChecks;

/// The class of failures that are about credentials.
const AUTH: &str = "auth";

/// What an operator may know about one backend and its share of the offer.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// The backend.
    pub id: BackendId,
    /// How its connection is doing.
    pub status: BackendStatus,
    /// Whether its offer is listed now.
    pub is_listed: bool,
    /// How many tools it offered last.
    pub tool_count: usize,
    /// How many resources and templates it offered last.
    pub resource_count: usize,
    /// How many prompts it offered last.
    pub prompt_count: usize,
    /// How many callers it is listed for, where each sees it in a way of its own; the counts above then say nothing.
    pub caller_count: Option<usize>,
    /// The lists that cannot be read, or not wholly.
    pub list_failures: Vec<ListFailure>,
    /// How the looks at its offer went.
    pub checks: HealthChecks,
    /// Whether calls are let through to it, where `circuitBreaker` is on.
    pub circuit: Option<CircuitReport>,
}

/// Whether what a backend offers works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// All of it.
    Healthy,
    /// Some list cannot be read.
    Degraded,
    /// It cannot be reached, or its tools cannot be read.
    Unhealthy,
    /// It refuses the credential that the configuration gives it, or wants one and gets none.
    Unauthenticated,
    /// It is being connected for the first time.
    Unknown,
}

impl Health {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::Healthy, Self::Degraded, Self::Unhealthy, Self::Unauthenticated, Self::Unknown];

    /// Its name in `/status`.
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
    /// Whether what it offers works, by its connection and by its lists.
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

    /// The class of what fails now, else of the last failure.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        let failure = self.checks.failure.as_ref().map(|failure| failure.class.as_str());
        failure.or(self.list_failures.first().map(|list| list.class)).or(self.status.last_error)
    }
}
