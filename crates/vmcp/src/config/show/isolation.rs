//! The bounds of connections that belong to single callers, and what they come to.

use serde_json::{Value, json};
use vmcp_backends::policy::{CallerBounds, Isolation, Transport};

use crate::config::duration::format;
use crate::config::settings::Settings;

/// The section `isolation`.
pub(super) fn show(settings: &Settings) -> Value {
    let bounds = settings.backends.first().map_or(CallerBounds::DEFAULT, |backend| backend.bounds);
    let CallerBounds { connections_max, per_caller_max, idle_wait, wait } = bounds;
    json!({
        "maxProcesses": settings.process_count_max,
        "maxConnections": connections_max,
        "maxConnectionsPerCaller": per_caller_max,
        "idleTimeout": format(idle_wait),
        "wait": format(wait),
        "worstCaseProcesses": settings.process_worst_case(),
    })
}

impl Settings {
    /// How many processes of stdio backends there are at most.
    #[must_use]
    pub fn process_worst_case(&self) -> usize {
        let stdio = || self.backends.iter().filter(|one| matches!(one.transport, Transport::Stdio(_)));
        if stdio().any(|backend| backend.isolation != Isolation::Shared) {
            self.process_count_max.max(stdio().count())
        } else {
            stdio().count()
        }
    }

    /// Which callers share a connection, a line for each backend that keeps state for its callers.
    #[must_use]
    pub fn isolation_lines(&self) -> Vec<String> {
        let line = |backend: &vmcp_backends::policy::BackendPolicy| {
            let (id, isolation) = (&backend.id, backend.isolation.as_str());
            let is_stdio = matches!(backend.transport, Transport::Stdio(_));
            let text = match (backend.credentials.is_some(), backend.isolation, is_stdio) {
                (true, _, _) => "each caller has a connection with a credential of its own".to_owned(),
                (false, Isolation::Shared, true) => "all callers share one process".to_owned(),
                (false, Isolation::Shared, false) => "all callers share one connection".to_owned(),
                (false, Isolation::PerCaller | Isolation::PerSession, true) => {
                    format!(
                        "{isolation}, up to {} processes of all such backends together",
                        self.process_count_max
                    )
                }
                (false, Isolation::PerCaller | Isolation::PerSession, false) => {
                    format!("{isolation}, if the server hands out sessions")
                }
                (false, Isolation::Automatic { sessions_apart }, _) => {
                    let apart =
                        if sessions_apart { "caller or, without identity, session" } else { "caller" };
                    format!("a connection for each {apart}, if the server hands out sessions")
                }
            };
            format!("{id}: {text}")
        };
        self.backends.iter().map(line).collect()
    }
}
