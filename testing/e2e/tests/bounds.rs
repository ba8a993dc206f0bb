//! Bounds per caller: one caller's sessions, requests in flight and unread answers do not affect another
//! caller.

use anyhow::ensure;
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::fixture;

const EVE: &str = "vmcp_ZXZlLWV2ZS1ldmUtZXZlLWV2ZS1ldmUtZXZlLWV2ZS1l";
const ANN: &str = "vmcp_YW5uLWFubi1hbm4tYW5uLWFubi1hbm4tYW5uLWFubi1h";

fn gateway(bounds: &str) -> anyhow::Result<Gateway> {
    let key =
        |name: &str, key: &str| format!("{{name: {name}, hash: \"{}\"}}", vmcp_identity::hash_api_key(key));
    let keys = [key("eve", EVE), key("ann", ANN)].join(", ");
    let incoming =
        format!("incomingAuth: {{type: apiKey, apiKeys: [{keys}]}}\nlisten: {{bounds: {{{bounds}}}}}\n");
    let echo = Backend::stdio("echo", &fixture(&["echo"])?).with("isolation: shared");
    let text = config(NamePolicy::Unchanged, &[echo], "");
    Gateway::start(&text.replace("incomingAuth: {type: anonymous}\n", &incoming))
}

fn echo(client: &mut HttpClient, bytes: usize) -> anyhow::Result<(u16, Value)> {
    let arguments = json!({"text": "x".repeat(bytes)});
    let answer = client.ask("tools/call", json!({"name": "echo", "arguments": arguments}))?;
    Ok((answer.status, serde_json::from_str(&answer.text)?))
}

#[test]
fn one_callers_sessions_take_the_place_of_its_own() -> anyhow::Result<()> {
    let gateway = gateway("maxSessions: 100, maxSessionsPerCaller: 10")?;
    let mut of_ann = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Sessions, ANN)?;
    for _ in 0..150 {
        HttpClient::open_with_token(&gateway.url, ProtocolFamily::Sessions, EVE)?;
    }
    ensure!(echo(&mut of_ann, 1)?.0 == 200, "ann's session is still there");
    let mut later = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Sessions, ANN)?;
    ensure!(echo(&mut later, 1)?.0 == 200, "and ann opens another");
    Ok(())
}

#[test]
fn one_callers_requests_do_not_keep_another_waiting() -> anyhow::Result<()> {
    let gateway = gateway("maxRequests: 20, maxRequestsPerCaller: 5")?;
    let mut eve = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Stateless, EVE)?;
    let slow = json!({"name": "sleep", "arguments": {"ms": 4000}});
    let held =
        (0..5).map(|_| eve.start_request("tools/call", slow.clone())).collect::<anyhow::Result<Vec<_>>>()?;
    // The pause lets the first requests reach the gateway before the next one.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let (status, refused) = echo(&mut eve, 1)?;
    ensure!(status == 429, "{status} {refused}");
    let said = refused["error"]["message"].as_str().unwrap_or_default();
    ensure!(said.contains("too many requests of this caller"), "{refused}");
    let mut ann = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Stateless, ANN)?;
    ensure!(echo(&mut ann, 1)?.0 == 200, "ann is served");
    drop(held);
    vmcp_e2e::wait::until("eve is served again", || {
        echo(&mut eve, 1).ok().filter(|(status, _)| *status == 200)
    })?;
    Ok(())
}

#[test]
fn one_callers_unread_answers_do_not_take_anothers_room() -> anyhow::Result<()> {
    const LARGE: usize = 7 << 20;
    let gateway = gateway("maxAnswerBytes: 60000000, maxAnswerBytesPerCaller: 16000000")?;
    let mut eve = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Stateless, EVE)?;
    // The answer contains the text twice. What exceeds the system's socket buffers stays in the gateway.
    let arguments = json!({"text": "x".repeat(LARGE)});
    let unread = eve.start_request("tools/call", json!({"name": "echo", "arguments": arguments}))?;
    let dropped = vmcp_e2e::wait::until("another answer finds no room", || {
        echo(&mut eve, LARGE).ok().filter(|(status, _)| *status == 503)
    })?;
    let said = dropped.1["error"]["message"].as_str().unwrap_or_default().to_owned();
    ensure!(said.contains("the request was done, but its answer of"), "{said}");
    ensure!(echo(&mut eve, 10)?.0 == 200, "small answers need no room");
    let mut ann = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Stateless, ANN)?;
    ensure!(echo(&mut ann, LARGE)?.0 == 200, "ann has room of her own");
    drop(unread);
    vmcp_e2e::wait::until("room is given back", || {
        echo(&mut eve, LARGE).ok().filter(|(status, _)| *status == 200)
    })?;
    Ok(())
}
