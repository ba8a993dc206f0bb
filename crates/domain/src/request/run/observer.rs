//! [`RunObserver`]: learns what happens in the runs of workflows and scripts.

use std::time::Duration;

use vmcp_json::Json;

use crate::request::context::CallContext;
use crate::request::message::Reply;

/// Learns what happens in runs. A run that started always ends, also if its caller leaves.
pub trait RunObserver: Send + Sync {
    /// `ctx` is the context of the calls of the run, so [`CallContext::run`] says which run it is. The method is called
    /// by the task of the run and must not block.
    fn on_event(&self, ctx: &CallContext, event: &RunEvent<'_>);
}

/// What happened in a run.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// The run started.
    Started {
        /// The arguments of a workflow, with the defaults of its parameters. Of a script, how long it is.
        parameters: &'a Json,
        /// How long the run may take.
        timeout: Duration,
    },
    /// A step started. A step that is skipped does not start.
    StepStarted {
        /// The identifier of the step.
        step: &'a str,
        /// What the step does.
        action: StepAction,
        /// The tool that it calls, as the operator names it.
        tool: Option<&'a str>,
    },
    /// A step ended, or was skipped.
    StepEnded(StepReport<'a>),
    /// The run ended.
    Ended {
        /// How it ended.
        outcome: RunOutcome,
        /// How long it took, without the time that people needed to answer.
        took: Duration,
        /// The processor time of a script, as far as it is known. `None` for workflows.
        cpu_time: Option<Duration>,
        /// How many steps the workflow has, or how many calls the script made.
        step_count: usize,
        /// The answer. `None` if the run has none: its caller left, or gets an error instead.
        reply: Option<&'a Reply>,
    },
}

/// The end of a step.
#[derive(Debug)]
pub struct StepReport<'a> {
    /// The identifier of the step.
    pub step: &'a str,
    /// How it ended.
    pub status: StepStatus,
    /// How long it took, without the time that people needed to answer.
    pub took: Duration,
    /// How many calls were repeated.
    pub retries: u32,
    /// The condition that skipped the step.
    pub condition: Option<&'a str>,
    /// Why it failed.
    pub error: Option<&'a str>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepAction {
    /// It calls a tool.
    Call,
    /// It asks the user.
    Ask,
    /// It calls a tool for each item of a list.
    ForEach,
}

impl StepAction {
    /// The name in configurations and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "tool",
            Self::Ask => "elicitation",
            Self::ForEach => "forEach",
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepStatus {
    /// It did what it should.
    Completed,
    /// It failed, or was interrupted because the run ended.
    Failed,
    /// Its condition did not hold, or a question skipped the steps after it.
    Skipped,
}

impl StepStatus {
    /// The name that templates and answers show.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// All steps ended or were skipped, or the script has a value.
    Completed,
    /// A step or the script failed, the result could not be built, or the caller left.
    Failed,
    /// The run, or the step that ended it, took too long.
    TimedOut,
}
