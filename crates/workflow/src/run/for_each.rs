//! A call for each item of a list.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use vmcp_domain::{CallTool, PlannedCall, Reservation, StepStatus};
use vmcp_json::Json;
use vmcp_runs::RunClock;
use vmcp_template::{Rendered, Value};

use super::state::{Consequence, StepEnd, StepFailure};
use super::{CallPlace, Run, failed, workflow_failure};
use crate::definition::{ForEach, OnFailure, Step};

/// An item with its request: `None` if its condition does not hold, and an error if something cannot be evaluated.
struct Planned {
    index: usize,
    item: Value,
    request: Result<Option<CallTool>, String>,
}

/// The end of one item.
struct ItemEnd {
    index: usize,
    item: Value,
    status: StepStatus,
    output: Value,
    failure: Option<StepFailure>,
}

impl Run<'_> {
    pub(super) async fn for_each(
        &self,
        step_index: usize,
        for_each: &ForEach,
        data: &Value,
        clock: &Arc<RunClock>,
    ) -> StepEnd {
        let step = &self.workflow.steps[step_index];
        let items = match self.items(step, for_each, data) {
            Ok(items) => items,
            Err(text) => return failed(step, workflow_failure(step, &text)),
        };
        let continues = step.on_failure == OnFailure::Continue || for_each.on_failure == OnFailure::Continue;
        let mut planned: Vec<Planned> = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            planned.push(self.plan_item(for_each, index, item));
            // A thousand templates take long, and time-outs must be noticed meanwhile.
            tokio::task::yield_now().await;
        }
        let requests = planned.iter().filter_map(|one| one.request.clone().ok().flatten());
        let calls: Vec<PlannedCall> =
            requests.map(|call| PlannedCall { call, arguments_known: true }).collect();
        let reservation = match self.reserve(&calls).await {
            Ok(reservation) => reservation,
            Err(error) => {
                let text = format!("forEach step {}: {error}", step.id);
                return failed(step, StepFailure::Refused(error, text));
            }
        };
        self.state.start_items(step_index, planned.len());
        let runs = planned
            .into_iter()
            .map(|one| self.item(step_index, for_each, one, (clock, reservation.as_ref())));
        // Items start in the order of the list.
        let mut running = stream::iter(runs).buffer_unordered(for_each.parallel);
        let mut ends = Vec::new();
        while let Some(end) = running.next().await {
            if let Some(failure) = end.failure.clone().filter(|_| !continues) {
                let text = format!("forEach step {} iteration {}: {}", step.id, end.index, failure.text());
                let failure = match failure {
                    StepFailure::Refused(error, _) => StepFailure::Refused(error, text),
                    StepFailure::TimedOut => StepFailure::TimedOut,
                    StepFailure::Message(_) => StepFailure::Message(text),
                };
                return failed(step, failure);
            }
            if end.status == StepStatus::Completed {
                self.state.complete_item(step_index);
            }
            ends.push(end);
        }
        ends.sort_by_key(|end| end.index);
        completed(&ends)
    }

    /// The items of the list.
    fn items(&self, step: &Step, for_each: &ForEach, data: &Value) -> Result<Vec<Value>, String> {
        let missing = self.workflow.missing_values.text();
        let rendered = for_each.collection.evaluate(data, missing);
        let value = match rendered.map_err(|error| format!("the list cannot be evaluated: {error}"))? {
            Rendered::Value(value) if value.as_text().is_none() => value,
            Rendered::Value(value) => parsed(value.as_text().unwrap_or_default()),
            Rendered::Text(text) => parsed(&text),
        };
        if value.is_missing() {
            return Ok(Vec::new());
        }
        let Some(items) = value.as_list() else {
            return Err("the collection must be a JSON list".to_owned());
        };
        if items.len() > for_each.items_max {
            let (count, most) = (items.len(), for_each.items_max);
            return Err(format!(
                "forEach step {}: the list has {count} items, and `maxIterations` is {most}",
                step.id
            ));
        }
        Ok(items.to_vec())
    }

    /// Evaluates the condition and the arguments of an item.
    fn plan_item(&self, for_each: &ForEach, index: usize, item: Value) -> Planned {
        let number = Value::integer(i64::try_from(index).unwrap_or(i64::MAX));
        let item_data = Value::object([(for_each.item_name.as_str(), item.clone()), ("index", number)]);
        let data = self.state.data("pending", Some(item_data));
        let request = match self.holds(for_each.condition.as_ref(), &data) {
            Ok(true) => self.request(&for_each.call, &data).map(Some),
            Ok(false) => Ok(None),
            Err(text) => Err(text),
        };
        Planned { index, item, request }
    }

    async fn item(
        &self,
        step_index: usize,
        for_each: &ForEach,
        Planned { index, item, request }: Planned,
        (step_clock, reservation): (&Arc<RunClock>, Option<&Reservation>),
    ) -> ItemEnd {
        let default = || for_each.default_results.clone().unwrap_or(Value::Missing);
        let end = |status, output, failure| ItemEnd { index, item, status, output, failure };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => return end(StepStatus::Skipped, default(), None),
            Err(text) => return end(StepStatus::Failed, default(), Some(StepFailure::Message(text))),
        };
        let clock = Arc::new(RunClock::start());
        let ctx = self.context_of_call(&[step_clock, &clock], reservation.cloned());
        let place = CallPlace { step: step_index, item: Some(index) };
        let calling = Box::pin(self.call(&for_each.call, request, place, &ctx));
        match clock.limit(for_each.timeout, calling).await {
            Some(Ok(result)) => end(StepStatus::Completed, result.output, None),
            Some(Err(failure)) => end(StepStatus::Failed, default(), Some(failure)),
            None => end(StepStatus::Failed, default(), Some(StepFailure::TimedOut)),
        }
    }
}

/// The value of JSON text. Text that is no JSON stays a text, which is no list.
fn parsed(text: &str) -> Value {
    Json::parse(text.to_owned()).map_or_else(|_| Value::string(text), |json| Value::decode(&json))
}

/// The output of all items, in the form of ToolHive.
fn completed(ends: &[ItemEnd]) -> StepEnd {
    let count = |status| {
        let count = ends.iter().filter(|end| end.status == status).count();
        Value::integer(i64::try_from(count).unwrap_or(i64::MAX))
    };
    let iterations = ends.iter().map(|end| {
        let mut members = vec![
            ("index", Value::integer(i64::try_from(end.index).unwrap_or(i64::MAX))),
            ("item", end.item.clone()),
            ("status", Value::string(end.status.as_str())),
            ("output", end.output.clone()),
        ];
        members.extend(end.failure.as_ref().map(|failure| ("error", Value::string(failure.text()))));
        Value::object(members)
    });
    let output = Value::object([
        ("iterations", Value::list(iterations.collect())),
        ("count", Value::integer(i64::try_from(ends.len()).unwrap_or(i64::MAX))),
        ("completed", count(StepStatus::Completed)),
        ("failed", count(StepStatus::Failed)),
    ]);
    StepEnd {
        status: StepStatus::Completed,
        content: Value::object::<&str>([]),
        output,
        failure: None,
        consequence: Consequence::Continue,
    }
}
