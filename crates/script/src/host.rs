//! Does what one script asks for: calls, searches, questions, pauses. Every call goes through the inner layers, as if the
//! client had made it.

mod consent;
mod failure;
mod record;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tracing::Instrument as _;
use vmcp_domain::{BoxFuture, CallContext, CallTool, Error, Reply, RunStep, SharedGateway};
use vmcp_json::{Json, Members};
use vmcp_runs::{RunClock, RunPort, question};
use vmcp_script_worker::{Failure, Language, Outcome, Request};

use crate::policy::ScriptPolicy;
use crate::search::ToolSearch;
use crate::serve::Host;
use crate::signature::Documentation;
use crate::tools::ScriptTools;
pub(crate) use failure::{LIMITED, of_error as failure_of};
pub(crate) use record::{CallOutcome, CallRecord, RunRecord};

/// The most tools that a search returns.
const FOUND_MAX: usize = 20;
/// How many tools a search returns, unless the script says it.
const FOUND: usize = 5;

/// What the calls of one run have in common.
pub(crate) struct RunHost<'a> {
    pub(crate) inner: &'a SharedGateway,
    pub(crate) policy: &'a ScriptPolicy,
    pub(crate) search: Option<&'a dyn ToolSearch>,
    /// The context of the calls.
    pub(crate) ctx: CallContext,
    /// The context of the request, whose client is asked and told of progress.
    pub(crate) outer: &'a CallContext,
    pub(crate) tools: &'a ScriptTools,
    pub(crate) clock: Arc<RunClock>,
    pub(crate) record: RunRecord,
    /// Held while the user is asked: one question after the other.
    pub(crate) question: tokio::sync::Mutex<()>,
}

impl Host for RunHost<'_> {
    fn answer(&self, id: u64, request: Request) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let answered = match request {
                Request::Call { name, arguments } => self.call(id, name, arguments).await,
                Request::FindTools { query, limit } => self.find_tools(&query, limit).await,
                Request::DescribeTool { name } => self.describe_tool(&name),
                Request::Ask { message, schema } => self.ask(&message, schema).await,
                Request::Sleep { ms } => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Ok(Json::null())
                }
            };
            answered.map_or_else(Outcome::Failure, Outcome::Value)
        })
    }

    fn language(&self, language: Language) {
        self.record.keep_language(language);
    }

    fn log(&self, line: &str) {
        self.record.log(line);
    }

    fn progress(&self, message: &str, done: Option<f64>, total: Option<f64>) {
        self.record.note_own_progress();
        self.report_progress(message, done, total);
    }

    fn emit(&self, item: Json) -> Result<(), String> {
        self.record.emit(item)
    }
}

