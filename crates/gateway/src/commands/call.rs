//! `vmcp call`: calls one tool from the shell, through the whole stack.

use std::process::ExitCode;

use vmcp::RunningGateway;
use vmcp::config::Settings;
use vmcp_domain::{CallContext, CallOrigin, CallTool, Error};

use crate::{start_progress, terminal};

/// Connects, calls the tool, prints the result and stops. The exit code is a failure if the tool fails.
pub(crate) async fn run(
    settings: Settings,
    tool: String,
    arguments: String,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let arguments = super::parse_arguments(arguments)?;
    let searches = settings.optimizer.as_ref().is_some_and(|optimizer| optimizer.policy.names.find == tool);
    let settings = if searches { settings } else { settings.without_embeddings() };
    // Standard output is for the result. If the settings name a file, the record of this call is written
    // there.
    let output = super::serve::audit_output(&settings, false)?;
    let gateway = super::serve::start_audited(settings, output).await?;
    start_progress::show(&gateway.federation);
    let ctx = CallContext::bare(gateway.operator_caller(), CallOrigin::Operator);
    let request = CallTool::new(tool.into(), Some(arguments));
    let name = request.name.clone();
    // The gateway is stopped after an interrupt too, so that the record is written and the backend is told.
    let Some(outcome) = super::until_interrupted(gateway.gateway.call_tool(&ctx, request)).await else {
        gateway.stop().await;
        return Ok(super::interrupted());
    };
    let hint = match &outcome {
        Err(Error::UnknownTool(_)) => suggest_tool(&gateway, &ctx, name.as_str()).await,
        _ => None,
    };
    gateway.stop().await;
    match outcome {
        Ok(reply) => super::print_reply(&reply, as_json),
        Err(error) => {
            if let Some(cause) = error.cause() {
                tracing::warn!(class = error.class(), cause = cause.for_log(), "a request failed");
            }
            terminal::print_error(format_args!("vmcp: {error}{}", hint.unwrap_or_default()));
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn suggest_tool(gateway: &RunningGateway, ctx: &CallContext, name: &str) -> Option<String> {
    let tools = gateway.authorized.list_tools(ctx).await.ok()?;
    let near = vmcp_optimizer::nearest_name(name, tools.iter().map(|tool| tool.name.as_str()));
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_else(|| ";".to_owned());
    Some(format!("{near} `vmcp tools` lists them all"))
}
