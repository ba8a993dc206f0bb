//! What the steps of a run have done so far, as templates and answers see it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vmcp_domain::{Error, StepStatus};
use vmcp_runs::RunClock;
use vmcp_template::{Object, Value};

use crate::definition::Workflow;
use crate::results::ResultSize;

/// The end of a step.
#[derive(Clone, Debug)]
pub(crate) struct StepEnd {
    pub(crate) status: StepStatus,
    pub(crate) output: Value,
    pub(crate) content: Value,
    /// Why it failed.
    pub(crate) failure: Option<StepFailure>,
    /// What the failure of this step means for the run.
    pub(crate) consequence: Consequence,
}

/// What follows the end of a step.
#[derive(Clone, Debug)]
pub(crate) enum Consequence {
    /// The steps after it may start.
    Continue,
    /// The run ends with this failure.
    Abort(StepFailure),
    /// All steps that have not started are skipped.
    SkipRemaining,
}

/// Why a step failed.
#[derive(Clone, Debug)]
pub(crate) enum StepFailure {
    /// A sentence, as templates read it in `.steps.ID.error`.
    Message(String),
    /// The step took too long.
    TimedOut,
    /// A call was refused, with the sentence for templates.
    Refused(Error, String),
}

impl StepFailure {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Message(text) | Self::Refused(_, text) => text.clone(),
            Self::TimedOut => "the step timed out".to_owned(),
        }
    }
}

/// The state of a run, shared by its steps.
pub(crate) struct RunState {
    pub(crate) id: String,
    pub(crate) clock: Arc<RunClock>,
    started_at: String,
    params: Value,
    step_count: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    steps: Object,
    /// When each step started, by the clock of the run.
    started: Vec<Option<Duration>>,
    /// How many calls of each step were repeated.
    retries: Vec<u32>,
    /// For each step that goes through a list: how many items it has, and how many of them completed.
    items: Vec<Option<ItemCount>>,
    ends: Vec<Option<StepRecord>>,
    /// The index of the step that completed last.
    last_completed: Option<usize>,
    results: ResultSize,
    calls: usize,
    phase: Phase,
}

/// The items of a list that a step goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemCount {
    pub(crate) total: usize,
    pub(crate) completed: usize,
}

/// Whether observers know of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It was not reported.
    #[default]
    New,
    /// Its start was reported.
    Running,
    /// Its end was reported.
    Ended,
}

/// What the answer says about a step.
#[derive(Clone, Debug)]
pub(crate) struct StepRecord {
    pub(crate) status: StepStatus,
    pub(crate) took: Duration,
    pub(crate) retries: u32,
    pub(crate) error: Option<String>,
    pub(crate) output: Value,
}

