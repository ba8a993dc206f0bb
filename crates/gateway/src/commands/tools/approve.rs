//! `vmcp tools approve`: records the tools as they are now, so that changed and new ones are offered.

use std::process::ExitCode;

use anyhow::Context as _;
use vmcp::config::Settings;
use vmcp::tool_records::ToolRecordsFile;
use vmcp::{Additions, RunningGateway};
use vmcp_domain::BackendId;
use vmcp_federation::policy::PinMode;
use vmcp_federation::{ToolDigests, ToolRecords as _, tool_changes};

use crate::{start_progress, terminal};

/// Connects, compares the tools with their records, prints what differs, and records it unless `is_dry_run`. `named`
/// has servers (`github`) and tools (`github/create_issue`); if it is empty, all are meant.
pub(crate) async fn run(
    mut settings: Settings,
    named: &[String],
    is_dry_run: bool,
) -> anyhow::Result<ExitCode> {
    let folder = settings.admin.state_folder.clone();
    let folder =
        folder.context("the configuration has no state folder to record tools in; set `stateFolder`")?;
    let records = ToolRecordsFile::new(&folder, false);
    // Tools that are held back are what this is about, so nothing is held back here.
    settings.aggregation.pin_mode = PinMode::Warn;
    let gateway = RunningGateway::start(settings.without_embeddings(), Additions::default()).await?;
    start_progress::show(&gateway.federation);
    gateway.federation.wait_for_discovery().await;
    let mut approved: Vec<(BackendId, ToolDigests)> = Vec::new();
    let mut matched: Vec<&String> = Vec::new();
    for (backend, mut offered) in gateway.federation.tool_digests() {
        offered.retain(|tool, _| {
            let names = [backend.to_string(), format!("{backend}/{tool}")];
            let matching = named.iter().filter(|name| names.contains(name));
            let before = matched.len();
            matched.extend(matching);
            named.is_empty() || matched.len() > before
        });
        match records.load(&backend) {
            None => terminal::print(&format!(
                "{backend}: {} tools are recorded for the first time\n",
                offered.len()
            ))?,
            Some(recorded) => {
                for (tool, change) in tool_changes(&recorded, &offered) {
                    terminal::print(&format!("{backend}/{tool} {}\n", change.as_str()))?;
                }
            }
        }
        approved.push((backend, offered));
    }
    let missing = named.iter().find(|name| !matched.contains(name));
    let is_incomplete = super::super::report_missing_backends(&gateway);
    gateway.stop().await;
    if let Some(name) = missing {
        anyhow::bail!(
            "no server and no tool is called `{name}`; nothing was approved. Write SERVER or SERVER/TOOL"
        );
    }
    if !is_dry_run {
        records.approve(&approved).with_context(|| format!("cannot write to {}", folder.display()))?;
        terminal::print_error("vmcp: approved; a running gateway takes it over at its next health check");
    }
    Ok(if is_incomplete { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
