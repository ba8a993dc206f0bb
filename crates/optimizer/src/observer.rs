//! Events of the optimizer, for metrics. Calls made through `call_tool` are ordinary calls, so the inner
//! layers report them too.

use std::time::Duration;

use vmcp_domain::ToolName;

/// A finished search.
#[derive(Clone, Copy, Debug)]
pub struct FindEvent {
    /// How long the search took.
    pub took: Duration,
    /// How many tools it returned; `None` when it failed.
    pub result_count: Option<usize>,
    /// How much smaller the result was than the whole list, in percent.
    pub savings_percent: f64,
    /// Whether vectors were compared, and not words alone.
    pub semantic: bool,
}

/// A finished call through `call_tool`.
#[derive(Clone, Copy, Debug)]
pub struct CallEvent<'a> {
    /// The tool that the client named.
    pub tool: &'a ToolName,
    /// How long the call took.
    pub took: Duration,
    /// The outcome of the call.
    pub outcome: CallOutcome,
}

/// The outcome of a call through `call_tool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The tool responded, possibly with a tool error.
    Answered,
    /// The caller sees no tool of that name.
    NotFound,
    /// The call was refused or failed.
    Failed,
}

/// Receives the events of searches and calls. Called on the request's path, so it must not block.
pub trait Observer: Send + Sync {
    /// A search ended.
    fn found(&self, event: &FindEvent);
    /// A call through `call_tool` ended.
    fn called(&self, event: &CallEvent<'_>);
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn found(&self, _event: &FindEvent) {}

    fn called(&self, _event: &CallEvent<'_>) {}
}
