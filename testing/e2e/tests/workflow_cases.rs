//! 122 workflows with what ToolHive does for each: refuse it, or answer, with the calls that reach the backend and the
//! end of each step. `docs/workflow-cases.md` has what differs here and why. `UPDATE_EXPECT=1` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use vmcp_e2e::cache::project_file;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{HttpClient, ProtocolFamily, text_of};
use vmcp_e2e::process::{binary, fixture};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workflow-cases.md");
/// Workflows that are started at once.
const WORKERS: usize = 4;

const INTRODUCTION: &str = "\
# Workflows that do something else than in ToolHive

A test runs 122 workflows against the binary (`testing/e2e/workflow_cases.json` has them with what ToolHive does). All of
them are refused, or answered with the same value after the same calls, as in ToolHive, except for these.

| Workflow | In ToolHive | Here | Reason |
| --- | --- | --- | --- |
";

/// The workflows that differ on purpose, and why.
const REASONS: [(&str, &str); 29] = [
    ("no-route", "a workflow that calls an unknown tool is not offered; nothing of it runs"),
    ("coerce", "a type that also allows null is a type"),
    ("coerce-big-client", NUMBERS),
    ("object-param-plain", "an object stays an object unless the tool wants a text"),
    ("object-to-object-schema", "JSON text is parsed if the tool wants an object or a list"),
    ("missing-param", MISSING),
    ("required-not-enforced", PARAMETERS),
    ("wrong-type-param", PARAMETERS),
    ("nested-template-bad", "errors of templates are found at the start, at any depth"),
    ("cond-space", "space around the text of a condition does not matter"),
    ("cond-cmp-int", NUMBERS),
    ("cond-cmp-gt-doc", NUMBERS),
    ("skip-nodefault-nestedref", MISSING),
    ("no-depends-race", "a step waits for the steps that its templates read"),
    ("out-big-int", NUMBERS),
    ("out-missing", MISSING),
    ("out-missing-default", MISSING),
    ("out-bad-obj", "an object stays an object"),
    ("meta-in-step", "the number of steps is known from the start"),
    ("fromjson", NUMBERS),
    ("fe-notarray", "a list needs no `json`"),
    ("fe-fail-abort", "items start in the order of the list, and none starts after a failure"),
    ("fe-inner-continue", "`onError` of the inner step holds"),
    ("fe-inner-condition", "`condition` of the inner step holds"),
    ("el-decline-continue", MISSING),
    ("el-decline-skip", "`skip_remaining` skips the remaining steps"),
    ("el-timeout-cancelcontinue", MISSING),
    (
        "el-answer-not-checked",
        "an answer must fit its schema: the user is asked once more, then it counts as cancelled",
    ),
    ("defaults-null", "null for a parameter that cannot be null leaves it out"),
];
const NUMBERS: &str = "numbers keep their digits, and are compared by value";
const MISSING: &str =
    "what does not exist is left out, or prints as nothing (`missingValues: text` restores `<no value>`)";
const PARAMETERS: &str = "arguments must fit `parameters`, before anything happens";

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    id: String,
    workflow: String,
    params: Value,
    #[serde(default)]
    elicit: Vec<Value>,
    refused: Option<String>,
    #[serde(default)]
    is_error: bool,
    #[serde(default)]
    text: String,
    #[serde(default)]
    steps: BTreeMap<String, String>,
    #[serde(default)]
    calls: Vec<(String, Value)>,
}

/// What a workflow does.
#[derive(Clone, Debug, PartialEq)]
enum Observed {
    Refused,
    Answered { is_error: bool, value: Value, calls: Vec<String>, steps: BTreeMap<String, String> },
}

impl Observed {
    /// For the page.
    fn summary(&self, other: &Self) -> String {
        let (
            Self::Answered { is_error, value, calls, steps },
            Self::Answered { is_error: e, value: v, calls: c, .. },
        ) = (self, other)
        else {
            return match self {
                Self::Refused => "is refused at the start".to_owned(),
                Self::Answered { is_error: true, .. } => "fails when it runs".to_owned(),
                Self::Answered { value, .. } => format!("answers `{value}`"),
            };
        };
        match (is_error, value, calls) {
            (true, ..) if !e => "fails".to_owned(),
            (false, value, _) if value != v || *e => format!("answers `{value}`"),
            (_, _, calls) if calls != c => format!("calls {}", calls.join(", ")),
            _ => format!("steps: {}", json!(steps)),
        }
    }
}

impl Case {
    /// What ToolHive does.
    fn expected(&self) -> Observed {
        if self.refused.is_some() {
            return Observed::Refused;
        }
        Observed::Answered {
            is_error: self.is_error,
            value: if self.is_error { Value::Null } else { value_of(&self.text) },
            calls: sorted(self.calls.iter().map(|(tool, arguments)| described(tool, arguments))),
            steps: self.steps.clone(),
        }
    }

