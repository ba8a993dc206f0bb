//! A backend whose list of tools changes: clients of both protocol families receive a notification and can
//! call the new tool, for every transport and protocol family of the backend.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::http::MessageStream;
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, names, text_of};
use vmcp_e2e::process::{Process, fixture};
use vmcp_e2e::wait;

/// The backends, and the processes of those that the gateway does not start.
fn backends() -> anyhow::Result<(Vec<Backend>, Vec<Process>)> {
    let mut backends = Vec::new();
    let mut running = Vec::new();
    for family in ProtocolFamily::ALL {
        let word = if family == ProtocolFamily::Sessions { "old" } else { "new" };
        let words = ["echo", "--protocol", family.version()];
        backends.push(Backend::stdio(format!("{word}-child"), &fixture(&words)?));
        let mut process = Process::start(fixture(&words)?.args(["--transport", "http"]))?;
        backends.push(Backend::http(format!("{word}-remote"), process.wait_for_url()?));
        running.push(process);
    }
    let mut process = Process::start(&mut fixture(&["echo", "--transport", "sse"])?)?;
    backends.push(Backend::sse("sse", process.wait_for_url()?));
    running.push(process);
    Ok((backends, running))
}

/// Opens the stream on which a client receives notifications of changes.
fn open_change_stream(client: &mut HttpClient, family: ProtocolFamily) -> anyhow::Result<MessageStream> {
    if family == ProtocolFamily::Sessions {
        return client.listen();
    }
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut stream = client.send_request("subscriptions/listen", filter)?;
    let first = stream.next_message()?.context("a subscription begins with its acknowledgement")?;
    ensure!(first.contains("notifications/subscriptions/acknowledged"), "{first}");
    Ok(stream)
}

fn expect_tools_changed(stream: &mut MessageStream) -> anyhow::Result<()> {
    loop {
        let message = stream.next_message()?.context("the stream ends before the change is told")?;
        let message: Value = serde_json::from_str(&message)?;
        if message["method"] == "notifications/tools/list_changed" {
            return Ok(());
        }
    }
}

#[test]
fn clients_of_both_versions_are_told_of_new_tools_and_can_call_them() -> anyhow::Result<()> {
    let (backends, _running) = backends()?;
    let prefixes: Vec<String> = backends.iter().map(|backend| backend.name.clone()).collect();
    let gateway = Gateway::start(&config(NamePolicy::Prefixed, &backends, ""))?;
    let mut grown: BTreeMap<String, usize> = BTreeMap::new();
    for family in ProtocolFamily::ALL {
        for prefix in &prefixes {
            let mut client = HttpClient::open(&gateway.url, family)?;
            let mut stream = open_change_stream(&mut client, family)?;
            // A second client causes the change, so that the first receives a notification that it did not
            // cause.
            HttpClient::open(&gateway.url, family)?.call(&format!("{prefix}_grow"), json!({}))?;
            let heard = expect_tools_changed(&mut stream);
            heard.with_context(|| format!("{family:?}, {prefix}; {}", gateway.process.output()))?;
            let number = grown.entry(prefix.clone()).or_default();
            let tool = format!("{prefix}_grown_{number}");
            *number += 1;
            wait::until(&format!("{tool} is listed"), || {
                names(&client.list_tools().ok()?).contains(&tool).then_some(())
            })?;
            let answer = text_of(&client.call(&tool, json!({}))?);
            ensure!(tool.ends_with(&answer), "{tool} answers {answer}");
        }
    }
    Ok(())
}

/// Two backends that each offer one more tool, `grown_0`, after a call of their tool `grow`.
fn growing_backends() -> anyhow::Result<[Backend; 2]> {
    Ok([Backend::stdio("first", &fixture(&["echo"])?), Backend::stdio("second", &fixture(&["echo"])?)])
}

fn wait_for_tool(client: &mut HttpClient, name: &str) -> anyhow::Result<()> {
    wait::until(&format!("{name} is listed"), || {
        names(&client.list_tools().ok()?).contains(&name.to_owned()).then_some(())
    })
}

/// Whether a call is refused, as an error or as a result with `isError`.
fn is_refused(client: &mut HttpClient, tool: &str) -> bool {
    client.call(tool, json!({})).map_or(true, |result| result["isError"] == true)
}

#[test]
fn a_limit_holds_for_a_tool_that_gets_a_prefix_later() -> anyhow::Result<()> {
    let limit = "rateLimiting: {tools: [{name: grown_0, shared: {maxTokens: 2, refillPeriod: 1h}}]}\n";
    let gateway = Gateway::start(&config(NamePolicy::Unchanged, &growing_backends()?, limit))?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    client.call("first_grow", json!({}))?;
    wait_for_tool(&mut client, "grown_0")?;
    ensure!(!is_refused(&mut client, "grown_0"), "grown_0 is refused too early");
    client.call("second_grow", json!({}))?;
    wait_for_tool(&mut client, "second_grown_0")?;
    // The tool pays from the bucket from which it paid under its former name. The other tool has its own.
    ensure!(!is_refused(&mut client, "first_grown_0"), "first_grown_0 is refused too early");
    ensure!(is_refused(&mut client, "first_grown_0"), "the limit is gone");
    ensure!(!is_refused(&mut client, "second_grown_0"), "second_grown_0 is refused too early");
    ensure!(!is_refused(&mut client, "second_grown_0"), "second_grown_0 is refused too early");
    ensure!(is_refused(&mut client, "second_grown_0"), "the other tool has no limit");
    Ok(())
}

#[test]
fn a_prohibition_holds_for_a_tool_that_gets_a_prefix_later() -> anyhow::Result<()> {
    let policies = "incomingAuth:\n  type: anonymous\n  authz:\n    type: cedar\n    policies:\n      \
                    - permit(principal, action, resource);\n      \
                    - forbid(principal, action, resource == Tool::\"grown_0\");\n";
    let text = config(NamePolicy::Unchanged, &growing_backends()?, "");
    let gateway = Gateway::start(&text.replace("incomingAuth: {type: anonymous}\n", policies))?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    for tool in ["first_grow", "first_grow", "second_grow", "second_grow"] {
        client.call(tool, json!({}))?;
    }
    // Once the second new tools clash, so do the first ones.
    wait_for_tool(&mut client, "second_grown_1")?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let listed = names(&client.list_tools()?);
        for name in ["grown_0", "first_grown_0", "second_grown_0"] {
            ensure!(!listed.contains(&name.to_owned()), "{family:?}: {name} is listed");
            ensure!(is_refused(&mut client, name), "{family:?}: {name} can be called");
        }
    }
    Ok(())
}
