//! Workflows on the command line: `vmcp tools`, `vmcp call` and `vmcp workflow check`, `plan` and `run`.

use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, NamePolicy, config};
use vmcp_e2e::process::{binary, fixture};

const WORKFLOWS: &str = r#"
rateLimiting:
  tools: [{name: b_text, shared: {maxTokens: 1, refillPeriod: 1h}}]
compositeTools:
  - {name: good, description: Good., steps: [{id: a, tool: b.text}]}
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
    std::fs::write(&file, config(NamePolicy::Prefixed, &backends, WORKFLOWS))?;
    let output = Command::new(binary("vmcp")?).args(arguments).arg("--config").arg(&file).output()?;
    Ok(Printed {
        succeeded: output.status.success(),
        out: String::from_utf8(output.stdout)?,
        errors: String::from_utf8(output.stderr)?,
    })
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
        !succeeded && errors.contains("answer with --answer STEP=JSON, or run it on a terminal"),
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
