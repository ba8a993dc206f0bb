//! `vmcp validate` and `vmcp config`: check a configuration, and print its effective settings or its schema.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::{ConfigCommand, FindingsFormat, Source};
use crate::terminal;
use serde_json::{Value, json};
use vmcp::config::{Problem, Settings, effective_json, effective_yaml, schema_text};

/// Runs `vmcp validate`. With `strict`, a warning is a failure.
pub(crate) fn run(source: &Source, format: FindingsFormat, strict: bool) -> anyhow::Result<ExitCode> {
    match format {
        FindingsFormat::Text => print_text(source, strict),
        FindingsFormat::Json => print_json(source, strict),
    }
}

/// Loads the configuration as `serve` would and prints that it can be served.
fn print_text(source: &Source, strict: bool) -> anyhow::Result<ExitCode> {
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
        "  processes of stdio backends: at most {}",
        settings.process_count_worst_case()
    ));
    Ok(if is_refused { ExitCode::from(super::EXIT_CONFIG_ERROR) } else { ExitCode::SUCCESS })
}

/// Prints the same as one JSON object: `valid`, and `errors` and `warnings` with `code`, `path`, `line`, `message`
/// and `hint`. `name`, `backends` and `processesMax` are null if the configuration has errors.
fn print_json(source: &Source, strict: bool) -> anyhow::Result<ExitCode> {
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

fn problem_json(Problem { path, line, message, hint, code }: &Problem) -> Value {
    json!({"code": code.as_str(), "path": path, "line": line, "message": message, "hint": hint})
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Runs `vmcp config show` or `vmcp config schema`.
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
