//! Runs the official suite and reads the files that it writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use vmcp_e2e::{cache, process};

use super::outcome::ScenarioOutcome;

/// The versions of the requirements that are run.
pub(super) const VERSIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];

const ENTRY: &str = "@modelcontextprotocol/conformance/dist/index.js";

/// The results of a run for one version.
pub(super) struct Results {
    pub(super) version: &'static str,
    /// The scenarios, ordered by name.
    pub(super) scenarios: BTreeMap<String, ScenarioOutcome>,
}

pub(super) fn run(url: &str, version: &'static str) -> anyhow::Result<Results> {
    let out = tempfile::tempdir()?;
    let mut suite = Command::new(cache::node()?);
    suite.arg(cache::npm("conformance", ENTRY)?);
    suite.args(["server", "--url", url, "--requirements", version, "-o"]).arg(out.path());
    // The suite exits with a failure if any scenario fails. The files that it writes decide.
    let output = suite.stdin(Stdio::null()).output().context("the suite does not start")?;
    let scenarios = read(out.path(), "server-")?;
    let told = String::from_utf8_lossy(&output.stdout);
    ensure!(
        !scenarios.is_empty(),
        "the suite wrote nothing:\n{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{version} against {url}: {} scenarios", scenarios.len());
    Ok(Results { version, scenarios })
}

/// The client scenarios that apply to a gateway, each with its versions. The other scenarios are about
/// extensions, and about authorization servers, which depend on a gateway's own settings.
const CLIENT: [(&str, &[&str]); 11] = [
    ("elicitation-sep1034-client-defaults", &["2025-11-25"]),
    ("http-custom-headers", &["2026-07-28"]),
    ("http-invalid-tool-headers", &["2026-07-28"]),
    ("http-standard-headers", &["2026-07-28"]),
    ("initialize", &["2025-11-25"]),
    ("json-schema-2020-12-preservation", &["2025-11-25", "2026-07-28"]),
    ("json-schema-ref-no-deref", &["2026-07-28"]),
    ("request-metadata", &["2026-07-28"]),
    ("sep-2322-client-request-state", &["2026-07-28"]),
    ("sse-retry", &["2025-11-25"]),
    ("tools_call", &["2025-11-25", "2026-07-28"]),
];

/// Runs the client scenarios of a version, with the gateway as the client.
pub(super) fn run_client(version: &'static str) -> anyhow::Result<Results> {
    // `current_exe` is wrong here: a build may have replaced the file that this process was started from.
    let command = format!("{} conformance-client", process::profile_folder()?.join("xtask").display());
    let mut scenarios = BTreeMap::new();
    for (scenario, _) in CLIENT.iter().filter(|(_, versions)| versions.contains(&version)) {
        let out = tempfile::tempdir()?;
        let mut suite = Command::new(cache::node()?);
        suite.arg(cache::npm("conformance", ENTRY)?).args(["client", "--command", &command]);
        suite.args(["--scenario", scenario, "--spec-version", version, "-o"]).arg(out.path());
        // The child processes must use the binary that this run has built.
        suite.env("VMCP_BIN", process::binary("vmcp")?);
        let output = suite.stdin(Stdio::null()).output().context("the suite does not start")?;
        let told = String::from_utf8_lossy(&output.stdout);
        let outcome = read(out.path(), "")?.remove(*scenario);
        let outcome = outcome.with_context(|| format!("{scenario} wrote nothing:\n{told}"))?;
        scenarios.insert((*scenario).to_owned(), outcome);
    }
    println!("{version}, as a client: {} scenarios", scenarios.len());
    Ok(Results { version, scenarios })
}

/// Reads every `<prefix><scenario>-<time>/checks.json`.
fn read(folder: &Path, prefix: &str) -> anyhow::Result<BTreeMap<String, ScenarioOutcome>> {
    let mut scenarios = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| scenario(name, prefix));
        let Some(name) = name else { continue };
        let checks = std::fs::read_to_string(path.join("checks.json"))?;
        let checks = serde_json::from_str(&checks).with_context(|| path.display().to_string())?;
        scenarios.insert(name.to_owned(), ScenarioOutcome::new(checks));
    }
    Ok(scenarios)
}

/// The folder `server-ping-2026-11-22T10-08-14-045Z` belongs to the scenario `ping`.
fn scenario<'a>(folder: &'a str, prefix: &str) -> Option<&'a str> {
    const TIME: usize = "-2026-11-22T10-08-14-045Z".len();
    let name = folder.strip_prefix(prefix)?;
    name.get(..name.len().checked_sub(TIME)?)
}

/// Scenarios that the suite runs but does not score, by version and name, each with its reason.
pub(super) fn not_scored() -> anyhow::Result<BTreeMap<(String, String), String>> {
    let mut found = BTreeMap::new();
    for version in VERSIONS {
        let file = format!("@modelcontextprotocol/conformance/requirements/{version}.yaml");
        let text = std::fs::read_to_string(cache::npm("conformance", &file)?)?;
        let (_, list) = text.split_once("\nnot_scored:").unwrap_or_default();
        // The file is a flat list of `scenario`, `leg` and `reason` lines, so three prefixes are enough to
        // read it.
        let mut scenario = String::new();
        for line in list.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("- scenario:") {
                scenario = name.trim().to_owned();
            } else if let Some(reason) = line.strip_prefix("reason:") {
                found.insert((version.to_owned(), scenario.clone()), reason.trim().to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::scenario;

    #[test]
    fn folders_name_their_scenario() {
        let time = "2026-11-22T10-08-14-045Z";
        assert_eq!(scenario(&format!("server-ping-{time}"), "server-"), Some("ping"));
        assert_eq!(scenario(&format!("server-server-stateless-{time}"), "server-"), Some("server-stateless"));
        assert_eq!(scenario(&format!("tools_call-{time}"), ""), Some("tools_call"));
        assert_eq!(scenario("something", "server-"), None);
    }
}
