//! `vmcp init`: writes a configuration to start from.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::terminal;
use vmcp::config::{ImportedConfig, Report, starter, starter_from};

/// Writes the starter configuration, or the conversion of `from`, to `output` or to standard output. The exit
/// code is a failure if the result cannot be served before the user edits it.
pub(crate) fn run(
    from: Option<&Path>,
    server: Option<&str>,
    output: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let (text, unserved) = match from {
        None => (starter(), Vec::new()),
        Some(path) => {
            let ImportedConfig { text, remarks, blocking_problems: unserved } = starter_from(path, server)?;
            let file = path.display().to_string();
            for remark in &remarks {
                terminal::print_error(Report::format_line(&file, remark, "warning: "));
            }
            (text, unserved)
        }
    };
    match output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => {
            // Never overwrites a file, so that no edited configuration is lost. Only the owner may read it,
            // because converted settings may hold tokens.
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            if file.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
                anyhow::bail!("{} exists, and is not overwritten; choose another name", path.display());
            }
            let mut file = file.with_context(|| format!("cannot create {}", path.display()))?;
            file.write_all(text.as_bytes())?;
            terminal::print_error(format_args!(
                "wrote {}; check it with: vmcp validate --config {}",
                path.display(),
                path.display()
            ));
        }
    }
    if unserved.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let file = output.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    terminal::print_error(format_args!("{file} cannot be served before this is repaired:"));
    for problem in &unserved {
        terminal::print_error(Report::format_line(&file, problem, ""));
    }
    Ok(ExitCode::FAILURE)
}
