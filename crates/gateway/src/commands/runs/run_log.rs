//! Prints on standard error what happens in a run.

use std::time::Duration;

use parking_lot::Mutex;
use vmcp_domain::{
    CallContext, CallTool, Gateway, GatewayFuture, Reply, RunEvent, RunObserver, RunOutcome, SharedGateway,
    StepAction, StepStatus, forward,
};
use vmcp_json::Json;

use crate::terminal;

/// The most characters of arguments that are printed.
const ARGUMENTS_MAX: usize = 400;

/// Prints the steps of a run, and remembers which step asks.
#[derive(Debug, Default)]
pub(in crate::commands) struct RunLog {
    asking: Mutex<Option<String>>,
}

impl RunLog {
    /// The step that started to ask last.
    pub(in crate::commands) fn asking_step(&self) -> Option<String> {
        self.asking.lock().clone()
    }
}

impl RunObserver for RunLog {
    fn on_event(&self, _ctx: &CallContext, event: &RunEvent<'_>) {
        match event {
            RunEvent::Started { parameters, .. } => {
                terminal::print_error(format_args!("started with {}", shortened(parameters.as_str())));
            }
            RunEvent::StepStarted { step, action, .. } => {
                if *action == StepAction::Ask {
                    *self.asking.lock() = Some((*step).to_owned());
                }
            }
            RunEvent::StepEnded(report) => {
                let note = match (report.error, report.condition) {
                    (Some(error), _) => format!(": {error}"),
                    (None, Some(condition)) => format!(": {condition}"),
                    (None, None) => String::new(),
                };
                let took = match report.status {
                    StepStatus::Skipped => String::new(),
                    StepStatus::Completed | StepStatus::Failed => format!(" after {}", millis(report.took)),
                };
                let (step, status) = (report.step, report.status.as_str());
                terminal::print_error(format_args!("{step}: {status}{took}{note}"));
            }
            RunEvent::Ended { outcome, took, .. } => {
                let outcome = match outcome {
                    RunOutcome::Completed => "completed",
                    RunOutcome::Failed => "failed",
                    RunOutcome::TimedOut => "timed out",
                };
                terminal::print_error(format_args!("{outcome} after {}", millis(*took)));
            }
        }
    }
}

/// Prints each call with its arguments.
pub(in crate::commands) struct PrintedCalls {
    pub(in crate::commands) inner: SharedGateway,
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for PrintedCalls {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        let Some(step) = ctx.run.as_ref().and_then(|run| run.step.as_ref()) else {
            return self.inner.call_tool(ctx, request);
        };
        let item = step.item.map(|item| format!("[{item}]")).unwrap_or_default();
        let again = if step.attempt > 1 { format!(" (try {})", step.attempt) } else { String::new() };
        let place = format!("{}{item}", step.step);
        let arguments = request.arguments.as_ref().map_or("{}", Json::as_str);
        let name = &request.name;
        terminal::print_error(format_args!("{place}: calls {name}{again} {}", shortened(arguments)));
        Box::pin(async move {
            let outcome = self.inner.call_tool(ctx, request).await;
            match &outcome {
                Ok(reply) if reply.is_error => {
                    let text = vmcp_wire::tool_result::to_text(reply);
                    terminal::print_error(format_args!("{place}: the tool failed: {}", shortened(&text)));
                }
                Ok(_) => {}
                Err(error) => terminal::print_error(format_args!("{place}: the call failed: {error}")),
            }
            outcome
        })
    }

    forward!(
        list_tools,
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task
    );
}

fn millis(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}

fn shortened(text: &str) -> String {
    let end = text.char_indices().nth(ARGUMENTS_MAX).map_or(text.len(), |(end, _)| end);
    if end == text.len() { text.to_owned() } else { format!("{}…", &text[..end]) }
}
