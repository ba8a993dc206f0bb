//! `vmcp workflow run`: runs a workflow.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use vmcp::config::Settings;
use vmcp::{AddedLayer, Additions, Position, RunningGateway};
use vmcp_domain::{
    CallContext, CallOrigin, CallTool, Caller, ClientPort, Error, Gateway as _, Reply, SharedGateway,
    StepAction,
};
use vmcp_workflow::{Workflow, WorkflowPolicy, WorkflowPorts, Workflows};

use super::find_workflow;
use super::mock::{self, MockTools};
use crate::commands::runs::questions::{self, AnsweringClient, Answers};
use crate::commands::runs::run_log::{PrintedCalls, RunLog};
use crate::commands::{interrupted, parse_arguments, print_reply, serve, until_interrupted};
use crate::{start_progress, terminal};

/// The arguments of the command.
pub(super) struct RunArguments {
    pub(super) name: String,
    pub(super) arguments: String,
    pub(super) mock: Option<PathBuf>,
    pub(super) answers: Vec<String>,
    pub(super) json: bool,
}

/// Runs the workflow, and prints its result. Fails if the workflow fails.
pub(super) async fn run(settings: Settings, asked: RunArguments) -> anyhow::Result<ExitCode> {
    let workflow = find_workflow(&settings, &asked.name)?.clone();
    let arguments = parse_arguments(asked.arguments)?;
    let request = CallTool::new(asked.name.as_str().into(), Some(arguments));
    let mut answers = questions::parse_answers(&asked.answers)?;
    let results = asked.mock.as_deref().map(mock::read).transpose()?;
    if let Some(results) = &results {
        mock::check(&workflow, results)?;
        for (step, of_step) in mock::mock_answers(results) {
            answers.entry(step).or_insert(of_step);
        }
    }
    check_answers(&workflow, &answers)?;
    let outcome = match results {
        Some(results) => {
            let run = Box::pin(run_mocked(workflow, request, (results, answers)));
            let Some(outcome) = until_interrupted(run).await else { return Ok(interrupted()) };
            outcome
        }
        None => match Box::pin(run_connected(settings, request, answers)).await? {
            Some(outcome) => outcome,
            None => return Ok(interrupted()),
        },
    };
    match outcome {
        Ok(reply) => print_reply(&reply, asked.json),
        Err(error) => {
            let hint = if matches!(error, Error::MissingCapability(_)) {
                "; answer with --answer STEP=JSON, or run it on a terminal"
            } else {
                ""
            };
            terminal::print_error(format_args!("vmcp: {error}{hint}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Runs the workflow without servers, limits and policies.
async fn run_mocked(
    workflow: Workflow,
    request: CallTool,
    (results, answers): (mock::MockResults, Answers),
) -> Result<Reply, Error> {
    let tools: SharedGateway = MockTools::of(&workflow, results);
    let log = Arc::new(RunLog::default());
    let ports =
        WorkflowPorts { reserver: None, observer: Some(log.clone()), info: None, now: vmcp::time_of_day };
    let calls = Arc::new(PrintedCalls { inner: tools });
    let layer = Workflows::wrap(calls, Arc::from([workflow]), WorkflowPolicy::default(), ports);
    let client: Arc<dyn ClientPort> = AnsweringClient::new(answers, log);
    let ctx = CallContext { client, ..CallContext::bare(Caller::Anonymous, CallOrigin::Operator) };
    layer.call_tool(&ctx, request).await
}

/// Runs the workflow through the whole stack.
async fn run_connected(
    settings: Settings,
    request: CallTool,
    answers: Answers,
) -> anyhow::Result<Option<Result<Reply, Error>>> {
    let settings = settings.without_embeddings();
    // Standard output is for the result. If the settings name a file, the records are written there.
    let audit = serve::audit_output(&settings, false)?;
    let log = Arc::new(RunLog::default());
    let layer = AddedLayer {
        position: Position::Call,
        name: "printed-calls",
        wrap: Box::new(|inner| Arc::new(PrintedCalls { inner })),
    };
    let additions =
        Additions { audit, layers: vec![layer], run_observer: Some(log.clone()), ..Additions::default() };
    let gateway = RunningGateway::start(settings, additions).await?;
    start_progress::show(&gateway.federation);
    let client: Arc<dyn ClientPort> = AnsweringClient::new(answers, log);
    let ctx = CallContext { client, ..CallContext::bare(gateway.operator_caller(), CallOrigin::Operator) };
    if let Some(reason) = why_not_offered(&gateway, &ctx, request.name.as_str()).await? {
        super::super::report_missing_backends(&gateway);
        gateway.stop().await;
        anyhow::bail!("workflow `{}` is not offered: {reason}", request.name);
    }
    // The gateway is stopped after an interrupt too, so that records are written.
    let outcome = until_interrupted(gateway.gateway.call_tool(&ctx, request)).await;
    gateway.stop().await;
    Ok(outcome)
}

async fn why_not_offered(
    gateway: &RunningGateway,
    ctx: &CallContext,
    name: &str,
) -> anyhow::Result<Option<String>> {
    let workflows = gateway.workflows.as_ref().context("there are no workflows")?;
    let offers = workflows.offers(ctx).await?;
    Ok(offers.into_iter().find(|offer| offer.name == name).and_then(|offer| offer.why_not))
}

/// Refuses answers that no question can get, and a question that is always asked and would get none.
fn check_answers(workflow: &Workflow, answers: &Answers) -> anyhow::Result<()> {
    let questions: Vec<&str> =
        workflow.step_kinds().filter(|(_, kind, _)| *kind == StepAction::Ask).map(|(id, _, _)| id).collect();
    if let Some(step) = answers.keys().find(|step| !questions.contains(&step.as_str())) {
        let known = if questions.is_empty() { "no step asks".to_owned() } else { questions.join(", ") };
        anyhow::bail!("no step `{step}` asks a question; the steps that ask: {known}");
    }
    let certain =
        workflow.step_kinds().filter(|(_, kind, is_certain)| *kind == StepAction::Ask && *is_certain);
    let mut unanswered = certain.map(|(id, _, _)| id).filter(|id| !answers.contains_key(*id));
    match unanswered.next() {
        Some(step) if !questions::has_terminal() => anyhow::bail!(
            "the step `{step}` asks a question; answer it with --answer {step}=JSON, or run the workflow on a terminal"
        ),
        Some(_) | None => Ok(()),
    }
}
