//! A workflow over three published servers (files, git, time), with a question to the user, called by the official
//! Python client in both protocol revisions: accepted, declined, cancelled in the middle, and limited.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::cache;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::http;
use vmcp_e2e::process::run;
use vmcp_e2e::servers::{prepare_folders, server};

const MODES: [&str; 2] = ["legacy", "2026-07-28"];

/// The workflow. Clients see none of the tools that it calls.
const WORKFLOW: &str = r#"
compositeTools:
  - name: release_notes
    description: Writes the latest commits into a file that the user names.
    parameters:
      type: object
      properties: {commits: {type: integer, default: 3}}
    steps:
      - id: write
        tool: files.write_file
        arguments:
          path: "FILES/{{.steps.ask.output.content.name}}"
          content: "{{(fromJson .steps.now.content.text).timezone}}\n{{.steps.log.output.text}}"
      - id: ask
        type: elicitation
        dependsOn: [log, now]
        message: "Where to write {{.params.commits}} commits?"
        schema: {type: object, properties: {name: {type: string}}, required: [name]}
      - id: log
        tool: git.git_log
        arguments: {repo_path: GIT, max_count: "{{.params.commits}}"}
      - id: now
        tool: time_get_current_time
        arguments: {timezone: UTC}
    output:
      properties:
        zone: {type: string, description: The time zone., value: "{{(fromJson .steps.now.content.text).timezone}}"}
        steps: {type: integer, description: The number of steps., value: "{{.workflow.step_count}}"}
audit: {enabled: true, logFile: AUDIT}
"#;
const LIMIT: &str =
    "rateLimiting: {tools: [{name: files_write_file, shared: {maxTokens: 1, refillPeriod: 1000h}}]}\n";

struct Setup {
    folder: tempfile::TempDir,
    gateway: Gateway,
}

impl Setup {
    fn start(extra: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        prepare_folders(folder.path())?;
        let backends: Result<Vec<Backend>, anyhow::Error> = ["files", "git", "time"]
            .into_iter()
            .map(|name| Ok(Backend::stdio(name, &server(name, folder.path())?)))
            .collect();
        let place = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let workflow = WORKFLOW
            .replace("FILES", &place("files"))
            .replace("GIT", &place("git"))
            .replace("AUDIT", &place("audit.log"));
        let config = config(NamePolicy::Prefixed, &backends?, &format!("{workflow}{extra}"));
        let config =
            config.replace("conflictResolution: prefix", "conflictResolution: prefix, excludeAllTools: true");
        Ok(Self { gateway: Gateway::start(&config)?, folder })
    }

    /// Calls the workflow with the official client.
    fn call(&self, mode: &str, reaction: &str) -> anyhow::Result<Value> {
        let mut command = Command::new(cache::python("sdk")?);
        command.arg(cache::project_file("clients/workflow_python.py"));
        command.args([&self.gateway.url, mode, "{\"commits\": 1}", reaction]);
        let printed = run(&mut command).with_context(|| self.gateway.process.output())?;
        serde_json::from_str(&printed).context(printed)
    }

    fn notes(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.path().join("files/notes.md")).ok()
    }
}

/// The records of runs and their steps, as type and step.
fn run_records(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file)?;
    let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of_runs = records.iter().filter_map(|record| {
        let kind = record["type"].as_str()?.strip_prefix("vmcp_workflow_")?;
        let target = &record["target"];
        let is_whole = target["workflow_name"] == "release_notes" && target["workflow_id"].is_string();
        assert!(is_whole && record["subjects"]["user"] == "anonymous", "{record}");
        let step = target["step_id"].as_str().unwrap_or_default();
        Some(format!("{kind} {step} {}", record["outcome"].as_str()?))
    });
    Ok(of_runs.collect())
}

/// The records of calls of tools, as name and step. The call of the workflow itself has no step.
fn records(file: &Path) -> anyhow::Result<BTreeSet<(String, String)>> {
    let text = std::fs::read_to_string(file)?;
    let records = text.lines().map(serde_json::from_str::<Value>);
    let records: Vec<Value> = records.collect::<Result<_, _>>()?;
    let calls = records.iter().filter(|record| record["type"] == "mcp_tool_call").map(|record| {
        let parent = &record["metadata"]["extra"]["parent"];
        let name = record["target"]["name"].as_str().unwrap_or_default().to_owned();
        (name, parent["step"].as_str().unwrap_or_default().to_owned())
    });
    Ok(calls.collect())
}

