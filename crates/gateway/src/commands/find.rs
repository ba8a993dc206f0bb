//! `vmcp find`: prints what `find_tool` would return for a query, with scores and the matched words of each
//! tool.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use vmcp::config::{Settings, default_optimizer};
use vmcp::process::environment;
use vmcp::{Additions, RunningGateway};
use vmcp_domain::{Availability, CallContext, CallOrigin};
use vmcp_optimizer::{SearchResult, SearchResults};

use crate::{start_progress, terminal};

/// How long the command waits for the vectors of all tools.
const EMBEDDING_TIMEOUT: Duration = Duration::from_secs(300);

/// Connects, searches, prints the tools and stops. The exit code is a failure if no tool is found.
pub(crate) async fn run(mut settings: Settings, query: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    // Without the `optimizer` section, the search uses the settings of an empty section.
    let optimizer = settings.optimizer.take();
    settings.optimizer = Some(optimizer.unwrap_or_else(|| default_optimizer(&environment)));
    let gateway = RunningGateway::start(settings, Additions::default()).await?;
    start_progress::show(&gateway.federation);
    let ctx = CallContext::bare(gateway.operator_caller(), CallOrigin::Operator);
    let tools = gateway.authorized.list_tools(&ctx).await?;
    let Some(optimizer) = gateway.optimizer.clone() else { anyhow::bail!("nothing searches") };
    optimizer.prepare(tools.clone()).await;
    if tokio::time::timeout(EMBEDDING_TIMEOUT, optimizer.wait_until_embedded()).await.is_err() {
        terminal::print_error(
            "vmcp: the vectors of some tools are not there yet; these are found by words alone",
        );
    }
    let found = optimizer.find(&ctx, &tools, query, true).await?;
    let out = if as_json { to_json(&found)? } else { to_text(&found) };
    terminal::print(&out)?;
    if found.tools.is_empty() {
        terminal::print_error(format_args!("vmcp: none of {} tools fits", tools.len()));
        if tools.is_empty() && !gateway.exposed.list_tools(&ctx).await?.is_empty() {
            terminal::print_error(
                "vmcp: the policies let the operator, who presents no credential here, see no tool",
            );
        }
    }
    let _has_missing = super::report_missing_backends(&gateway);
    gateway.stop().await;
    Ok(if found.tools.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn to_text(found: &SearchResults) -> String {
    let width = found.tools.iter().map(|result| result.tool.name.as_str().chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    if !found.fits && !found.tools.is_empty() {
        out.push_str("nothing fits well; the nearest tools are:\n");
    }
    for (rank, result) in found.tools.iter().enumerate() {
        let SearchResult { tool, availability: prospect, hit } = result;
        // Writing into a string cannot fail.
        let _ = write!(out, "{:>2}  {:width$}  {:.3}  fit {:.2}", rank + 1, tool.name, hit.score, hit.fit());
        let _ = write!(out, "  words {:.3}", hit.lexical);
        if let Some(semantic) = hit.semantic {
            let _ = write!(out, "  meaning {semantic:.3}");
        }
        let matched: Vec<&str> = hit.matched.iter().map(|word| word.word.as_str()).collect();
        if !matched.is_empty() {
            let _ = write!(out, "  [{}]", matched.join(" "));
        }
        let _ = match prospect {
            Availability::Available => writeln!(out),
            Availability::Unavailable => writeln!(out, "  (its server cannot be reached)"),
            Availability::RateLimited(limit) => writeln!(out, "  ({limit})"),
        };
    }
    out
}

fn to_json(found: &SearchResults) -> anyhow::Result<String> {
    let row = |result: &SearchResult| {
        let SearchResult { tool, availability: prospect, hit } = result;
        json!({
            "name": tool.name.as_str(),
            "backend": tool.target.backend.as_str(),
            "score": hit.score,
            "fit": hit.fit(),
            "lexical": hit.lexical,
            "semantic": hit.semantic,
            "matched": hit.matched.iter().map(|word| word.word.as_str()).collect::<Vec<_>>(),
            "prospect": match prospect {
                Availability::Available => Value::from("usable"),
                Availability::Unavailable => Value::from("unavailable"),
                Availability::RateLimited(limit) => json!({"limited": limit.rule, "retryAfterSeconds": limit.retry_after_seconds()}),
            },
        })
    };
    let rows: Vec<Value> = found.tools.iter().map(row).collect();
    Ok(format!("{:#}\n", json!({"semantic": found.semantic, "tools": rows})))
}
