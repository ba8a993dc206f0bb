//! The bounds of workflows.

use std::time::Duration;

use vmcp_template::MissingText;

/// How many workflows may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkflowPolicy {
    /// For all callers together.
    pub running_max: usize,
    /// For each caller.
    pub running_max_per_caller: usize,
}

impl Default for WorkflowPolicy {
    fn default() -> Self {
        Self { running_max: 100, running_max_per_caller: 10 }
    }
}

/// What a template renders for data that does not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingValues {
    /// An argument that is nothing else is left out. Inside a longer text it is nothing.
    #[default]
    Omit,
    /// `<no value>`, as in ToolHive.
    Text,
}

impl MissingValues {
    pub(crate) fn text(self) -> MissingText {
        match self {
            Self::Omit => MissingText::Empty,
            Self::Text => MissingText::NoValue,
        }
    }
}

/// The most steps of a workflow.
pub(crate) const STEPS_MAX: usize = 100;
/// The most steps that run at once.
pub(crate) const PARALLEL_STEPS_MAX: usize = 10;
/// How long a run may take.
pub(crate) const RUN_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How long a step may take, and how long a question waits for its answer.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The longest time-out of a question.
pub(crate) const QUESTION_TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);
/// The most repetitions of a call.
pub(crate) const RETRIES_MAX: u32 = 10;
/// The wait before the first repetition.
pub(crate) const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The most items of a list.
pub(crate) const ITEMS: u32 = 100;
/// The most items that an operator may allow.
pub(crate) const ITEMS_MAX: u32 = 1000;
/// How many items run at once.
pub(crate) const PARALLEL_ITEMS: u32 = 10;
/// The most items that an operator may run at once.
pub(crate) const PARALLEL_ITEMS_MAX: u32 = 50;
/// The most bytes of results that a run keeps.
pub(crate) const RESULTS_BYTES_MAX: usize = 32 << 20;
/// The most members and items that the results of a run may have. A decoded one takes up to 200 bytes, however short it is.
pub(crate) const RESULT_PARTS_MAX: usize = 500_000;
/// The deepest nesting of an output.
pub(crate) const OUTPUT_DEPTH_MAX: usize = 10;