#[test]
fn a_workflow_over_three_servers_asks_and_writes() -> anyhow::Result<()> {
    for mode in MODES {
        let setup = Setup::start("")?;
        let report = setup.call(mode, "accept")?;
        ensure!(report["listed"] == json!(["release_notes"]), "{mode}: {report}");
        ensure!(report["asked"] == json!(["Where to write 1 commits?"]), "{mode}: {report}");
        ensure!(report["is_error"] == false, "{mode}: {report}");
        ensure!(report["structured"] == json!({"zone": "UTC", "steps": 4}), "{mode}: {report}");
        let progress = report["progress"].as_array().context("progress")?;
        ensure!(progress.last() == Some(&json!("write has ended")), "{mode}: {report}");
        let notes = setup.notes().context("no file was written")?;
        ensure!(notes.starts_with("UTC\n") && notes.contains("Begin"), "{mode}: {notes}");
        let found = records(&setup.folder.path().join("audit.log"))?;
        let expected = [
            ("files_write_file", "write"),
            ("git_git_log", "log"),
            ("release_notes", ""),
            ("time_get_current_time", "now"),
        ];
        let expected = expected.map(|(name, step)| (name.to_owned(), step.to_owned()));
        ensure!(found == BTreeSet::from(expected), "{mode}: {found:?}");
        let events = run_records(&setup.folder.path().join("audit.log"))?;
        let count = |event: &str| events.iter().filter(|one| one.starts_with(event)).count();
        ensure!(count("step_started") == 4 && count("step_completed") == 4, "{mode}: {events:?}");
        ensure!(events.first().is_some_and(|event| event == "started  success"), "{mode}: {events:?}");
        ensure!(events.last().is_some_and(|event| event == "completed  success"), "{mode}: {events:?}");
    }
    Ok(())
}

#[test]
fn a_question_that_is_not_accepted_writes_nothing() -> anyhow::Result<()> {
    for mode in MODES {
        let setup = Setup::start("")?;
        let report = setup.call(mode, "decline")?;
        ensure!(report["is_error"] == true, "{mode}: {report}");
        let text = report["text"].as_str().unwrap_or_default();
        ensure!(
            text.contains("declined by user") && text.ends_with("Done: log, now. Not done: write"),
            "{text}"
        );
        let report = setup.call(mode, "cancel")?;
        ensure!(
            report["text"].as_str().is_some_and(|text| text.contains("cancelled by user")),
            "{mode}: {report}"
        );
        let report = setup.call(mode, "leave")?;
        ensure!(report["asked"] == json!(["Where to write 1 commits?"]), "{mode}: {report}");
        thread::sleep(Duration::from_millis(500));
        ensure!(setup.notes().is_none(), "{mode}: a file was written");
        ensure!(setup.call(mode, "accept")?["is_error"] == false, "{mode}: the next run works");
        let events = run_records(&setup.folder.path().join("audit.log"))?;
        let ends = events.iter().filter(|event| !event.starts_with("step_") && !event.starts_with("started"));
        let ends: Vec<&str> = ends.map(String::as_str).collect();
        // A client that leaves may come back with the answer, so its run waits.
        ensure!(ends == ["failed  failure", "failed  failure", "completed  success"], "{mode}: {events:?}");
        let metrics = http::get(&setup.gateway.url.replace("/mcp", "/metrics"), &[])?.text()?;
        for (series, count) in [
            ("executions_total", 4),
            ("errors_total", ends.len() - 1),
            ("duration_seconds_count", ends.len()),
        ] {
            let line =
                format!("toolhive_vmcp_workflow_{series}{{workflow_name=\"release_notes\"}} {count}\n");
            ensure!(metrics.contains(&line), "{mode}: no {line} in {metrics}");
        }
    }
    Ok(())
}

#[test]
fn a_run_that_limits_do_not_suffice_for_does_nothing() -> anyhow::Result<()> {
    for mode in MODES {
        let setup = Setup::start(LIMIT)?;
        // A step that is not made gives its charge back.
        ensure!(setup.call(mode, "decline")?["is_error"] == true, "{mode}");
        ensure!(
            setup.call(mode, "accept")?["is_error"] == false,
            "{mode}: the charge of the declined run is back"
        );
        std::fs::remove_file(setup.folder.path().join("files/notes.md"))?;
        let before = records(&setup.folder.path().join("audit.log"))?.len();
        let report = setup.call(mode, "accept")?;
        let text = report["text"].as_str().unwrap_or_default();
        ensure!(report["is_error"] == true && report["asked"] == json!([]), "{mode}: {report}");
        ensure!(text.starts_with("Rate limit exceeded: tool `files_write_file`"), "{mode}: {text}");
        ensure!(setup.notes().is_none(), "{mode}: a file was written");
        let after = records(&setup.folder.path().join("audit.log"))?.len();
        ensure!(before == after, "{mode}: a step was called");
    }
    Ok(())
}
