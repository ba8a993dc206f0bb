//! Implements the commands, and what they share: loading the configuration and reporting its problems.

pub(crate) mod auth;
pub(crate) mod call;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod find;
pub(crate) mod init;
pub(crate) mod limits;
mod runs;
pub(crate) mod script;
pub(crate) mod serve;
pub(crate) mod tools;
pub(crate) mod validate;
pub(crate) mod workflow;

use std::process::ExitCode;
use std::sync::Once;

use crate::cli::Source;
use crate::config_source::{self, ConfigFile};
use crate::terminal;
use tokio::signal::unix::{SignalKind, signal};
use vmcp::RunningGateway;
use vmcp::config::{LogLevel, Overrides, Report, Settings, load_file, load_mcp_json};
use vmcp::process::{environment, user};
use vmcp_domain::Reply;
use vmcp_json::Json;

/// The exit code for an error in the configuration, and for a warning with `--strict`. clap uses the same
/// code for errors in the command line.
pub(crate) const EXIT_CONFIG_ERROR: u8 = 2;

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

/// Reads the configuration, and prints which it is if the command line does not name it. Also returns the path of
/// its file.
pub(crate) fn read_settings(
    source: &Source,
    mut overrides: Overrides,
) -> anyhow::Result<(String, Result<Settings, Report>)> {
    overrides.user = Some(user());
    let (file, is_named) = config_source::find(source)?;
    let path = file.path().display().to_string();
    if !is_named {
        // Some commands read the configuration twice.
        static PRINTED: Once = Once::new();
        PRINTED.call_once(|| terminal::print_error(format_args!("vmcp: using {path}")));
    }
    let loaded = match &file {
        ConfigFile::Yaml(path) => load_file(path, &environment, &overrides),
        ConfigFile::McpJson(path) => load_mcp_json(path, &environment, &overrides),
    };
    Ok((path, loaded))
}

/// The arguments of a tool on the command line.
pub(crate) fn parse_arguments(text: String) -> anyhow::Result<Json> {
    let arguments = Json::parse(text).ok().filter(Json::is_object);
    arguments
        .ok_or_else(|| anyhow::anyhow!("the arguments must be a JSON object, as '{{\"path\": \"/tmp\"}}'"))
}

/// Prints the result of a tool. The exit code is a failure if the tool failed.
pub(crate) fn print_reply(reply: &Reply, as_json: bool) -> anyhow::Result<ExitCode> {
    let text = if as_json {
        reply.members.to_json().as_str().to_owned()
    } else {
        vmcp_wire::tool_result::to_text(reply)
    };
    terminal::print_content(&format!("{text}\n"))?;
    Ok(if reply.is_error { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Awaits `work` until the process is interrupted, told to end, or loses its terminal. `None` then.
pub(crate) async fn until_interrupted<T>(work: impl Future<Output = T>) -> Option<T> {
    let (Ok(signal), Ok(mut hangup)) = (serve::stop_on_signal(), signal(SignalKind::hangup())) else {
        return Some(work.await);
    };
    tokio::select! {
        done = work => Some(done),
        () = signal.cancelled() => None,
        _ = hangup.recv() => None,
    }
}

/// The exit code of a command that was interrupted, which shells use for it.
pub(crate) fn interrupted() -> ExitCode {
    terminal::print_error("vmcp: interrupted");
    ExitCode::from(130)
}

/// The log level of a command that prints a result: errors only, unless `--debug` is given.
pub(crate) fn command_log_level(settings: &Settings, source: &Source) -> LogLevel {
    if source.debug { settings.log_level } else { LogLevel::Error }
}

/// Prints on standard error which backends are not listed, and the findings about the others. Returns whether
/// any backend is not listed.
pub(crate) fn report_missing_backends(gateway: &RunningGateway) -> bool {
    let mut missing = false;
    let mut codes = Vec::new();
    for report in gateway.federation.reports().iter().filter(|report| !report.is_listed) {
        missing = true;
        codes.extend(report.status.connect_failure.as_ref().map(|failure| failure.code));
        let (id, transport) = (&report.id, report.status.transport);
        terminal::print_error(format_args!(
            "vmcp: backend `{id}` ({transport}) is not listed: {}",
            report.failure_text()
        ));
    }
    for finding in gateway.federation.findings() {
        codes.push(finding.code());
        // Names of tools may contain line breaks.
        terminal::print_error(format_args!("vmcp: {}", finding.to_string().replace('\n', "\\n")));
    }
    let advice = explain::advice(codes);
    if !advice.is_empty() {
        terminal::print_error(format_args!("vmcp: {advice}"));
    }
    missing
}
