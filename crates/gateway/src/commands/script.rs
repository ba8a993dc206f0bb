//! `vmcp script`: runs a script, and prints the declarations of its tools.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use vmcp::config::Settings;
use vmcp::{AddedLayer, Additions, Position, RunningGateway};
use vmcp_domain::{CallContext, CallOrigin, CallTool, ClientPort, EXECUTE_TOOL_SCRIPT};
use vmcp_json::{Json, Members};
use vmcp_script::ScriptPolicy;

use super::runs::questions::{AnsweringClient, Answers};
use super::runs::run_log::{PrintedCalls, RunLog};
use super::{interrupted, parse_arguments, print_reply, report_missing_backends, serve, until_interrupted};
use crate::cli::ScriptCommand;
use crate::{start_progress, terminal};

/// Runs one of the commands. Without the section `codeMode`, scripts have its defaults.
pub(crate) async fn run(settings: Settings, command: ScriptCommand) -> anyhow::Result<ExitCode> {
    let mut settings = settings.without_embeddings();
    settings.scripts.get_or_insert_with(ScriptPolicy::default);
    match command {
        ScriptCommand::Run { file, data, check, source: _, json } => {
            Box::pin(run_script(settings, RunArguments { file, data, check, json })).await
        }
        ScriptCommand::Types { source: _ } => Box::pin(print_types(settings)).await,
    }
}

struct RunArguments {
    file: PathBuf,
    data: String,
    check: bool,
    json: bool,
}

async fn run_script(settings: Settings, asked: RunArguments) -> anyhow::Result<ExitCode> {
    let mut arguments = Members::new();
    arguments.insert("script", Json::string(&read(&asked.file)?));
    arguments.insert("data", parse_arguments(asked.data)?);
    arguments.insert("check", Json::boolean(asked.check));
    let request = CallTool::new(EXECUTE_TOOL_SCRIPT.into(), Some(arguments.to_json()));
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
    let client: Arc<dyn ClientPort> = AnsweringClient::new(Answers::new(), log);
    let ctx = CallContext { client, ..CallContext::bare(gateway.operator_caller(), CallOrigin::Operator) };
    // The gateway is stopped after an interrupt too, so that records are written.
    let outcome = until_interrupted(gateway.gateway.call_tool(&ctx, request)).await;
    report_missing_backends(&gateway);
    gateway.stop().await;
    match outcome {
        None => Ok(interrupted()),
        Some(Ok(reply)) => print_reply(&reply, asked.json),
        Some(Err(error)) => {
            terminal::print_error(format_args!("vmcp: {error}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The text of a script.
fn read(file: &Path) -> anyhow::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input is no text")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

async fn print_types(settings: Settings) -> anyhow::Result<ExitCode> {
    let gateway = RunningGateway::start(settings, Additions::default()).await?;
    start_progress::show(&gateway.federation);
    let ctx = CallContext::bare(gateway.operator_caller(), CallOrigin::Operator);
    let scripts = gateway.scripts.clone().context("there are no scripts")?;
    let declarations = scripts.declarations(&ctx).await;
    report_missing_backends(&gateway);
    gateway.stop().await;
    terminal::print_content(&format!("{}\n", declarations?))?;
    Ok(ExitCode::SUCCESS)
}
