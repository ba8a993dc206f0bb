//! Collects the skipped tests of a run. Test programs append to a file that an environment variable names,
//! because the test harness hides the output of passing tests (`vmcp_testkit::skip`).

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Context as _;
use tempfile::NamedTempFile;

/// The file that collects the reports.
pub(super) struct SkippedTests(NamedTempFile);

impl SkippedTests {
    pub(super) fn collect() -> anyhow::Result<Self> {
        Ok(Self(NamedTempFile::new().context("no temporary file for the list of skipped tests")?))
    }

    /// Sets the environment of `command` so that its tests report skips to this file.
    pub(super) fn set_environment(&self, command: &mut Command) {
        command.env("VMCP_TEST_SKIPPED", self.0.path());
    }

    /// The report as text, each line once.
    pub(super) fn report(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.0.path())?;
        let lines: BTreeSet<&str> = text.lines().collect();
        if lines.is_empty() {
            return Ok("No test was skipped.\n".to_owned());
        }
        let lines: Vec<String> = lines.iter().map(|line| format!("  {line}\n")).collect();
        Ok(format!("Skipped:\n{}", lines.concat()))
    }
}
