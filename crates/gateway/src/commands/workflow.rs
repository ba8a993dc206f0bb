//! `vmcp workflow`: checks, shows and runs the workflows of a configuration.

mod check;
mod mock;
mod plan;
mod run;

use std::process::ExitCode;

use vmcp::RunningGateway;
use vmcp::config::Settings;
use vmcp_workflow::Workflow;

use crate::cli::WorkflowCommand;

/// Runs one of the commands.
pub(crate) async fn run(settings: Settings, command: WorkflowCommand) -> anyhow::Result<ExitCode> {
    if settings.workflows.workflows.is_empty() {
        anyhow::bail!("the configuration has no workflows; write them in `compositeTools`");
    }
    match command {
        WorkflowCommand::Check { names, strict, source: _ } => {
            Box::pin(check::run(settings, &names, strict)).await
        }
        WorkflowCommand::Plan { name, source: _ } => Box::pin(plan::run(settings, &name)).await,
        WorkflowCommand::Run { name, arguments, mock, answers, source: _, json } => {
            let asked = run::RunArguments { name, arguments, mock, answers, json };
            Box::pin(run::run(settings, asked)).await
        }
    }
}

/// The workflow of this name.
fn find_workflow<'a>(settings: &'a Settings, name: &str) -> anyhow::Result<&'a Workflow> {
    let workflows = || settings.workflows.workflows.iter();
    if let Some(workflow) = workflows().find(|workflow| workflow.name() == name) {
        return Ok(workflow);
    }
    let names = || workflows().map(Workflow::name);
    let near = vmcp_optimizer::nearest_name(name, names());
    let hint = near.map_or_else(
        || format!("; there are {}", names().take(12).collect::<Vec<_>>().join(", ")),
        |near| format!("; did you mean `{near}`?"),
    );
    anyhow::bail!("there is no workflow `{name}`{hint}")
}

/// Starts the gateway for a command that lists tools.
async fn start(settings: Settings) -> anyhow::Result<RunningGateway> {
    // The limits of the configuration count, and not what is left of them.
    let mut settings = settings.without_embeddings();
    if let Some(limits) = settings.limits.as_mut() {
        limits.redis = None;
    }
    let gateway = RunningGateway::start(settings, vmcp::Additions::default()).await?;
    crate::start_progress::show(&gateway.federation);
    Ok(gateway)
}
