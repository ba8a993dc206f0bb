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
    for era in ProtocolFamily::ALL {
        let word = if era == ProtocolFamily::Sessions { "old" } else { "new" };
        let words = ["echo", "--era", era.version()];
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
fn open_change_stream(client: &mut HttpClient, era: ProtocolFamily) -> anyhow::Result<MessageStream> {
    if era == ProtocolFamily::Sessions {
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
    for era in ProtocolFamily::ALL {
        for prefix in &prefixes {
            let mut client = HttpClient::open(&gateway.url, era)?;
            let mut stream = open_change_stream(&mut client, era)?;
            // A second client causes the change, so that the first receives a notification that it did not
            // cause.
            HttpClient::open(&gateway.url, era)?.call(&format!("{prefix}_grow"), json!({}))?;
            let heard = expect_tools_changed(&mut stream);
            heard.with_context(|| format!("{era:?}, {prefix}; {}", gateway.process.output()))?;
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
