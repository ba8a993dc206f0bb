//! `vmcp tools`: lists the tools that a configuration offers, with the backend of each.

pub(crate) mod approve;

use std::collections::HashSet;
use std::process::ExitCode;

use serde_json::json;
use vmcp::config::Settings;
use vmcp::{Additions, RunningGateway};
use vmcp_domain::{CallContext, CallOrigin, Caller, Gateway, Tool};

use crate::table::Table;
use crate::{start_progress, terminal};

/// Says which workflows are not offered, and why.
async fn report_missing_workflows(gateway: &RunningGateway, ctx: &CallContext) -> anyhow::Result<()> {
    let Some(workflows) = &gateway.workflows else { return Ok(()) };
    for offer in workflows.offers(ctx).await? {
        if let Some(reason) = offer.why_not {
            terminal::print_error(format_args!("vmcp: workflow `{}` is not offered: {reason}", offer.name));
        }
    }
    Ok(())
}

/// Connects, lists the tools, prints them and stops. Backends that cannot be reached are named on standard
/// error.
pub(crate) async fn run(settings: Settings, as_json: bool, all: bool) -> anyhow::Result<ExitCode> {
    let gateway = RunningGateway::start(settings.without_embeddings(), Additions::default()).await?;
    start_progress::show(&gateway.federation);
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Operator);
    let all_tools = gateway.federation.list_tools(&ctx).await?;
    let exposed_tools = gateway.exposed.list_tools(&ctx).await?;
    let visible: HashSet<&str> = exposed_tools.iter().map(|tool| tool.name.as_str()).collect();
    let listed = all_tools.iter().filter(|tool| all || visible.contains(tool.name.as_str()));
    // The gateway's own tools are in no catalogue of backends.
    let own = exposed_tools.iter().filter(|tool| tool.target.is_virtual());
    let listed: Vec<&Tool> = listed.chain(own).collect();
    let out = if as_json {
        let rows = listed.iter().map(|tool| {
            json!({
                "name": tool.name.as_str(),
                "backend": tool.target.backend.as_str(),
                "backendTool": tool.target.name.as_str(),
                "visible": visible.contains(tool.name.as_str()),
                "description": tool.description,
            })
        });
        serde_json::to_string_pretty(&rows.collect::<Vec<_>>())? + "\n"
    } else {
        let mut table = Table::with_header(&["TOOL", "SERVER", "DESCRIPTION"]);
        for tool in &listed {
            let hidden = if visible.contains(tool.name.as_str()) { "" } else { " (hidden)" };
            let server = if tool.target.is_virtual() {
                "(workflow)".to_owned()
            } else {
                format!("{}/{}{hidden}", tool.target.backend, tool.target.name)
            };
            table.add(vec![tool.name.to_string(), server, tool.description.clone().unwrap_or_default()]);
        }
        table.render()
    };
    terminal::print(&out)?;
    report_missing_workflows(&gateway, &ctx).await?;
    let missing = super::report_missing_backends(&gateway);
    gateway.stop().await;
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