impl RunHost<'_> {
    async fn call(&self, id: u64, name: String, arguments: Json) -> Result<Json, Failure> {
        let Some(tool) = self.tools.get(&name) else { return Err(failure::unknown_tool(&name)) };
        let number = self.record.start_call(&name);
        if self.policy.asks_before(tool)
            && let Err(problem) = self.require_consent(&name, &arguments).await
        {
            self.record.end_call(number, CallOutcome::Refused, Duration::ZERO);
            return Err(failure::message(problem));
        }
        let started = self.clock.elapsed();
        let outcome = self.call_in_time(number, CallTool::new(name.as_str().into(), Some(arguments))).await;
        let took = self.clock.elapsed().saturating_sub(started);
        let (answer, outcome) = self.read(&name, id, outcome);
        self.record.end_call(number, outcome, took);
        self.report_call(&name);
        answer
    }

    /// Calls a tool. `None` if it takes too long.
    async fn call_in_time(&self, number: usize, request: CallTool) -> Option<Result<Reply, Error>> {
        // A question of the backend stops the clocks of the call and of the run.
        let clock = Arc::new(RunClock::start());
        let clocks = vec![Arc::clone(&clock), Arc::clone(&self.clock)];
        let step = RunStep { step: number.to_string().into(), item: None, attempt: 1 };
        let ctx = CallContext {
            client: Arc::new(RunPort::new(Arc::clone(&self.outer.client), clocks)),
            run: self.ctx.run.as_ref().map(|run| run.at(step)),
            ..self.ctx.clone()
        };
        // The limiter fills in its decision, under the field names of the outer span.
        let span = tracing::info_span!(
            "script.call",
            tool = %request.name,
            number,
            rate_limit.decision = tracing::field::Empty,
            rate_limit.rejected_by = tracing::field::Empty,
            rate_limit.fail_open = tracing::field::Empty,
        );
        let calling = self.inner.call_tool(&ctx, request).instrument(span);
        clock.limit(self.policy.call_timeout, calling).await
    }

    /// What a script gets of the outcome of a call.
    fn read(
        &self,
        name: &str,
        id: u64,
        outcome: Option<Result<Reply, Error>>,
    ) -> (Result<Json, Failure>, CallOutcome) {
        let Some(outcome) = outcome else {
            let text = format!("`{name}` did not answer within {} s", self.policy.call_timeout.as_secs_f64());
            return (Err(failure::message(text)), CallOutcome::TimedOut);
        };
        match outcome {
            Ok(reply) => {
                let outcome = if reply.is_error { CallOutcome::Failed } else { CallOutcome::Done };
                let (result, most) = (reply.members.to_json(), self.policy.reply_bytes_max);
                if result.as_str().len() > most {
                    let bytes = result.as_str().len();
                    let text =
                        format!("the result of `{name}` has {bytes} bytes; a script gets at most {most}");
                    return (Err(failure::message(text)), outcome);
                }
                (Ok(result), outcome)
            }
            Err(error) => {
                let outcome =
                    if vmcp_runs::was_not_made(&error) { CallOutcome::Refused } else { CallOutcome::Failed };
                let told = failure::of_error(&error);
                self.record.keep_error(id, error);
                (Err(told), outcome)
            }
        }
    }

    async fn find_tools(&self, query: &str, limit: Option<u32>) -> Result<Json, Failure> {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(FOUND).clamp(1, FOUND_MAX);
        let Some(search) = self.search else { return Err(failure::message("tools cannot be searched")) };
        let found = search.search(&self.ctx, query).await.map_err(|error| failure::of_error(&error))?;
        let found = found.iter().filter_map(|name| self.tools.get(name.as_str())).take(limit);
        let rows: Vec<_> = found
            .map(|tool| {
                json!({
                    "name": tool.name.as_str(),
                    "description": tool.description,
                    "signature": crate::tools::signature_of(tool, Documentation::Omitted),
                })
            })
            .collect();
        Json::encode(&rows).map_err(failure::message)
    }

    fn describe_tool(&self, name: &str) -> Result<Json, Failure> {
        let tool = self.tools.get(name).ok_or_else(|| failure::unknown_tool(name))?;
        Ok(Json::string(&crate::tools::signature_of(tool, Documentation::Comments)))
    }

    async fn ask(&self, message: &str, schema: Option<Json>) -> Result<Json, Failure> {
        let schema = schema.filter(|schema| !schema.is_null()).unwrap_or_else(question::no_fields);
        let asked = question::Asked::new(message, schema).map_err(failure::message)?;
        let _one_at_a_time = self.question.lock().await;
        let pause = self.clock.pause();
        let reaction = asked.ask(&*self.outer.client).await;
        drop(pause);
        let reaction =
            reaction.map_err(|error| failure::message(format!("the user cannot be asked: {error}")))?;
        let mut answer = Members::new();
        answer.insert("action", Json::string(reaction.action()));
        if let question::Reaction::Accepted(content) = reaction {
            answer.insert("content", content);
        }
        Ok(answer.to_json())
    }

    /// Tells the client that a call has ended, unless the script reports its progress itself.
    fn report_call(&self, name: &str) {
        if !self.record.has_own_progress() {
            self.report_progress(&format!("{name} has ended"), None, None);
        }
    }

    fn report_progress(&self, message: &str, done: Option<f64>, total: Option<f64>) {
        if !self.outer.client.wants_progress() {
            return;
        }
        // The number must grow with each notification (Progress, "Behavior Requirements").
        let progress = self.record.next_progress(done);
        let mut params = Members::new();
        params.insert("progress", Json::encode(&progress).unwrap_or_else(|_| Json::integer(0)));
        if let Some(total) = total.filter(|total| total.is_finite() && *total >= progress)
            && let Ok(total) = Json::encode(&total)
        {
            params.insert("total", total);
        }
        params.insert("message", Json::string(message));
        self.outer.client.progress(params);
    }
}
