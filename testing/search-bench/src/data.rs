//! The labelled sets: tools, requests, and the tools that answer each request.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::Value;
use vmcp_domain::{BackendId, BackendToolName, RoutingTarget, Tool, ToolHints, ToolName, ToolOverride};
use vmcp_json::Json;

/// A set of tools, and requests with known answers.
pub(crate) struct LabelledSet {
    pub(crate) name: String,
    pub(crate) tools: Vec<Tool>,
    pub(crate) requests: Vec<Request>,
}

/// A request with the names of the tools that answer it. Several tools may have the same name.
pub(crate) struct Request {
    pub(crate) text: String,
    pub(crate) relevant: BTreeSet<String>,
}

/// The files of `bfcl-eval` with functions and single requests. `parallel` and `live_parallel` are left out:
/// each of their requests repeats one function, and the functions are in the files listed here.
const BFCL: [&str; 11] = [
    "irrelevance",
    "live_irrelevance",
    "live_multiple",
    "live_parallel_multiple",
    "live_relevance",
    "live_simple",
    "multiple",
    "parallel_multiple",
    "simple_java",
    "simple_javascript",
    "simple_python",
];

#[derive(Deserialize)]
struct BfclLine {
    id: String,
    question: Vec<Vec<Message>>,
    function: Vec<Value>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct BfclAnswer {
    id: String,
    ground_truth: Vec<HashMap<String, Value>>,
}

/// BFCL: all functions of its files in one pool (the first of each name), and the requests that have an
/// answer.
pub(crate) fn bfcl(folder: &Path) -> anyhow::Result<LabelledSet> {
    let (mut tools, mut seen, mut requests) = (Vec::new(), BTreeSet::new(), Vec::new());
    for part in BFCL {
        let file = format!("BFCL_v4_{part}.json");
        let answers = folder.join("possible_answer").join(&file);
        let answers: Vec<BfclAnswer> = if answers.exists() { read_json_lines(&answers)? } else { Vec::new() };
        let mut answers: HashMap<String, BfclAnswer> =
            answers.into_iter().map(|answer| (answer.id.clone(), answer)).collect();
        for line in read_json_lines::<BfclLine>(&folder.join(&file))? {
            for function in &line.function {
                let name = function["name"].as_str().context("a function without a name")?;
                if seen.insert(name.to_owned()) {
                    tools.push(tool(name, function["description"].as_str(), &function["parameters"], None)?);
                }
            }
            if let Some(answer) = answers.remove(&line.id) {
                let messages = line.question.iter().flatten().filter(|message| message.role == "user");
                let text: Vec<&str> = messages.map(|message| message.content.as_str()).collect();
                let wanted = answer.ground_truth.into_iter().flat_map(HashMap::into_keys).collect();
                requests.push(Request { text: text.join("\n"), relevant: wanted });
            }
        }
    }
    ensure!((tools.len(), requests.len()) == (1804, 2285), "bfcl-eval is not the version this bench knows");
    Ok(LabelledSet { name: "BFCL".to_owned(), tools, requests })
}

fn read_json_lines<T: for<'a> Deserialize<'a>>(file: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let read = |line| serde_json::from_str(line).with_context(|| file.display().to_string());
    text.lines().filter(|line| !line.trim().is_empty()).map(read).collect()
}

#[derive(Deserialize)]
struct LiveServer {
    tools: HashMap<String, LiveTools>,
}

#[derive(Deserialize)]
struct LiveTools {
    tools: Vec<Value>,
}

#[derive(Deserialize)]
struct LiveTask {
    #[serde(rename = "Question")]
    question: String,
    #[serde(rename = "Annotator Metadata")]
    metadata: HashMap<String, String>,
}

/// LiveMCPBench: the tools of its servers, and its tasks with the tools that an annotator used. Five labels
/// name no existing tool and count as not found.
pub(crate) fn live_mcp_bench(folder: &Path) -> anyhow::Result<LabelledSet> {
    let servers: Vec<LiveServer> = read_json(&folder.join("tools.json"))?;
    let mut tools = Vec::new();
    for (server, part) in servers.into_iter().flat_map(|server| server.tools) {
        for one in part.tools {
            let name = one["name"].as_str().context("a tool without a name")?;
            let mut tool =
                tool(name, one["description"].as_str(), &one["inputSchema"], one["title"].as_str())?;
            tool.target.backend = server.as_str().into();
            tools.push(tool);
        }
    }
    let tasks: Vec<LiveTask> = read_json(&folder.join("tasks.json"))?;
    let mut requests = Vec::new();
    for task in tasks {
        let labels = task.metadata.get("Tools").context("a task without tools")?;
        let label =
            |line: &str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim().to_owned();
        requests.push(Request { text: task.question, relevant: labels.lines().map(label).collect() });
    }
    Ok(LabelledSet { name: "LiveMCPBench".to_owned(), tools, requests })
}

/// The recorded catalogues in `folder`, with requests in plain words: those of the end-to-end tests and those beside
/// this package. Only clashing names have the name of their server as a prefix, as under `conflictResolution: auto`.
pub(crate) fn catalogues(folder: &Path) -> anyhow::Result<LabelledSet> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    files.sort();
    let (mut tools, mut names, mut by_server) = (Vec::new(), HashMap::new(), HashMap::new());
    for file in files {
        let server = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let recorded: Value = read_json(&file)?;
        for one in recorded["tools"].as_array().context("no `tools`")? {
            let name = one["name"].as_str().context("a tool without a name")?;
            let advertised =
                if names.contains_key(name) { format!("{server}_{name}") } else { name.to_owned() };
            let text = |key: &str| one[key].as_str();
            let mut tool = tool(&advertised, text("description"), &one["inputSchema"], text("title"))?;
            tool.target = RoutingTarget { backend: server.as_str().into(), name: name.into() };
            tools.push(tool);
            by_server.insert(format!("{server}/{name}"), advertised.clone());
            names.entry(name.to_owned()).or_insert_with(Vec::new).push(advertised);
        }
    }
    let tasks: Vec<(String, Vec<String>)> = serde_json::from_str(include_str!("../../e2e/tasks.json"))?;
    let own: Vec<(String, Vec<String>)> = serde_json::from_str(include_str!("../requests.json"))?;
    let task = |(text, wanted): (String, Vec<String>)| {
        let relevant = wanted.iter().flat_map(|name| names.get(name).into_iter().flatten().cloned());
        Request { text, relevant: relevant.collect() }
    };
    let own = own.into_iter().map(|(text, wanted)| {
        let advertised = |name: &String| by_server.get(name).unwrap_or(name).clone();
        let relevant = wanted.iter().map(advertised).collect();
        Request { text, relevant }
    });
    let requests: Vec<Request> = tasks.into_iter().map(task).chain(own).collect();
    let listed: BTreeSet<&str> = tools.iter().map(|tool: &Tool| tool.name.as_str()).collect();
    for request in &requests {
        let missing = request.relevant.iter().find(|name| !listed.contains(name.as_str()));
        ensure!(
            missing.is_none() && !request.relevant.is_empty(),
            "{}: {missing:?} is no tool",
            request.text
        );
    }
    Ok(LabelledSet { name: "Catalogues".to_owned(), tools, requests })
}

