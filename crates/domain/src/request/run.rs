//! [`CallRun`]: the workflow or script that a call is a part of.

mod observer;

use std::sync::Arc;

pub use observer::{RunEvent, RunObserver, RunOutcome, StepAction, StepReport, StepStatus};

/// What composes the calls of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// A workflow of the operator.
    Workflow,
    /// A script of the client.
    Script,
}

/// The run that a call is a part of, and the call's place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRun {
    /// The identifier of the run.
    pub id: Arc<str>,
    /// What composes its calls.
    pub kind: RunKind,
    /// The name of the tool that the client called.
    pub tool: Arc<str>,
    /// The place of the call. `None` before the first one.
    pub step: Option<RunStep>,
}

/// The place of a call in its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStep {
    /// The identifier of the step.
    pub step: Arc<str>,
    /// The number of the item, from 0, in a step that is repeated for the items of a list.
    pub item: Option<usize>,
    /// The number of the try, from 1.
    pub attempt: u32,
}

impl CallRun {
    /// A run in which no call was made.
    #[must_use]
    pub fn new(id: &str, kind: RunKind, tool: &str) -> Self {
        Self { id: id.into(), kind, tool: tool.into(), step: None }
    }

    /// The same run at a call.
    #[must_use]
    pub fn at(&self, step: RunStep) -> Self {
        Self { step: Some(step), ..self.clone() }
    }
}
