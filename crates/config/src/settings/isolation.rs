//! What the isolation of the backends means: the number of processes, and which callers share a connection.

use vmcp_backends::policy::{BackendPolicy, Isolation, Transport};

use super::Settings;

impl Settings {
    /// The largest possible number of processes of stdio backends.
    #[must_use]
    pub fn process_count_worst_case(&self) -> usize {
        let stdio = || self.backends.iter().filter(|one| matches!(one.transport, Transport::Stdio(_)));
        if stdio().any(|backend| backend.isolation != Isolation::Shared) {
            self.process_count_max.max(stdio().count())
        } else {
            stdio().count()
        }
    }

    /// Which callers share a connection, as one line for each backend.
    #[must_use]
    pub fn describe_isolation(&self) -> Vec<String> {
        let line = |backend: &BackendPolicy| {
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
                    let separated_by =
                        if sessions_apart { "caller or, without identity, session" } else { "caller" };
                    format!("a connection for each {separated_by}, if the server hands out sessions")
                }
            };
            format!("{id}: {text}")
        };
        self.backends.iter().map(line).collect()
    }
}
