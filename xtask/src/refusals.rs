//! `cargo xtask refusals`: clients of the official SDKs, in each revision, and agent frameworks in front of a
//! gateway that refuses their requests. The result is `docs/refusals.md`: which refusals a client survives, which
//! end it, and what a model is told.

mod frameworks;

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use vmcp_e2e::cache;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::process::fixture;
use vmcp_e2e::sdk_clients::{RefusalOutcome, SdkClient};

use crate::root;

const TABLE: &str = "docs/refusals.md";
const HEAD: &str = "# Refusals and what clients make of them

## Clients of official SDKs

What a client of an official SDK does after a refusal: each operation on a connection of its own, then `tools/list` on the same one.
Written by `cargo xtask refusals`; the clients are in `testing/e2e/clients`, their versions in `testing/e2e/pins.txt` and
`testing/e2e/clients/go`. Go 1.7 is the version that ToolHive has.

**result**: the call is answered with a failed result, which a model can read. **error**: the SDK throws or returns an error, and the
client goes on. **ends**: the client cannot be used any more. **-**: the operation is not refused.

";

/// A rate limit on one tool.
const LIMIT: &str = "
rateLimiting:
  tools:
    - {name: whoami, shared: {maxTokens: 1, refillPeriod: 1h}}
";
/// Policies that deny another tool. With policies, a tool that no backend offers is denied too.
const POLICIES: &str = r#"
incomingAuth:
  type: anonymous
  authz:
    type: cedar
    policies:
      - 'permit(principal, action, resource);'
      - 'forbid(principal, action == Action::"call_tool", resource == Tool::"grow");'
"#;

/// A column of the table.
struct Column {
    client: SdkClient,
    revision: &'static str,
    found: Vec<RefusalOutcome>,
}

/// Writes the table, or with `check` only compares it with the existing one.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let operations = std::fs::read_to_string(cache::project_file("refusals.json"))?;
    let operations: Vec<Value> = serde_json::from_str(&operations)?;
    let mut columns = Vec::new();
    for client in SdkClient::ALL.into_iter().chain([SdkClient::Go17]) {
        for revision in client.revisions() {
            columns.push(Column { client, revision, found: try_operations(client, revision, &operations)? });
        }
    }
    let file = root().join(TABLE);
    let table = table(&operations, &columns)? + &frameworks::sections()?;
    if check {
        let known = std::fs::read_to_string(&file).context(TABLE)?;
        ensure!(
            known == table,
            "{TABLE} is not what was found; run `cargo xtask refusals` and read the change. Found:\n{table}"
        );
        println!("{TABLE} is what was found");
    } else {
        std::fs::write(file, table)?;
        println!("{TABLE} is written");
    }
    Ok(())
}

/// Returns the outcome of each operation. Operations that ask for policies run against a gateway with
/// policies, the others against one without.
fn try_operations(
    client: SdkClient,
    revision: &str,
    operations: &[Value],
) -> anyhow::Result<Vec<RefusalOutcome>> {
    let mut found: Vec<Option<RefusalOutcome>> = vec![None; operations.len()];
    for with_policies in [false, true] {
        let indices = (0..operations.len()).filter(|index| {
            operations.get(*index).is_some_and(|operation| (operation["policies"] == true) == with_policies)
        });
        let indices: Vec<usize> = indices.collect();
        let attempted: Vec<&Value> = indices.iter().filter_map(|index| operations.get(*index)).collect();
        // Each run needs a new gateway: the operations use up limits and end a server.
        let gateway = gateway(with_policies, false)?;
        let said = client
            .run_operations(&gateway.url, &serde_json::to_string(&attempted)?, revision)
            .with_context(|| {
                format!("{} in {revision}; the gateway said:\n{}", client.name(), gateway.process.output())
            })?;
        for (index, said) in indices.into_iter().zip(said) {
            if let Some(slot) = found.get_mut(index) {
                *slot = Some(said);
            }
        }
    }
    found.into_iter().map(|found| found.with_context(|| format!("{} left some out", client.name()))).collect()
}

fn gateway(with_policies: bool, with_optimizer: bool) -> anyhow::Result<Gateway> {
    let backends = [
        Backend::stdio("echo", &fixture(&["echo"])?).with("timeout: 2s"),
        Backend::stdio("isolation", &fixture(&["isolation"])?),
        Backend::stdio("odd", &fixture(&["odd"])?),
    ];
    let mut config = config(NamePolicy::Unchanged, &backends, LIMIT);
    if with_optimizer {
        config.push_str("optimizer: {embeddingProvider: none}\n");
    }
    if with_policies {
        config = config.replace("incomingAuth: {type: anonymous}\n", POLICIES);
    }
    Gateway::start(&config)
}

fn table(names: &[Value], columns: &[Column]) -> anyhow::Result<String> {
    let mut text = HEAD.to_owned();
    text.push_str("| Refused |");
    for column in columns {
        write!(text, " {}, {} |", column.client.name(), column.revision)?;
    }
    text.push_str("\n| --- |");
    text.push_str(&" --- |".repeat(columns.len()));
    text.push('\n');
    let mut ends = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let name = name["name"].as_str().unwrap_or_default();
        write!(text, "| {name} |")?;
        for Column { client, revision, found } in columns {
            let found = found.get(index).context("an operation is missing")?;
            let cell = match (found.lives, &*found.said) {
                (false, said) => {
                    ends.push(format!("{name}, {} in {revision}: {said}", client.name()));
                    "**ends**"
                }
                (true, "a result") => "-",
                (true, said) if said.starts_with("failed result") => "result",
                (true, _) => "error",
            };
            write!(text, " {cell} |")?;
        }
        text.push('\n');
    }
    if !ends.is_empty() {
        text.push_str("\nWhat the clients that ended said:\n\n");
        for end in ends {
            writeln!(text, "- {}", end.replace('\n', " "))?;
        }
    }
    Ok(text)
}
