//! What the suite starts in its client scenarios: the gateway in front of the suite's server, and a plain
//! client in front of the gateway that uses everything that the gateway offers. The suite judges the requests
//! that reach its server, which the gateway has sent.

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};

/// Runs one scenario against the suite's server at `url`.
///
/// The plain client always speaks a version with sessions, whichever version the suite's server speaks.
/// Judged is how the gateway itself asks, retries and mirrors headers, not what it relays.
pub(crate) fn run(url: &str) -> anyhow::Result<()> {
    let gateway = Gateway::start(&config(NamePolicy::Unchanged, &[Backend::http("suite", url)], ""))?;
    let used = HttpClient::open_with_capabilities(
        &gateway.url,
        ProtocolFamily::Sessions,
        json!({"elicitation": {}}),
    )
    .and_then(|mut client| exercise_server(&mut client));
    used.with_context(|| format!("the gateway said:\n{}", gateway.process.output()))
}

fn exercise_server(client: &mut HttpClient) -> anyhow::Result<()> {
    let tools = client.list_tools()?;
    let scripted = scripted()?;
    for tool in &tools {
        let name = tool["name"].as_str().context("a tool has a name")?;
        let arguments = match scripted.get(name) {
            Some(arguments) => arguments.clone(),
            None => example(tool, &tools),
        };
        client.ask("tools/call", json!({"name": name, "arguments": arguments}))?;
    }
    // A server without resources or prompts may refuse these requests.
    for resource in list(client, "resources/list", "resources") {
        client.ask("resources/read", json!({"uri": resource["uri"]}))?;
    }
    for prompt in list(client, "prompts/list", "prompts") {
        client.ask("prompts/get", json!({"name": prompt["name"]}))?;
    }
    Ok(())
}

fn list(client: &mut HttpClient, method: &str, member: &str) -> Vec<Value> {
    let listed = client.request(method, json!({})).unwrap_or_default();
    listed[member].as_array().cloned().unwrap_or_default()
}

/// The calls that the suite prescribes, by tool.
fn scripted() -> anyhow::Result<Map<String, Value>> {
    let Some(context) = std::env::var_os("MCP_CONFORMANCE_CONTEXT") else { return Ok(Map::new()) };
    let context: Value = serde_json::from_str(&context.to_string_lossy())?;
    let calls = context["toolCalls"].as_array().cloned().unwrap_or_default();
    let named = calls
        .into_iter()
        .filter_map(|mut call| Some((call["name"].as_str()?.to_owned(), call["arguments"].take())));
    Ok(named.collect())
}

/// Generates arguments that match a tool's schema.
fn example(tool: &Value, all: &[Value]) -> Value {
    let fields = tool["inputSchema"]["properties"].as_object();
    let filled = fields.into_iter().flatten().map(|(name, field)| {
        let value = match field["type"].as_str() {
            Some("number" | "integer") => json!(2),
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            // The only tool that takes an object expects the schema of another tool as its value.
            Some("object") => {
                let other = all.iter().find(|other| other["inputSchema"].get("$defs").is_some());
                other.map_or_else(|| json!({}), |other| other["inputSchema"].clone())
            }
            _ => json!("text"),
        };
        (name.clone(), value)
    });
    Value::Object(filled.collect())
}
