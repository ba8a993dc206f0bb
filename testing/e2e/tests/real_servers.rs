//! Third-party servers as child processes of the real binary, all behind one endpoint. Every tool is listed
//! as the server itself lists it, and every tool's answer is the one that the server gives directly. The
//! calls are in `calls.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use vmcp_e2e::cache;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client, HttpClient, ProtocolFamily, StdioClient, names, without_hop_fields};
use vmcp_e2e::servers::{SERVER_NAMES, everything_over_http, prepare_folders, server};

/// The server that is reached over HTTP.
const REMOTE: &str = "remote";

/// How two answers are compared.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compare {
    #[default]
    Same,
    /// The same members and types. The values are times, or identify the process that answers.
    Shape,
}

#[derive(Clone, Deserialize)]
#[serde(from = "CallSpec")]
struct Call {
    tool: String,
    arguments: Value,
    compare: Compare,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CallSpec {
    Plain(String, Value),
    Compared(String, Value, Compare),
}

impl From<CallSpec> for Call {
    fn from(spelled: CallSpec) -> Self {
        let (tool, arguments, compare) = match spelled {
            CallSpec::Plain(tool, arguments) => (tool, arguments, Compare::Same),
            CallSpec::Compared(tool, arguments, compare) => (tool, arguments, compare),
        };
        Self { tool, arguments, compare }
    }
}

/// The calls of each server in their order; later calls depend on the effects of earlier ones.
fn calls(scratch: &Path) -> anyhow::Result<BTreeMap<String, Vec<Call>>> {
    let text = fs::read_to_string(cache::project_file("calls.json"))?;
    let mut all: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    let spelled: BTreeMap<String, Value> = serde_json::from_str(&text)?;
    for (server, calls) in spelled {
        let folder = scratch.join(&server);
        let text = calls.to_string().replace("DIR", &folder.to_string_lossy());
        all.insert(server.clone(), serde_json::from_str(&text).with_context(|| server)?);
    }
    let remote = all.get("everything").context("calls of server-everything")?.clone();
    all.insert(REMOTE.to_owned(), remote);
    Ok(all)
}

/// The observed behaviour of a server: its tools by name, and the answer to each call.
#[derive(Default)]
struct Observed {
    tools: BTreeMap<String, Value>,
    answers: Vec<Value>,
}

/// Makes all calls in order. A JSON-RPC error is an answer too.
fn run_calls(client: &mut dyn Client, prefix: &str, calls: &[Call]) -> anyhow::Result<Observed> {
    let mut seen = Observed::default();
    for mut tool in client.list_tools()? {
        let name = tool["name"].take();
        if let Some(name) = name.as_str().and_then(|name| name.strip_prefix(prefix)) {
            seen.tools.insert(name.to_owned(), tool);
        }
    }
    for call in calls {
        let params = json!({"name": format!("{prefix}{}", call.tool), "arguments": call.arguments});
        let answer = client.ask("tools/call", params).with_context(|| call.tool.clone())?;
        let mut message: Value = serde_json::from_str(&answer.text)?;
        let answer = match message.get_mut("result") {
            Some(result) => without_hop_fields(result.take()),
            None => json!({"code": message["error"]["code"]}),
        };
        seen.answers.push(answer);
    }
    Ok(seen)
}

/// Replaces values by the names of their types.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => json!("string"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("boolean"),
        Value::Null => Value::Null,
    }
}

fn compare(server: &str, calls: &[Call], direct: &Observed, through: &Observed) -> anyhow::Result<()> {
    for (name, definition) in &direct.tools {
        let found = through.tools.get(name).with_context(|| format!("{server}: {name} is not listed"))?;
        ensure!(found == definition, "{server}: {name} became {found}, it is {definition}");
    }
    for ((call, direct), through) in calls.iter().zip(&direct.answers).zip(&through.answers) {
        let same = match call.compare {
            Compare::Same => direct == through,
            Compare::Shape => shape(direct) == shape(through),
        };
        ensure!(same, "{server}: {} answers {through}, directly {direct}", call.tool);
    }
    let called: BTreeSet<&String> = calls.iter().map(|call| &call.tool).collect();
    let unknown: Vec<_> = called.iter().filter(|name| !direct.tools.contains_key(**name)).collect();
    ensure!(unknown.is_empty(), "{server}: calls.json calls {unknown:?}, which it does not list");
    let uncalled: Vec<&String> = direct.tools.keys().filter(|name| !called.contains(name)).collect();
    ensure!(uncalled.is_empty(), "{server}: calls.json calls none of {uncalled:?}");
    Ok(())
}

/// The newest protocol family of a child process, which the gateway uses with it.
fn family_of(server: &str) -> ProtocolFamily {
    if matches!(server, "time" | "git") { ProtocolFamily::Stateless } else { ProtocolFamily::Sessions }
}

/// The behaviour of every server without a gateway.
fn directly(
    scratch: &Path,
    calls: &BTreeMap<String, Vec<Call>>,
    remote: &str,
) -> anyhow::Result<BTreeMap<String, Observed>> {
    let mut all = BTreeMap::new();
    for (name, calls) in calls {
        let seen = if name == REMOTE {
            run_calls(&mut HttpClient::open(remote, ProtocolFamily::Sessions)?, "", calls)
        } else {
            run_calls(&mut StdioClient::start(&mut server(name, scratch)?, family_of(name))?, "", calls)
        };
        all.insert(name.clone(), seen.with_context(|| format!("{name}, directly"))?);
    }
    Ok(all)
}

fn gateway(scratch: &Path, remote: &str) -> anyhow::Result<Gateway> {
    let mut backends = vec![Backend::http(REMOTE, remote)];
    for name in SERVER_NAMES {
        backends.push(Backend::stdio(name, &server(name, scratch)?));
    }
    Gateway::start(&config(NamePolicy::Prefixed, &backends, ""))
}

#[test]
fn every_tool_of_every_server_answers_as_it_does_directly() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // Some servers resolve symbolic links before they compare paths.
    let scratch: PathBuf = folder.path().canonicalize()?.join("scratch");
    let calls = calls(&scratch)?;
    let (_remote, url) = everything_over_http()?;
    prepare_folders(&scratch)?;
    let direct = directly(&scratch, &calls, &url)?;
    for family in ProtocolFamily::ALL {
        prepare_folders(&scratch)?;
        let gateway = gateway(&scratch, &url)?;
        let mut client = HttpClient::open(&gateway.url, family)?;
        for (name, calls) in &calls {
            let said = || format!("{family:?}, {name}; the gateway said:\n{}", gateway.process.output());
            let through = run_calls(&mut client, &format!("{name}_"), calls).with_context(said)?;
            let direct = direct.get(name).context("a server that is called is visited")?;
            compare(name, calls, direct, &through).with_context(said)?;
        }
        nothing_is_made_up(&mut client)?;
    }
    Ok(())
}

fn nothing_is_made_up(client: &mut dyn Client) -> anyhow::Result<()> {
    for name in names(&client.list_tools()?) {
        let server = name.split('_').next().unwrap_or_default();
        ensure!(server == REMOTE || SERVER_NAMES.contains(&server), "{name} belongs to no server");
    }
    Ok(())
}
