//! `vmcp validate` and `vmcp config`: what is configured, and whether it could be served.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::{ConfigCommand, Source};
use crate::terminal;
use serde_json::{Value, json};
use vmcp::config::{Problem, Settings, effective_json, effective_yaml, schema_text};

/// Loads the configuration as `serve` would and says that it could be served.
pub(crate) fn print_text(source: &Source, strict: bool) -> anyhow::Result<ExitCode> {
    let settings = super::load(source, super::overrides(source))?;
    let is_refused = strict && !settings.warnings.is_empty();
    eprintln!(
        "{}: {} with {} backend{}, {} warning{}",
        if is_refused { "refused" } else { "ok" },
        settings.name,
        settings.backends.len(),
        plural(settings.backends.len()),
        settings.warnings.len(),
        plural(settings.warnings.len()),
    );
    for line in settings.describe_isolation() {
        terminal::print_error(format_args!("  {line}"));
    }
    terminal::print_error(format_args!(
        "  at most {} processes of stdio backends",
        settings.process_count_worst_case()
    ));
    Ok(if is_refused { ExitCode::from(super::EXIT_CONFIG_ERROR) } else { ExitCode::SUCCESS })
}

/// The same for programs: `valid`, `errors` and `warnings` with `path`, `line`, `message` and `hint`, and for what can be
/// served `name`, `backends` and `processesMax`.
pub(crate) fn print_json(source: &Source, strict: bool) -> anyhow::Result<ExitCode> {
    let (file, loaded) = super::read_settings(source, super::overrides(source))?;
    let (settings, errors, warnings) = match loaded {
        Ok(settings) => {
            let warnings = settings.warnings.clone();
            (Some(settings), Vec::new(), warnings)
        }
        Err(report) => (None, report.problems, report.warnings),
    };
    let is_refused = strict && !warnings.is_empty();
    let is_valid = settings.is_some() && !is_refused;
    let answer = json!({
        "file": file,
        "valid": is_valid,
        "name": settings.as_ref().map(|settings| &settings.name),
        "backends": settings.as_ref().map(|settings| settings.backends.len()),
        "processesMax": settings.as_ref().map(Settings::process_count_worst_case),
        "errors": errors.iter().map(problem_json).collect::<Vec<_>>(),
        "warnings": warnings.iter().map(problem_json).collect::<Vec<_>>(),
    });
    writeln!(std::io::stdout(), "{answer:#}")?;
    Ok(if is_valid { ExitCode::SUCCESS } else { ExitCode::from(super::EXIT_CONFIG_ERROR) })
}

fn problem_json(Problem { path, line, message, hint, .. }: &Problem) -> Value {
    json!({"path": path, "line": line, "message": message, "hint": hint})
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// `config show` and `config schema`.
pub(crate) fn run_config(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    match command {
        ConfigCommand::Schema => out.write_all(schema_text().as_bytes())?,
        ConfigCommand::Show { source, json } => {
            let settings = super::load(source, super::overrides(source))?;
            let text = if *json { effective_json(&settings) } else { effective_yaml(&settings)? };
            out.write_all(text.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