#[derive(Deserialize)]
struct CustomSet {
    tools: Vec<Value>,
    requests: Vec<CustomRequest>,
}

#[derive(Deserialize)]
struct CustomRequest {
    text: String,
    tools: BTreeSet<String>,
}

/// Reads a custom set: `{"tools": [definitions], "requests": [{"text": …, "tools": [names]}]}`.
pub(crate) fn custom_set(file: &Path) -> anyhow::Result<LabelledSet> {
    let set: CustomSet = read_json(file)?;
    let definition = |one: &Value| {
        let name = one["name"].as_str().context("a tool without a name")?;
        tool(name, one["description"].as_str(), &one["inputSchema"], one["title"].as_str())
    };
    Ok(LabelledSet {
        name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        tools: set.tools.iter().map(definition).collect::<anyhow::Result<_>>()?,
        requests: set
            .requests
            .into_iter()
            .map(|request| Request { text: request.text, relevant: request.tools })
            .collect(),
    })
}

/// Reads a whole JSON file.
pub(crate) fn read_json<T: for<'a> Deserialize<'a>>(file: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// Builds a tool as the gateway would list it.
pub(crate) fn tool(
    name: &str,
    description: Option<&str>,
    schema: &Value,
    title: Option<&str>,
) -> anyhow::Result<Tool> {
    let mut definition = serde_json::Map::new();
    definition.insert("name".to_owned(), name.into());
    definition.extend(title.map(|title| ("title".to_owned(), title.into())));
    definition.extend(description.map(|description| ("description".to_owned(), description.into())));
    definition.insert("inputSchema".to_owned(), schema.clone());
    Ok(Tool {
        contested_name: None,
        name: ToolName::from(name),
        target: RoutingTarget { backend: BackendId::from("bench"), name: BackendToolName::from(name) },
        description: description.map(str::to_owned),
        hints: ToolHints::default(),
        definition: Arc::new(Json::encode(&definition)?.members()?),
        overrides: ToolOverride::default(),
    })
}
