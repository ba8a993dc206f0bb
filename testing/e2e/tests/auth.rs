//! Authentication and authorization at the real gateway: tokens of a third-party identity provider, API keys,
//! Cedar policies, and limits per user. In both protocol families, and through `call_tool`.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::http;
use vmcp_e2e::identity::{Format, IdentityProvider};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, names, refusal_code};
use vmcp_e2e::process::fixture;

const RESOURCE: &str = "http://127.0.0.1:4483/mcp";
/// A key in the format of `vmcp auth new-key`.
const KEY: &str = "vmcp_Y3JhbmtzLWFuZC1nZWFycy1vZi10aGUtZW5naW5lLTE";

fn configured(provider: &IdentityProvider, authz: &str, extra: &str) -> anyhow::Result<String> {
    let backend = Backend::stdio("lab", &fixture(&["echo"])?);
    let text = config(NamePolicy::Prefixed, &[backend], extra);
    let incoming = format!(
        "incomingAuth:\n  type: oidc\n  oidc: {{issuer: \"{}\", audience: \"{RESOURCE}\", resource: \"{RESOURCE}\", scopes: [mcp], \
         protectedResourceAllowPrivateIp: true}}\n  apiKeys: [{{name: alice, hash: \"{}\"}}]\n{authz}",
        provider.issuer,
        vmcp_identity::hash_api_key(KEY),
    );
    Ok(text.replace("incomingAuth: {type: anonymous}\n", &incoming))
}

