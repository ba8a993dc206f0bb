//! `vmcp workflow check`: compares workflows with their tools.

use std::process::ExitCode;

use anyhow::Context as _;
use vmcp::config::Settings;
use vmcp_domain::{CallContext, CallOrigin, Caller};

use super::{find_workflow, start};
use crate::{commands, terminal};

/// Prints for each workflow whether it is offered, and what does not fit. Fails if one is not offered, or with
/// `is_strict` if there are warnings.
pub(super) async fn run(settings: Settings, names: &[String], is_strict: bool) -> anyhow::Result<ExitCode> {
    for name in names {
        find_workflow(&settings, name)?;
    }
    // They were printed when the file was read.
    let workflows = settings.workflows.workflows.iter();
    let positions = workflows
        .enumerate()
        .filter(|(_, one)| names.is_empty() || names.iter().any(|name| name == one.name()));
    let prefixes: Vec<String> = positions.map(|(index, _)| format!("compositeTools[{index}].")).collect();
    let of_file = settings
        .warnings
        .iter()
        .filter(|warning| prefixes.iter().any(|prefix| warning.path.starts_with(prefix.as_str())));
    let warnings_of_file = of_file.count();
    let gateway = start(settings).await?;
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Operator);
    let workflows = gateway.workflows.as_ref().context("there are no workflows")?;
    let offers = workflows.offers(&ctx).await?;
    let (mut missing, mut warnings) = (0, warnings_of_file);
    for offer in offers.into_iter().filter(|offer| names.is_empty() || names.contains(&offer.name)) {
        let state = match &offer.why_not {
            Some(reason) => {
                missing += 1;
                format!("not offered: {reason}")
            }
            None if offer.warnings.is_empty() => "ok".to_owned(),
            None => "offered".to_owned(),
        };
        terminal::print(&format!("{}: {state}\n", offer.name))?;
        for warning in &offer.warnings {
            warnings += 1;
            terminal::print(&format!("  warning: {warning}\n"))?;
        }
    }
    let is_incomplete = commands::report_missing_backends(&gateway);
    gateway.stop().await;
    let fails = missing > 0 || is_incomplete || (is_strict && warnings > 0);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
