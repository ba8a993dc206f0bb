//! What the optimizer tells about its work, for metrics. Calls made through `call_tool` are real calls, so the layers
//! below tell about them too.

use std::time::Duration;

use vmcp_domain::ToolName;

/// How a search went.
#[derive(Clone, Copy, Debug)]
pub struct FindEvent {
    /// How long it took.
    pub took: Duration,
    /// How many tools it returned; `None` when it failed.
    pub result_count: Option<usize>,
    /// How much smaller the result was than the whole list, in percent.
    pub savings_percent: f64,
    /// Whether meaning was compared, not words alone.
    pub semantic: bool,
}

/// How a call through `call_tool` went.
#[derive(Clone, Copy, Debug)]
pub struct CallEvent<'a> {
    /// The tool that was named.
    pub tool: &'a ToolName,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub outcome: CallOutcome,
}

/// How a call through `call_tool` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The tool answered, even if with a failure of its own.
    Answered,
    /// The caller sees no tool of that name.
    NotFound,
    /// It was refused or broke on the way.
    Failed,
}

/// Hears of searches and calls. Called on the request's path, so it must not block.
pub trait Observer: Send + Sync {
    /// A search ended.
    fn found(&self, event: &FindEvent);
    /// A call through `call_tool` ended.
    fn called(&self, event: &CallEvent<'_>);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn found(&self, _event: &FindEvent) {}

    fn called(&self, _event: &CallEvent<'_>) {}
}
