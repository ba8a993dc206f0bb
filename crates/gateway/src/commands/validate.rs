//! `vmcp validate` and `vmcp config`: what is configured, and whether it could be served.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::{ConfigCommand, Source};
use crate::terminal;
use vmcp::config::{effective_json, effective_yaml, schema_text};

/// Loads the configuration as `serve` would and says that it could be served.
pub(crate) fn run(source: &Source) -> anyhow::Result<ExitCode> {
    let settings = super::load(source, super::overrides(source))?;
    eprintln!(
        "ok: {} with {} backend{}, {} warning{}",
        settings.name,
        settings.backends.len(),
        plural(settings.backends.len()),
        settings.warnings.len(),
        plural(settings.warnings.len()),
    );
    for line in settings.isolation_lines() {
        terminal::tell(format_args!("  {line}"));
    }
    terminal::tell(format_args!("  at most {} processes of stdio backends", settings.process_worst_case()));
    Ok(ExitCode::SUCCESS)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// `config show` and `config schema`.
pub(crate) fn config(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
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
