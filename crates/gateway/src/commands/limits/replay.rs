//! `vmcp limits replay`: reports which recorded calls the limits of a configuration would have refused. No
//! backend is started and nothing is connected to.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use vmcp::limits_replay;

use crate::cli::Source;
use crate::terminal;

/// The size of the read buffer, in bytes.
const BUFFER: usize = 1 << 20;

/// Reads the records, replays the calls and prints the report.
pub(super) fn run(path: &Path, source: &Source, as_json: bool) -> anyhow::Result<ExitCode> {
    let settings = crate::commands::load(source, crate::commands::overrides(source))?;
    let virtual_tools = settings.virtual_tools();
    let Some(limits) = settings.limits else {
        anyhow::bail!("nothing is limited: the configuration has no `rateLimiting`");
    };
    let report = if path.as_os_str() == "-" {
        let input = BufReader::with_capacity(BUFFER, std::io::stdin().lock());
        limits_replay::report(input, limits.policy, &settings.aggregation, &virtual_tools, as_json)
    } else {
        let file = File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        limits_replay::report(
            BufReader::with_capacity(BUFFER, file),
            limits.policy,
            &settings.aggregation,
            &virtual_tools,
            as_json,
        )
    };
    let report = report.with_context(|| format!("{} cannot be read", path.display()))?;
    terminal::print(&report)?;
    Ok(ExitCode::SUCCESS)
}