fn call(client: &mut HttpClient, tool: &str, arguments: Value) -> anyhow::Result<Value> {
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": arguments}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

/// The outcome of a call: `ok`, `failed`, or the code of the error.
fn outcome(answer: &Value) -> String {
    match refusal_code(answer) {
        Some(code) => code.to_string(),
        None if answer["result"]["isError"] == true => "failed".to_owned(),
        None => "ok".to_owned(),
    }
}

#[test]
fn limits_tell_users_apart_by_issuer_and_subject() -> anyhow::Result<()> {
    let provider = IdentityProvider::start()?;
    let limits = "rateLimiting: {perUser: {maxTokens: 2, refillPeriod: 1000h}}\n";
    let gateway = Gateway::start(&configured(&provider, "", limits)?)?;
    let mut spent = Vec::new();
    // The API key has the subject `alice` too, but another issuer.
    let alice = provider.user_token(Format::Signed, "alice", RESOURCE)?;
    let bob = provider.user_token(Format::Signed, "bob", RESOURCE)?;
    for (who, token) in [("alice", &*alice), ("bob", &bob), ("the machine alice", KEY)] {
        let mut ended = Vec::new();
        for family in [
            ProtocolFamily::Sessions,
            ProtocolFamily::Stateless,
            ProtocolFamily::Sessions,
            ProtocolFamily::Stateless,
        ] {
            let mut client = HttpClient::open_with_token(&gateway.url, family, token)?;
            ended.push(outcome(&call(&mut client, "lab_echo", json!({"text": "x"}))?));
        }
        spent.push((who, ended));
    }
    for (who, ended) in spent {
        ensure!(ended == ["ok", "ok", "429", "429"], "{who}, two calls in either protocol family: {ended:?}");
    }
    let said = gateway.process.output();
    for secret in [&*alice, &bob, KEY] {
        ensure!(!said.contains(secret), "a credential is in the log");
    }
    Ok(())
}

const POLICIES: &str = r#"  authz:
    type: cedar
    groupClaimName: groups
    policies:
      - 'permit(principal == Client::"alice", action == Action::"call_tool", resource == Tool::"lab_echo");'
      - 'permit(principal in THVGroup::"staff", action == Action::"call_tool", resource) when { resource.name == "lab_whoami" || resource.name == "lab_echo" };'
      - 'forbid(principal, action == Action::"call_tool", resource == Tool::"lab_echo") when { context has arg_text && context.arg_text == "secret" };'
"#;

/// Expected decisions by caller and tool: the listed tools, and the outcome of calls, direct and through
/// `call_tool`.
const TABLE: &str = "\
alice lists lab_echo
alice lab_echo ok ok
alice lab_echo(secret) -32602 -32602
alice lab_whoami -32602 -32602
alice lab_gone -32602 -32602
bob lists lab_echo lab_whoami
bob lab_echo ok ok
bob lab_echo(secret) -32602 -32602
bob lab_whoami ok ok
bob lab_gone -32602 -32602
carol lists nothing
carol lab_echo -32602 -32602
carol lab_echo(secret) -32602 -32602
carol lab_whoami -32602 -32602
carol lab_gone -32602 -32602
";

#[test]
fn policies_decide_who_sees_and_calls_what_on_every_route() -> anyhow::Result<()> {
    let provider = IdentityProvider::start()?;
    let optimizer = "optimizer: {embeddingProvider: none}\n";
    let plain = Gateway::start(&configured(&provider, POLICIES, "")?)?;
    let searched = Gateway::start(&configured(&provider, POLICIES, optimizer)?)?;
    let token = |who: &str, groups: Value| {
        provider.token(
            Format::Signed,
            json!({"sub": who, "resource": RESOURCE, "scope": "mcp", "claims": {"groups": groups}}),
        )
    };
    let callers = [
        ("alice", token("alice", json!([]))?),
        ("bob", token("bob", json!(["staff"]))?),
        ("carol", token("carol", json!(["guests"]))?),
    ];
    for family in ProtocolFamily::ALL {
        let mut table = String::new();
        for (who, token) in &callers {
            let mut client = HttpClient::open_with_token(&plain.url, family, token)?;
            let mut by_name = HttpClient::open_with_token(&searched.url, family, token)?;
            let listed = names(&client.list_tools()?);
            let shown = if listed.is_empty() { "nothing".to_owned() } else { listed.join(" ") };
            table += &format!("{who} lists {shown}\n");
            let found = by_name.call(
                "find_tool",
                json!({"tool_description": "echo a text, id of this instance, crash, grow, sleep"}),
            )?;
            let mut found = names(found["structuredContent"]["tools"].as_array().context("tools")?);
            found.sort();
            ensure!(found == listed, "{who} finds what {who} may list: {found:?}");
            for (tool, text) in
                [("lab_echo", "x"), ("lab_echo", "secret"), ("lab_whoami", "x"), ("lab_gone", "x")]
            {
                let arguments = json!({"text": text});
                let direct = outcome(&call(&mut client, tool, arguments.clone())?);
                let named = json!({"tool_name": tool, "parameters": arguments});
                let through = outcome(&call(&mut by_name, "call_tool", named)?);
                let note = if text == "secret" { "(secret)" } else { "" };
                table += &format!("{who} {tool}{note} {direct} {through}\n");
            }
        }
        ensure!(table == TABLE, "{family:?}:\n{table}");
    }
    Ok(())
}

#[test]
fn who_presents_nothing_good_is_told_where_to_go() -> anyhow::Result<()> {
    let provider = IdentityProvider::start()?;
    let gateway = Gateway::start(&configured(&provider, "", "")?)?;
    let elsewhere = provider.user_token(Format::Signed, "alice", "http://127.0.0.1:1/mcp")?;
    let narrow =
        provider.token(Format::Signed, json!({"sub": "alice", "resource": RESOURCE, "scope": "tools"}))?;
    for (credential, status, code) in [
        (None, 401, "invalid_request"),
        (Some(format!("Bearer {elsewhere}")), 401, "invalid_token"),
        (Some(format!("Bearer {narrow}")), 403, "insufficient_scope"),
        (Some("Bearer vmcp_nobody".to_owned()), 401, "invalid_token"),
        (Some("Basic YTpi".to_owned()), 401, "invalid_request"),
    ] {
        let headers: Vec<(&str, &str)> =
            credential.iter().map(|value| ("Authorization", value.as_str())).collect();
        let response = http::send("POST", &gateway.url, &headers, b"{}")?;
        ensure!(response.status == status, "{credential:?}: {}", response.status);
        let challenge = response.header("www-authenticate").context("a challenge")?.to_owned();
        ensure!(challenge.contains(&format!("error=\"{code}\"")), "{challenge}");
        ensure!(challenge.contains("resource_metadata=\""), "{challenge}");
    }
    let page = http::get(&gateway.url.replace("/mcp", "/metrics"), &[])?.text()?;
    for (outcome, count) in [("missing", 1), ("audience", 1), ("scope", 1), ("malformed", 1)] {
        let line = format!("vmcp_authentications_total{{outcome=\"{outcome}\"}} {count}");
        ensure!(page.contains(&line), "no {line} in {page}");
    }
    let metadata = gateway.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
    let document: Value = serde_json::from_str(&http::get(&metadata, &[])?.text()?)?;
    ensure!(document["authorization_servers"] == json!([provider.issuer]), "{document}");
    ensure!(document["resource"] == RESOURCE, "{document}");
    Ok(())
}
