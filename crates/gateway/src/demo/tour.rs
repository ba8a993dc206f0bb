//! The guided tour that the demo prints. Every line about a tool comes from an answer of the running
//! endpoint.

use std::io::Write;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use vmcp::RunningGateway;

/// Shows the servers, the merged list, the resolved name conflict, calls through both backends and a limit.
pub(crate) async fn run(
    out: &mut impl Write,
    endpoint: &str,
    gateway: &RunningGateway,
) -> anyhow::Result<()> {
    writeln!(out, "vmcp {} demo: two MCP servers behind one endpoint\n", env!("CARGO_PKG_VERSION"))?;
    gateway.federation.wait_for_discovery().await;
    writeln!(out, "1. The servers (GET /status shows this at any time)")?;
    for report in gateway.federation.reports() {
        let protocol = report.status.protocol.map_or("unknown", vmcp_domain::ProtocolVersion::as_str);
        writeln!(
            out,
            "   {:<9} {:<16} MCP {protocol}  {}, {} tools",
            report.id.as_str(),
            report.status.transport,
            report.status.state.as_str(),
            report.tool_count
        )?;
    }
    writeln!(out, "\n2. One list for clients (tools/list at {endpoint})")?;
    let listed = request_result(endpoint, "tools/list", None, json!({})).await?;
    let tools = listed["tools"].as_array().context("the list has no tools")?;
    for tool in tools {
        writeln!(
            out,
            "   {:<16} {}",
            tool["name"].as_str().unwrap_or_default(),
            tool["description"].as_str().unwrap_or_default()
        )?;
    }
    writeln!(out, "   Both servers offer `search`, so that name, and only that one, got a prefix.")?;
    writeln!(out, "\n3. A call through each")?;
    for (tool, arguments) in [
        ("add_note", json!({"text": "limits belong to the tool that really runs"})),
        ("notes_search", json!({"query": "really runs"})),
        ("glossary_search", json!({"query": "question to the user"})),
        ("define", json!({"word": "gateway"})),
    ] {
        let result =
            request_result(endpoint, "tools/call", Some(tool), json!({"name": tool, "arguments": arguments}))
                .await?;
        let text = result["content"][0]["text"].as_str().context("the result has no text")?;
        writeln!(out, "   {tool} {arguments}\n      -> {text}")?;
    }
    show_limit(out, endpoint).await
}

/// Calls a limited tool until the limit refuses a call.
async fn show_limit(out: &mut impl Write, endpoint: &str) -> anyhow::Result<()> {
    writeln!(out, "\n4. A limit: `define` may be called twice a minute")?;
    for word in ["tool", "sampling"] {
        let params = json!({"name": "define", "arguments": {"word": word}});
        let answer = send_request(endpoint, "tools/call", Some("define"), params).await?;
        match answer.get("result") {
            Some(result) => {
                writeln!(
                    out,
                    "   define {word}\n      -> {}",
                    result["content"][0]["text"].as_str().unwrap_or_default()
                )?;
            }
            None => {
                let error = &answer["error"];
                writeln!(
                    out,
                    "   define {word}\n      -> {} {}",
                    error["code"],
                    error["message"].as_str().unwrap_or_default()
                )?;
                writeln!(out, "         {}", error["data"])?;
            }
        }
    }
    Ok(())
}

/// Prints how to connect, in the formats of two popular clients.
pub(crate) fn print_clients(out: &mut impl Write, endpoint: &str) -> anyhow::Result<()> {
    writeln!(out, "\nServing {endpoint} until Ctrl-C. Connect a client:\n")?;
    writeln!(out, "   Claude Code:  claude mcp add --transport http vmcp-demo {endpoint}\n")?;
    writeln!(out, "   VS Code (.vscode/mcp.json):")?;
    let snippet = json!({"servers": {"vmcp-demo": {"type": "http", "url": endpoint}}});
    writeln!(out, "   {snippet}\n")?;
    writeln!(
        out,
        "Your own servers: vmcp init > vmcp.yaml, or vmcp serve --mcp-json FILE with the file you have."
    )?;
    Ok(())
}

/// Sends one request and returns its result.
///
/// # Errors
/// If the endpoint answers with an error.
async fn request_result(
    endpoint: &str,
    method: &str,
    name: Option<&str>,
    params: Value,
) -> anyhow::Result<Value> {
    let answer = send_request(endpoint, method, name, params).await?;
    match answer.get("result") {
        Some(result) => Ok(result.clone()),
        None => bail!("the endpoint answered {}", answer["error"]),
    }
}

/// Sends one request of protocol version 2026-07-28, as any HTTP client can, and returns the whole answer.
async fn send_request(
    endpoint: &str,
    method: &str,
    name: Option<&str>,
    mut params: Value,
) -> anyhow::Result<Value> {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "vmcp-demo-tour", "version": env!("CARGO_PKG_VERSION")},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let mut request = Request::post(endpoint)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    if let Some(name) = name {
        request = request.header("mcp-name", name);
    }
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request.body(Full::new(Bytes::from(body)))?).await?;
    let bytes = response.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&bytes).context("the endpoint did not answer with JSON")
}
