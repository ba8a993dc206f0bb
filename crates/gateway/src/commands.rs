//! Implements the commands, and what they share: loading the configuration and reporting its problems.

pub(crate) mod auth;
pub(crate) mod call;
pub(crate) mod find;
pub(crate) mod init;
pub(crate) mod limits;
pub(crate) mod serve;
pub(crate) mod tools;
pub(crate) mod validate;

use crate::cli::Source;
use crate::terminal;
use vmcp::RunningGateway;
use vmcp::config::{LogLevel, Overrides, Report, Settings, load_file, load_mcp_json};
use vmcp::process::{environment, user};

/// The exit code for an error in the configuration, and for a warning with `--strict`. clap uses the same
/// code for errors in the command line.
pub(crate) const EXIT_CONFIG_ERROR: u8 = 2;

/// The command line names no configuration.
#[derive(Debug, thiserror::Error)]
#[error("name a configuration with --config FILE or --mcp-json FILE")]
pub(crate) struct NoConfigNamed;

/// The overrides of a command that has no listener flags.
pub(crate) fn overrides(source: &Source) -> Overrides {
    Overrides { debug: source.debug, ..Overrides::default() }
}

/// Loads the configuration and prints its warnings on standard error.
pub(crate) fn load(source: &Source, overrides: Overrides) -> anyhow::Result<Settings> {
    let (file, loaded) = read_settings(source, overrides)?;
    let settings = loaded?;
    for warning in &settings.warnings {
        terminal::print_error(Report::format_line(&file, warning, "warning: "));
    }
    Ok(settings)
}

/// Reads the configuration without printing anything. Also returns the path of its file.
pub(crate) fn read_settings(
    source: &Source,
    mut overrides: Overrides,
) -> anyhow::Result<(String, Result<Settings, Report>)> {
    overrides.user = Some(user());
    let (path, loaded) = match (&source.config, &source.mcp_json) {
        (Some(path), _) => (path, load_file(path, &environment, &overrides)),
        (None, Some(path)) => (path, load_mcp_json(path, &environment, &overrides)),
        (None, None) => return Err(NoConfigNamed.into()),
    };
    Ok((path.display().to_string(), loaded))
}

/// The log level of a command that prints a result: errors only, unless `--debug` is given.
pub(crate) fn command_log_level(settings: &Settings, source: &Source) -> LogLevel {
    if source.debug { settings.log_level } else { LogLevel::Error }
}

/// Prints on standard error which backends are not listed, and the findings about the others. Returns whether
/// any backend is not listed.
pub(crate) fn report_missing_backends(gateway: &RunningGateway) -> bool {
    let mut missing = false;
    for report in gateway.federation.reports().iter().filter(|report| !report.is_listed) {
        missing = true;
        let (id, transport) = (&report.id, report.status.transport);
        terminal::print_error(format_args!(
            "vmcp: backend `{id}` ({transport}) is not listed: {}",
            report.failure_text()
        ));
    }
    for finding in gateway.federation.findings() {
        // Names of tools may contain line breaks.
        terminal::print_error(format_args!("vmcp: {}", finding.to_string().replace('\n', "\\n")));
    }
    missing
}
