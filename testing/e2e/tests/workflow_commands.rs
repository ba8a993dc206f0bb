//! Workflows on the command line: `vmcp tools`, `vmcp call` and `vmcp workflow check`, `plan` and `run`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, NamePolicy, config};
use vmcp_e2e::process::{binary, fixture, run};

const WORKFLOWS: &str = r#"
rateLimiting:
  tools:
    - {name: b_text, shared: {maxTokens: 1, refillPeriod: 1h}}
    - {name: close_stale, shared: {maxTokens: 9, refillPeriod: 1h}}
audit: {logFile: AUDIT}
compositeTools:
  - {name: good, description: Good., annotations: {destructiveHint: true}, steps: [{id: a, tool: b.text}]}
  - {name: slow, description: Slow., steps: [{id: a, tool: b.fail, onError: {action: retry, retryCount: 5, retryDelay: 60s}}]}
  - {name: bad, description: Bad., steps: [{id: a, tool: b.nosuch}]}
  - {name: greedy, description: Greedy., steps: [{id: a, tool: b.text}, {id: z, tool: b.text}]}
  - name: close_stale
    description: Closes stale issues.
    parameters: {type: object, properties: {days: {type: integer, default: 90}}}
    steps:
      - {id: stale, tool: b.echo, arguments: {days: "{{.params.days}}"}, onError: {action: retry, retryCount: 2}}
      - id: ask
        type: elicitation
        dependsOn: [stale]
        message: "Close {{len .steps.stale.output.issues}} issues?"
        schema: {type: object, properties: {reason: {type: string}}, required: [reason]}
      - id: close
        type: forEach
        collection: "{{.steps.stale.output.issues}}"
        step: {id: one, tool: b.text, arguments: {n: "{{.forEach.item.n}}", why: "{{.steps.ask.output.content.reason}}"}}
    output: {properties: {closed: {type: integer, description: How many., value: "{{.steps.close.output.completed}}"}}}
"#;

/// What a command printed, and whether it succeeded.
struct Printed {
    succeeded: bool,
    out: String,
    errors: String,
}

/// Runs `vmcp` with these arguments and the configuration above.
fn vmcp(folder: &Path, arguments: &[&str]) -> anyhow::Result<Printed> {
    let file = folder.join("vmcp.yaml");
    let backends = [Backend::stdio("b", &fixture(&["steps"])?)];
    let workflows = WORKFLOWS.replace("AUDIT", &audit_file(folder).to_string_lossy());
    std::fs::write(&file, config(NamePolicy::Prefixed, &backends, &workflows))?;
    let output = Command::new(binary("vmcp")?).args(arguments).arg("--config").arg(&file).output()?;
    Ok(Printed {
        succeeded: output.status.success(),
        out: String::from_utf8(output.stdout)?,
        errors: String::from_utf8(output.stderr)?,
    })
}

fn audit_file(folder: &Path) -> std::path::PathBuf {
    folder.join("audit.log")
}

#[test]
fn tools_lists_workflows_and_call_runs_one() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Printed { out, errors, .. } = vmcp(folder.path(), &["tools"])?;
    ensure!(out.lines().any(|line| line.starts_with("good ") && line.ends_with("Good.")), "{out}");
    ensure!(!out.contains("Bad."), "{out}");
    ensure!(errors.contains("workflow `bad` is not offered: there is no tool `b.nosuch`"), "{errors}");
    let Printed { out, .. } = vmcp(folder.path(), &["call", "good"])?;
    ensure!(out == "{\"text\":\"plain text\"}\n", "{out}");
    Ok(())
}

#[test]
fn check_compares_workflows_with_tools_and_limits() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Printed { succeeded, out, .. } = vmcp(folder.path(), &["workflow", "check"])?;
    let expected = [
        "good: ok",
        "slow: ok",
        "bad: not offered: there is no tool `b.nosuch`",
        "greedy: offered",
        "  warning: steps: the workflow can never run: its steps need 2 tokens of `tools[b_text].shared`, which holds 1; \
         raise the limit, or write `reserve: none`",
        "close_stale: ok",
    ];
    ensure!(out.lines().eq(expected), "{out}");
    ensure!(!succeeded, "a workflow is not offered");
    ensure!(vmcp(folder.path(), &["workflow", "check", "good", "greedy"])?.succeeded);
    ensure!(!vmcp(folder.path(), &["workflow", "check", "good", "greedy", "--strict"])?.succeeded);
    let Printed { succeeded, errors, .. } = vmcp(folder.path(), &["workflow", "check", "goood"])?;
    ensure!(!succeeded && errors.contains("there is no workflow `goood`; did you mean `good`?"), "{errors}");
    Ok(())
}

#[test]
fn plan_shows_the_order_the_tools_and_the_charge() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Printed { succeeded, out, errors } = vmcp(folder.path(), &["workflow", "plan", "close_stale"])?;
    let expected = [
        "close_stale: at most 30 min",
        "  1  stale: b.echo (b_echo)",
        "       repeated 2 times if it fails",
        "  2  ask: asks the user",
        "       after stale",
        "  3  close: b.text (b_text) for each item of a list, at most 100 items, 10 at once",
        "       after stale, ask",
        "The call of the workflow is charged:",
        "  tools[close_stale].shared: 1 of 9 tokens (scope tool)",
        "Each item of close is charged:",
        "  tools[b_text].shared: 1 of 1 tokens (scope tool)",
    ];
    ensure!(succeeded && out.lines().eq(expected), "{out}{errors}");
    Ok(())
}

