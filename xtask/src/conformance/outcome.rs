//! The outcome of a scenario, and the list of expected failures.

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// One check of a scenario, in the suite's format.
#[derive(Deserialize)]
pub(super) struct Check {
    id: String,
    status: String,
    #[serde(default, rename = "errorMessage")]
    message: Option<String>,
}

/// All checks of a scenario.
pub(super) struct ScenarioOutcome(Vec<Check>);

impl ScenarioOutcome {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        Self(checks)
    }

    fn with_status(&self, status: &str) -> Vec<&Check> {
        self.0.iter().filter(|check| check.status == status).collect()
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.with_status("FAILURE").is_empty()
    }

    /// One cell of the table.
    pub(super) fn cell(&self) -> String {
        let passed = self.with_status("SUCCESS").len();
        let (failed, warned) = (self.with_status("FAILURE"), self.with_status("WARNING"));
        let ids = |checks: &[&Check]| {
            let mut ids: Vec<String> = checks.iter().map(|check| format!("`{}`", check.id)).collect();
            ids.dedup();
            ids.join(", ")
        };
        let mut cell = match (failed.is_empty(), passed) {
            (true, 0) => "not applicable".to_owned(),
            (true, _) => format!("passes ({passed})"),
            (false, _) => format!("**fails** {}; {passed} pass", ids(&failed)),
        };
        if !warned.is_empty() {
            cell.push_str(&format!("; warns {}", ids(&warned)));
        }
        cell
    }

    /// Lists the checks that failed, for people.
    pub(super) fn summary(&self) -> String {
        let told =
            |check: &&Check| format!("{}: {}", check.id, check.message.as_deref().unwrap_or("no message"));
        self.with_status("FAILURE").iter().map(told).collect::<Vec<_>>().join("\n    ")
    }
}

/// The checked-in list of scenarios that may fail. Each line has a version, a scenario and a reason.
pub(super) struct ExpectedFailures(Vec<(String, String)>);

impl ExpectedFailures {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut entries = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !(line.is_empty() || line.starts_with('#'))) {
            let mut words = line.split_whitespace();
            let named = words.next().zip(words.next());
            let (family, scenario) = named.with_context(|| format!("`{line}`: version, scenario, reason"))?;
            ensure!(words.next().is_some(), "`{line}`: say why it may fail");
            entries.push((family.to_owned(), scenario.to_owned()));
        }
        Ok(Self(entries))
    }

    pub(super) fn is_expected(&self, family: &str, scenario: &str) -> bool {
        self.0.iter().any(|(known, name)| known == family && name == scenario)
    }
}
