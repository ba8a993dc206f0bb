//! `vmcp doctor`: checks everything that a question for help has to say, and prints a report without secrets.

mod environment;
mod report;
mod running;

use std::process::ExitCode;

use vmcp::RunningGateway;
use vmcp::config::{Overrides, Settings};

use crate::cli::Source;
use crate::config_source;
use crate::terminal;
use report::{Report, Section};

/// The codes of findings that only this command has.
mod code {
    pub(super) const PORT_IN_USE: &str = "port-in-use";
    pub(super) const STATE_FOLDER: &str = "state-folder";
    pub(super) const LIMIT_STORE: &str = "limit-store";
    pub(super) const IDENTITY_PROVIDER: &str = "identity-provider";
    pub(super) const NO_CONFIGURATION: &str = "no-configuration";
}

#[cfg(test)]
pub(crate) const CODES: [&str; 5] = [
    code::PORT_IN_USE,
    code::STATE_FOLDER,
    code::LIMIT_STORE,
    code::IDENTITY_PROVIDER,
    code::NO_CONFIGURATION,
];

/// Checks, prints the report and returns a failure if a check failed.
pub(crate) async fn run(source: Source, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut report = Report::new();
    report.add(environment::system());
    report.add(environment::variables());
    if let Some(settings) = check_configuration(&source, &mut report)? {
        report.add(environment::addresses(&settings));
        report.add(environment::folders(&settings));
        // Nothing is charged, recorded or saved by this command.
        let gateway =
            RunningGateway::start(settings.clone().without_embeddings(), vmcp::Additions::default()).await?;
        crate::start_progress::show(&gateway.federation);
        report.add(running::services(&gateway).await);
        report.add(running::servers(&gateway, &settings).await);
        report.add(running::findings(&gateway));
        gateway.stop().await;
    }
    terminal::print(&if as_json { report.to_json() } else { report.to_text() })?;
    Ok(if report.has_failure() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Adds the section about the configuration. `None` if it cannot be served.
fn check_configuration(source: &Source, report: &mut Report) -> anyhow::Result<Option<Settings>> {
    let mut section = Section::new("Configuration");
    let found = match config_source::find(source) {
        Ok((file, _)) => file,
        Err(missing) => {
            section.fail(code::NO_CONFIGURATION, missing.to_string());
            report.add(section);
            return Ok(None);
        }
    };
    let file = found.path().display().to_string();
    let (_, loaded) =
        super::read_settings(source, Overrides { debug: source.debug, ..Overrides::default() })?;
    let settings = match loaded {
        Ok(settings) => {
            section.pass(format!("{file} can be served, with {} servers", settings.backends.len()));
            for warning in &settings.warnings {
                section.warn(warning.code.as_str(), vmcp::config::Report::format_line(&file, warning, ""));
            }
            section.note(running::summary(&settings));
            Some(settings)
        }
        Err(problems) => {
            for problem in &problems.problems {
                section.fail(problem.code.as_str(), vmcp::config::Report::format_line(&file, problem, ""));
            }
            for warning in &problems.warnings {
                section.warn(warning.code.as_str(), vmcp::config::Report::format_line(&file, warning, ""));
            }
            None
        }
    };
    report.add(section);
    Ok(settings)
}
