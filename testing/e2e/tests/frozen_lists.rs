//! Lists that keep a prompt cache: equal bytes as long as nothing changed, and one list for the life of a session.

use anyhow::ensure;
use serde_json::json;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, names, text_of};
use vmcp_e2e::process::fixture;
use vmcp_e2e::wait;

/// A gateway in front of one server that can add tools.
fn start(freeze: &str, extra: &str) -> anyhow::Result<Gateway> {
    let text = config(NamePolicy::Prefixed, &[Backend::stdio("lab", &fixture(&["echo"])?)], extra);
    Gateway::start(&text.replace("aggregation: {", &format!("aggregation: {{freezeLists: {freeze}, ")))
}

fn lists(client: &mut HttpClient) -> anyhow::Result<Vec<String>> {
    Ok(names(&client.list_tools()?).iter().map(ToString::to_string).collect())
}

#[test]
fn a_session_keeps_its_first_list_and_reaches_new_tools() -> anyhow::Result<()> {
    let gateway = start("session", "")?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    let before = lists(&mut client)?;
    ensure!(!before.iter().any(|name| name == "lab_grown_0"), "{before:?}");
    client.call("lab_grow", json!({}))?;
    let mut other = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    wait::until("a new session lists the new tool", || {
        other = HttpClient::open(&gateway.url, ProtocolFamily::Sessions).ok()?;
        lists(&mut other).ok()?.iter().any(|name| name == "lab_grown_0").then_some(())
    })?;
    ensure!(lists(&mut client)? == before, "the session's list stays as it was");
    ensure!(text_of(&client.call("lab_grown_0", json!({}))?) == "grown_0", "a new tool can be called");
    let mut stateless = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    ensure!(lists(&mut stateless)?.len() == before.len() + 1, "without a session the list is that of now");
    Ok(())
}

#[test]
fn a_list_has_equal_bytes_while_nothing_changes() -> anyhow::Result<()> {
    let mut texts: Vec<String> = Vec::new();
    for _ in 0..2 {
        // Two gateways are two replicas.
        let gateway = start("never", "")?;
        for _reconnected in 0..2 {
            let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
            texts.push(client.ask("tools/list", json!({}))?.text);
        }
    }
    ensure!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:#?}");
    Ok(())
}

#[test]
fn a_kept_list_is_limited_like_any_other() -> anyhow::Result<()> {
    let limits = "rateLimiting: {methods: {tools/list: {shared: {maxTokens: 2, refillPeriod: 1000h}}}}\n";
    let gateway = start("session", limits)?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    ensure!(lists(&mut client)? == lists(&mut client)?);
    let refused = client.ask("tools/list", json!({}))?;
    ensure!(refused.text.contains("Rate limit exceeded"), "{}", refused.text);
    Ok(())
}