    /// What the gateway does.
    fn observe(&self) -> anyhow::Result<Observed> {
        let folder = tempfile::tempdir()?;
        let journal = folder.path().join("journal");
        let server = fixture(&["steps", "--journal", &journal.to_string_lossy()])?;
        let workflow = self.workflow.replace('\n', "\n    ");
        let extra = format!("compositeTools:\n  - {workflow}\n");
        let config = config(NamePolicy::Prefixed, &[Backend::stdio("b", &server)], &extra);
        let file = folder.path().join("vmcp.yaml");
        std::fs::write(&file, &config)?;
        let validated = Command::new(binary("vmcp")?).arg("validate").arg("--config").arg(&file).output()?;
        if !validated.status.success() {
            return Ok(Observed::Refused);
        }
        let gateway = Gateway::start(&config)?;
        let capabilities = json!({"elicitation": {}});
        let mut client =
            HttpClient::open_with_capabilities(&gateway.url, ProtocolFamily::Sessions, capabilities)?;
        let result = self.call(&mut client)?;
        let steps = &result["_meta"]["vmcp/run"]["steps"];
        let each = steps.as_object().map(Map::iter).into_iter().flatten();
        let ended = each.filter(|(_, step)| step["status"] != "not run");
        let journal = std::fs::read_to_string(&journal).unwrap_or_default();
        let calls = journal.lines().filter_map(|line| {
            let (tool, arguments) = line.strip_prefix("start ")?.split_once(' ')?;
            Some(described(tool, &serde_json::from_str(arguments).ok()?))
        });
        Ok(Observed::Answered {
            is_error: result["isError"] == true,
            value: if result["isError"] == true { Value::Null } else { value_of(&text_of(&result)) },
            calls: sorted(calls),
            steps: ended.map(|(id, step)| (id.clone(), text(&step["status"]))).collect(),
        })
    }

    /// Calls the workflow and answers its questions.
    fn call(&self, client: &mut HttpClient) -> anyhow::Result<Value> {
        let mut answers = self.elicit.iter();
        let params = json!({"name": "w", "arguments": self.params});
        let mut messages = client.send_request("tools/call", params)?;
        while let Some(message) = messages.next_message()? {
            let message: Value = serde_json::from_str(&message)?;
            if message["method"] == "elicitation/create" {
                // A case without answers waits for the time-out of its question.
                let answer = answers.next().cloned().or_else(|| Some(json!({"action": "cancel"})));
                if let Some(answer) = answer.filter(|_| !self.elicit.is_empty()) {
                    client.reply(&message["id"], &answer)?;
                }
            } else if message.get("result").is_some() {
                return Ok(message["result"].clone());
            } else if message.get("error").is_some() {
                bail!("{message}");
            }
        }
        bail!("no answer")
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The value in a text, or the text itself.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// A call as text. Absent arguments are an empty object.
fn described(tool: &str, arguments: &Value) -> String {
    let is_empty = arguments.is_null() || arguments.as_object().is_some_and(Map::is_empty);
    if is_empty { tool.to_owned() } else { format!("{tool} {arguments}") }
}

/// Calls that run at once come in any order.
fn sorted(calls: impl Iterator<Item = String>) -> Vec<String> {
    let mut calls: Vec<String> = calls.collect();
    calls.sort();
    calls
}

#[test]
fn workflows_do_what_they_do_in_toolhive_or_what_the_page_says() -> anyhow::Result<()> {
    let cases: Vec<Case> =
        serde_json::from_str(&std::fs::read_to_string(project_file("workflow_cases.json"))?)?;
    ensure!(cases.len() == 122, "{} cases", cases.len());
    let reasons: BTreeMap<&str, &str> = REASONS.into_iter().collect();
    let part = cases.len().div_ceil(WORKERS);
    let observed: Vec<anyhow::Result<Observed>> = std::thread::scope(|scope| {
        let workers = cases
            .chunks(part)
            .map(|part| scope.spawn(move || part.iter().map(Case::observe).collect::<Vec<_>>()));
        let workers: Vec<_> = workers.collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    ensure!(observed.len() == cases.len(), "a worker has failed");
    let (mut page, mut faults) = (INTRODUCTION.to_owned(), Vec::new());
    for (case, observed) in cases.iter().zip(observed) {
        let observed = observed.with_context(|| case.id.clone())?;
        let expected = case.expected();
        match (observed == expected, reasons.get(case.id.as_str())) {
            (true, None) => {}
            (true, Some(_)) => faults.push(format!("{} does not differ", case.id)),
            (false, None) => {
                faults.push(format!("{}:\n  {observed:?}\n  instead of\n  {expected:?}", case.id))
            }
            (false, Some(reason)) => {
                let (theirs, ours) = (expected.summary(&observed), observed.summary(&expected));
                writeln!(page, "| `{}` | {theirs} | {ours} | {reason} |", case.id)?;
            }
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    let stored = std::fs::read_to_string(PAGE).unwrap_or_default();
    if std::env::var_os("UPDATE_EXPECT").is_some() && stored != page {
        std::fs::write(PAGE, page)?;
        return Ok(());
    }
    ensure!(stored == page, "docs/workflow-cases.md is not what is observed:\n{page}");
    Ok(())
}
