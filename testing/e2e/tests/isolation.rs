//! Isolation of two users at a server with state, the official server-everything: no data of one user reaches
//! the other.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::servers::{everything_over_http, npm};

const ANN: &str = "vmcp_YW5uLWFubi1hbm4tYW5uLWFubi1hbm4tYW5uLWFubi1h";
const BOB: &str = "vmcp_Ym9iLWJvYi1ib2ItYm9iLWJvYi1ib2ItYm9iLWJvYi1i";

/// A gateway that distinguishes two users by their API keys.
fn gateway(backend: Backend) -> anyhow::Result<Gateway> {
    let key =
        |name: &str, key: &str| format!("{{name: {name}, hash: \"{}\"}}", vmcp_identity::hash_api_key(key));
    let keys = [key("ann", ANN), key("bob", BOB)].join(", ");
    let incoming = format!("incomingAuth: {{type: apiKey, apiKeys: [{keys}]}}\n");
    let text = config(NamePolicy::Unchanged, &[backend], "");
    Gateway::start(&text.replace("incomingAuth: {type: anonymous}\n", &incoming))
}

fn read(client: &mut HttpClient, uri: &str) -> anyhow::Result<Value> {
    let answer = client.ask("resources/read", json!({"uri": uri}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

#[test]
fn what_one_user_stores_at_a_server_with_sessions_another_cannot_read() -> anyhow::Result<()> {
    const URI: &str = "demo://resource/session/ann-secret.txt.gz";
    let (_server, url) = everything_over_http()?;
    let gateway = gateway(Backend::http("everything", &url))?;
    let mut ann = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Sessions, ANN)?;
    let stored = json!({"name": "ann-secret.txt.gz", "data": "data:text/plain;base64,c2VjcmV0", "outputType": "resourceLink"});
    ann.call("gzip-file-as-resource", stored).context("ann stores")?;
    for family in ProtocolFamily::ALL {
        let mut bob = HttpClient::open_with_token(&gateway.url, family, BOB)?;
        let answer = read(&mut bob, URI)?;
        ensure!(answer["result"]["contents"].is_null(), "bob reads {answer}");
        let list = bob.ask("resources/list", json!({}))?.text;
        ensure!(!list.contains("ann-secret"), "bob's list has it");
    }
    // Ann can read it in both protocol families, because her calls share one session at the server.
    for family in ProtocolFamily::ALL {
        let mut ann = HttpClient::open_with_token(&gateway.url, family, ANN)?;
        let answer = read(&mut ann, URI)?;
        ensure!(answer["result"]["contents"][0]["blob"].is_string(), "ann reads {answer}");
    }
    Ok(())
}

/// Ann, who has declared no capabilities, makes the server ask while bob, who has declared all, has a call in
/// flight.
fn questions_reach_nobody_else(more: &str, asked: bool) -> anyhow::Result<()> {
    let mut command = npm("everything")?;
    command.arg("stdio");
    let gateway = gateway(Backend::stdio("everything", &command).with(more))?;
    let offers = json!({"elicitation": {}, "sampling": {}});
    let mut bob = HttpClient::open_with_capabilities_and_token(
        &gateway.url,
        ProtocolFamily::Sessions,
        offers.clone(),
        BOB,
    )?;
    let arguments = json!({"duration": 3, "steps": 1});
    let mut stream = bob.send_request(
        "tools/call",
        json!({"name": "trigger-long-running-operation", "arguments": arguments}),
    )?;
    for (tool, arguments) in [
        ("trigger-sampling-request", json!({"prompt": "ANNS SECRET", "maxTokens": 10})),
        ("trigger-elicitation-request", json!({})),
    ] {
        let mut ann = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Sessions, ANN)?;
        let answer = ann.ask("tools/call", json!({"name": tool, "arguments": arguments}))?;
        ensure!(!answer.text.contains("BOB"), "{}", answer.text);
    }
    let mut said = String::new();
    while let Some(message) = stream.next_message()? {
        said.push_str(&message);
        if message.contains("\"result\"") {
            break;
        }
    }
    for word in ["ANNS SECRET", "sampling/createMessage", "elicitation/create"] {
        ensure!(!said.contains(word), "bob's stream has {word}: {said}");
    }
    // A user who has declared the capability receives the question when no other user has a call in flight.
    let mut ann =
        HttpClient::open_with_capabilities_and_token(&gateway.url, ProtocolFamily::Sessions, offers, ANN)?;
    let answer = ann.ask("tools/call", json!({"name": "trigger-elicitation-request", "arguments": {}}))?;
    ensure!(answer.text.contains("-32603") != asked, "ann's form: {}", answer.text);
    Ok(())
}

#[test]
fn questions_about_one_users_call_reach_no_other_user_of_a_shared_process() -> anyhow::Result<()> {
    questions_reach_nobody_else("isolation: shared", true)
}

#[test]
fn questions_reach_their_own_user_where_each_has_a_process() -> anyhow::Result<()> {
    questions_reach_nobody_else("isolation: perCaller", true)
}
