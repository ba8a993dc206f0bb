//! `cargo xtask bench tokens`: what `find_tool` and `call_tool` save in definitions and cost in turns. The
//! tools are those of published servers; the tasks are in plain words (`testing/e2e/tasks.json`). A token is
//! four bytes of JSON, as in the gateway's own account.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, names, text_of};
use vmcp_e2e::process::fixture;
use vmcp_e2e::{cache, servers, wait};

const TOKEN_BYTES: usize = 4;
/// The form of results for clients that show a model the text only.
const TEXT: &str = "text";
/// How often a model searches before it gives up.
const SEARCHES_MAX: usize = 2;

/// A task, and the tools that solve it.
type Task = (String, Vec<String>);

/// The counts for one set of servers and one form of results.
struct TokenCounts {
    tools: usize,
    list_tokens: usize,
    virtual_tools_tokens: usize,
    /// Average tokens of one search, request and result together.
    search_tokens: usize,
    found_count: usize,
    task_count: usize,
}

/// Counts the tokens and prints the table.
pub(super) fn run() -> anyhow::Result<()> {
    let tasks: Vec<Task> =
        serde_json::from_str(&std::fs::read_to_string(cache::project_file("tasks.json"))?)?;
    let scratch = tempfile::tempdir()?;
    servers::prepare_folders(scratch.path())?;
    println!(
        "| servers | tools | results | list | menu | one search | found at once | turns | read per task | to the list |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for (name, backends) in [
        ("time", live_backends(&["time"], scratch.path())?),
        ("everything, files, memory, time, git", live_backends(&servers::SERVER_NAMES, scratch.path())?),
        ("14 recorded catalogues", recorded_backends()?),
    ] {
        for schemas in ["full", "compact", TEXT] {
            let account = count_tokens(&backends, schemas, &tasks)?;
            println!("{}", row(name, schemas, &account));
        }
    }
    Ok(())
}

fn live_backends(names: &[&str], scratch: &Path) -> anyhow::Result<Vec<Backend>> {
    names.iter().map(|name| Ok(Backend::stdio(*name, &servers::server(name, scratch)?))).collect()
}

fn recorded_backends() -> anyhow::Result<Vec<Backend>> {
    let folder = crate::root().join("../shared/data/catalogues");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .with_context(|| format!("{} is needed for the recorded catalogues", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.sort();
    let backend = |file: &std::path::PathBuf| {
        let name = file.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
        let mut command = fixture(&["replay", "--catalogue"])?;
        command.arg(file);
        Ok(Backend::stdio(name, &command))
    };
    files.iter().map(backend).collect()
}

fn count_tokens(backends: &[Backend], schemas: &str, tasks: &[Task]) -> anyhow::Result<TokenCounts> {
    let plain = Gateway::start(&config(NamePolicy::Prefixed, backends, ""))?;
    let list = HttpClient::open(&plain.url, ProtocolFamily::Stateless)?.list_tools()?;
    drop(plain);
    let return_schemas = if schemas == TEXT { "full" } else { schemas };
    let extra = format!("optimizer: {{returnSchemas: {return_schemas}}}\n");
    let gateway = Gateway::start(&config(NamePolicy::Prefixed, backends, &extra))?;
    let status = gateway.url.replace("/mcp", "/status");
    wait::until_within(std::time::Duration::from_secs(300), "every tool has its vector", || {
        let page: Value = serde_json::from_str(&vmcp_e2e::http::get(&status, &[]).ok()?.text().ok()?).ok()?;
        let optimizer = &page["optimizer"];
        (optimizer["vectors"] == list.len() && optimizer["tools"] == list.len()).then_some(())
    })?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    let menu = client.list_tools()?;
    ensure!(names(&menu) == ["find_tool", "call_tool"], "the menu is two tools");
    let known = names(&list);
    let fits = |task: &&Task| task.1.iter().any(|tool| known.iter().any(|name| is_tool(name, tool)));
    let (mut search, mut found, mut task_count) = (0, 0, 0);
    for (what, right) in tasks.iter().filter(fits) {
        let arguments = json!({"tool_description": what});
        let result = client.call("find_tool", arguments.clone())?;
        // A model reads either the text or the structured content, not both.
        let read =
            if schemas == TEXT { text_of(&result).len() } else { json_bytes(&result["structuredContent"]) };
        search += json_bytes(&arguments) + read;
        let tools = result["structuredContent"]["tools"].as_array().cloned().unwrap_or_default();
        let hit = names(&tools).iter().any(|name| right.iter().any(|tool| is_tool(name, tool)));
        found += usize::from(hit);
        task_count += 1;
    }
    ensure!(task_count > 0, "some task fits these servers");
    Ok(TokenCounts {
        tools: list.len(),
        list_tokens: json_bytes(&list) / TOKEN_BYTES,
        virtual_tools_tokens: json_bytes(&menu) / TOKEN_BYTES,
        search_tokens: search / task_count / TOKEN_BYTES,
        found_count: found,
        task_count,
    })
}

/// Whether an advertised name is the name of a tool, with or without a prefix.
fn is_tool(name: &str, tool: &str) -> bool {
    name.strip_suffix(tool).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('_'))
}

fn json_bytes<T: serde::Serialize>(value: &T) -> usize {
    serde_json::to_string(value).map_or(0, |text| text.len())
}

/// The row for a task of one call. With the full list a model takes two turns, the call and the answer, and
/// reads all definitions in both. With the two virtual tools it takes one more turn for each search, and
/// reads every search again in each later turn.
fn row(name: &str, schemas: &str, account: &TokenCounts) -> String {
    let TokenCounts {
        tools,
        list_tokens: list,
        virtual_tools_tokens: menu,
        search_tokens: search,
        found_count: found,
        task_count: tasks,
    } = *account;
    let missed = tasks - found;
    // A model that does not find the tool in the first search searches again.
    let repeated = missed * (SEARCHES_MAX - 1);
    let searches = (tasks + repeated) as f64 / tasks as f64;
    let turns = 2.0 + searches;
    let read = turns * menu as f64 + search as f64 * searches * (searches + 3.0) / 2.0;
    let without = 2.0 * list as f64;
    format!(
        "| {name} | {tools} | {schemas} | {list} | {menu} | {search} | {found} of {tasks} | {turns:.2} to 2 | {read:.0} to \
         {without:.0} | {:.2} |",
        read / without
    )
}
