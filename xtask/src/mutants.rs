//! Changes the limiter's code in one place at a time, and demands that a unit test fails for each change. Survivors that are
//! equivalent to the original are listed in `.cargo/mutants.toml`.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::{root, target};

/// Tries the changes of one part out of several, as `1/24`, or of one file; all without either.
pub(crate) fn run(part: Option<&str>, file: Option<&str>) -> anyhow::Result<()> {
    let output = target()?.join("mutants-report");
    let mut command = Command::new("cargo");
    command.args(["mutants", "--package", "vmcp-ratelimit", "--copy-vcs", "false", "--output"]).arg(&output);
    command.args(part.iter().flat_map(|part| ["--shard", part]));
    // A change is named by its file first. `--file` would add to those of the configuration.
    command.args(file.iter().flat_map(|file| ["--re", file]));
    let status = command.current_dir(root()).status();
    let status = status.context("cargo does not start")?;
    ensure!(
        status.success(),
        "no test fails for some changes, or a test takes too long; they are listed above and in {}. Without the programs: \
         cargo install --locked cargo-mutants@27.1.0 cargo-nextest@0.9.151",
        output.display()
    );
    Ok(())
}