#[test]
fn run_takes_results_and_answers_from_files_and_arguments() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mock = folder.path().join("steps.json");
    let mut results = json!({
        "stale": [{"isError": true, "content": "busy"}, {"issues": [{"n": 1}, {"n": 2}]}],
        "ask": {"action": "accept", "content": {"reason": "old"}},
        "close": "closed",
    });
    let run = |results: &Value, more: &[&str]| {
        std::fs::write(&mock, results.to_string())?;
        let mock = mock.to_string_lossy();
        vmcp(
            folder.path(),
            &[&["workflow", "run", "close_stale", "{\"days\": 5}", "--mock", &mock], more].concat(),
        )
    };
    let Printed { succeeded, out, errors } = run(&results, &[])?;
    ensure!(succeeded && out == "{\"closed\":2}\n", "{out}{errors}");
    for line in [
        "stale: calls b.echo (try 2) {\"days\":\"5\"}",
        "question: Close 2 issues?",
        "close[1]: calls b.text {\"n\":\"2\",\"why\":\"old\"}",
    ] {
        ensure!(errors.lines().any(|found| found == line), "no {line} in {errors}");
    }
    let Printed { succeeded, out, .. } = run(&results, &["--answer", "ask=decline"])?;
    ensure!(!succeeded && out.contains("declined by user") && out.contains("Done: stale"), "{out}");
    let Printed { out, .. } = run(&results, &["--answer", "ask={\"reason\": \"new\"}", "--json"])?;
    ensure!(serde_json::from_str::<Value>(&out)?["structuredContent"] == json!({"closed": 2}), "{out}");
    results.as_object_mut().map(|results| results.remove("close"));
    let Printed { out, .. } = run(&results, &[])?;
    ensure!(out.contains("the file of `--mock` has no result for the step `close`"), "{out}");
    let Printed { errors, .. } = run(&results, &["--answer", "ask=maybe"])?;
    ensure!(errors.contains("--answer ask=maybe: write a JSON object, `decline` or `cancel`"), "{errors}");
    results.as_object_mut().map(|results| results.remove("ask"));
    let Printed { succeeded, errors, .. } = run(&results, &[])?;
    ensure!(
        !succeeded && errors.contains("the step `ask` asks a question; answer it with --answer"),
        "{errors}"
    );
    let Printed { succeeded, errors, .. } = run(&json!({"stael": 1}), &[])?;
    ensure!(
        !succeeded && errors.contains("there is no step `stael`; there are stale, ask, close"),
        "{errors}"
    );
    let Printed { succeeded, errors, .. } = run(&json!({}), &["--answer", "close={}"])?;
    ensure!(
        !succeeded && errors.contains("no step `close` asks a question; the steps that ask: ask"),
        "{errors}"
    );
    // With servers.
    let Printed { succeeded, out, errors } = vmcp(folder.path(), &["workflow", "run", "good"])?;
    ensure!(succeeded && out == "{\"text\":\"plain text\"}\n", "{out}{errors}");
    ensure!(errors.contains("a: calls b_text {}"), "{errors}");
    let Printed { succeeded, errors, .. } = vmcp(folder.path(), &["workflow", "run", "greedy"])?;
    ensure!(
        !succeeded && errors.contains("tools[b_text].shared") || errors.contains("Rate limit"),
        "{errors}"
    );
    Ok(())
}

#[test]
fn limits_of_a_workflow_are_shown() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let Printed { out, .. } = vmcp(folder.path(), &["limits", "explain", "close_stale"])?;
    ensure!(out.contains("tools[close_stale].shared") && out.contains("9 in 3600s"), "{out}");
    let Printed { out, .. } = vmcp(folder.path(), &["limits", "explain", "good"])?;
    ensure!(out == "good\n  not limited\n", "{out}");
    let Printed { out, .. } = vmcp(folder.path(), &["limits", "explain"])?;
    ensure!(out.contains("  on close_stale\n"), "{out}");
    Ok(())
}

#[test]
fn an_interrupted_run_has_its_end_in_the_records() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    vmcp(folder.path(), &["validate"])?;
    let mut command = Command::new(binary("vmcp")?);
    command.args(["workflow", "run", "slow", "--config"]).arg(&file).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stderr.take().context("standard error")?).lines();
    while !lines.next().context("the run prints that a call failed")??.contains("the tool failed") {}
    run(Command::new("kill").args(["-INT", &child.id().to_string()]))?;
    ensure!(child.wait()?.code() == Some(130), "the exit code of an interrupted command");
    let records = std::fs::read_to_string(audit_file(folder.path()))?;
    let records: Vec<Value> = records.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let count = |kind: &str| records.iter().filter(|record| record["type"] == kind).count();
    ensure!(count("vmcp_workflow_step_failed") == 1 && count("vmcp_workflow_failed") == 1, "{records:?}");
    Ok(())
}