impl RunState {
    pub(crate) fn new(workflow: &Workflow, params: Value, started_at: String, clock: Arc<RunClock>) -> Self {
        let step_count = workflow.steps.len();
        let inner = Inner {
            ends: vec![None; step_count],
            started: vec![None; step_count],
            retries: vec![0; step_count],
            items: vec![None; step_count],
            ..Inner::default()
        };
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            clock,
            started_at,
            params,
            step_count,
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The data of templates. `status` is that of the run.
    pub(crate) fn data(&self, status: &str, for_each: Option<Value>) -> Value {
        let steps = Value::from_object(self.lock().steps.clone());
        let elapsed = i64::try_from(self.clock.elapsed().as_millis()).unwrap_or(i64::MAX);
        let workflow = Value::object([
            ("id", Value::string(self.id.as_str())),
            ("status", Value::string(status)),
            ("start_time", Value::string(self.started_at.as_str())),
            ("duration_ms", Value::integer(elapsed)),
            ("step_count", Value::integer(i64::try_from(self.step_count).unwrap_or(i64::MAX))),
        ]);
        let roots = [
            ("params", self.params.clone()),
            ("steps", steps),
            ("workflow", workflow),
            ("vars", Value::object::<&str>([])),
        ];
        Value::object(roots.into_iter().chain(for_each.map(|item| ("forEach", item))))
    }

    /// Records the end of a step. Returns how many of its calls were repeated.
    pub(crate) fn record(&self, index: usize, id: &Arc<str>, end: &StepEnd, took: Duration) -> u32 {
        let error = end.failure.as_ref().map(StepFailure::text);
        let mut members = vec![
            ("status", Value::string(end.status.as_str())),
            ("output", end.output.clone()),
            ("content", end.content.clone()),
        ];
        members.extend(error.clone().map(|error| ("error", Value::string(error))));
        let mut inner = self.lock();
        inner.steps.insert(id.clone(), Value::object(members));
        if end.status == StepStatus::Completed {
            inner.last_completed = Some(index);
        }
        let retries = inner.retries.get(index).copied().unwrap_or(0);
        if let Some(slot) = inner.ends.get_mut(index) {
            *slot = Some(StepRecord { status: end.status, took, retries, error, output: end.output.clone() });
        }
        retries
    }

    /// Records that a step has started.
    pub(crate) fn start(&self, index: usize) {
        let now = self.clock.elapsed();
        if let Some(started) = self.lock().started.get_mut(index) {
            *started = Some(now);
        }
    }

    /// Whether a step has started, so that it may have acted even if it did not end.
    pub(crate) fn has_started(&self, index: usize) -> bool {
        self.lock().started.get(index).is_some_and(Option::is_some)
    }

    /// Counts a repeated call of a step.
    pub(crate) fn count_retry(&self, index: usize) {
        if let Some(count) = self.lock().retries.get_mut(index) {
            *count += 1;
        }
    }

    /// Records that a step goes through a list of this length.
    pub(crate) fn start_items(&self, index: usize, total: usize) {
        if let Some(items) = self.lock().items.get_mut(index) {
            *items = Some(ItemCount { total, completed: 0 });
        }
    }

    /// Counts an item that completed.
    pub(crate) fn complete_item(&self, index: usize) {
        if let Some(Some(items)) = self.lock().items.get_mut(index) {
            items.completed += 1;
        }
    }

    /// The items of a step that goes through a list.
    pub(crate) fn items(&self, index: usize) -> Option<ItemCount> {
        self.lock().items.get(index).copied().flatten()
    }

    /// The steps that started and have not ended, each with how long it has run and how many calls were repeated.
    pub(crate) fn under_way(&self) -> Vec<(usize, Duration, u32)> {
        let now = self.clock.elapsed();
        let inner = self.lock();
        let steps = inner.started.iter().zip(&inner.ends).zip(&inner.retries).enumerate();
        let under_way = steps.filter_map(|(index, ((started, end), retries))| match (started, end) {
            (Some(started), None) => Some((index, now.saturating_sub(*started), *retries)),
            _ => None,
        });
        under_way.collect()
    }

    /// Notes that the start of the run is reported.
    pub(crate) fn enter_running(&self) {
        self.lock().phase = Phase::Running;
    }

    /// Notes that the end of the run is reported. False if it was before, or its start was not.
    pub(crate) fn enter_ended(&self) -> bool {
        let mut inner = self.lock();
        let is_running = inner.phase == Phase::Running;
        if is_running {
            inner.phase = Phase::Ended;
        }
        is_running
    }

    /// Counts a result that is kept. Returns the bound that the run exceeds with it.
    pub(crate) fn keep(&self, size: ResultSize) -> Option<String> {
        let mut inner = self.lock();
        inner.results = inner.results.plus(size);
        inner.results.exceeded()
    }

    /// Counts a call that is about to be made.
    pub(crate) fn count_call(&self) {
        self.lock().calls += 1;
    }

    /// Takes back a call that was refused, so that nothing happened.
    pub(crate) fn uncount_call(&self) {
        self.lock().calls -= 1;
    }

    /// Whether any call was made or is under way, so that something may have happened.
    pub(crate) fn has_called(&self) -> bool {
        self.lock().calls > 0
    }

    /// The ends of the steps, `None` for those that did not end.
    pub(crate) fn records(&self) -> Vec<Option<StepRecord>> {
        self.lock().ends.clone()
    }

    /// The output of the step that completed last.
    pub(crate) fn last_output(&self) -> Option<Value> {
        let inner = self.lock();
        let record = inner.ends.get(inner.last_completed?)?.as_ref()?;
        Some(record.output.clone())
    }
}
