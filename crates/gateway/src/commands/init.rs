//! `vmcp init`: writes a configuration to start from.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::terminal;
use vmcp::config::{Report, starter, starter_from};

/// Writes the starter, or what an `mcpServers` file becomes, to `output` or to standard output.
pub(crate) fn run(from: Option<&Path>, output: Option<&Path>) -> anyhow::Result<ExitCode> {
    let text = match from {
        None => starter(),
        Some(path) => {
            let (text, warnings) = starter_from(path)?;
            let file = path.display().to_string();
            for warning in &warnings {
                terminal::tell(Report::line(&file, warning, "warning: "));
            }
            text
        }
    };
    match output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => {
            // Created anew only: a configuration somebody has written is never lost.
            // And for its owner alone: what is carried over may hold tokens.
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let mut file = file.with_context(|| format!("cannot create {}", path.display()))?;
            file.write_all(text.as_bytes())?;
            terminal::tell(format_args!(
                "wrote {}; check it with: vmcp validate --config {}",
                path.display(),
                path.display()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
