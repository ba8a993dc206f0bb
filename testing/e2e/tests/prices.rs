//! Limits beyond counting calls, at the real gateway with a real Redis: prices by arguments, costs by
//! results, limits of teams, limits on methods, and the remaining tokens that callers are shown.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::identity::{Format, IdentityProvider};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, refusal_code};
use vmcp_e2e::process::fixture;
use vmcp_e2e::redis::Redis;
use vmcp_e2e::wait;

const RESOURCE: &str = "http://127.0.0.1:4483/mcp";
const OPTIMIZER: &str = "optimizer: {embeddingProvider: none}\n";

fn open(extra: &str) -> anyhow::Result<Gateway> {
    let backend = Backend::stdio("echo", &fixture(&["echo"])?);
    Gateway::start(&config(NamePolicy::Unchanged, &[backend], extra))
}

fn ask(client: &mut HttpClient, method: &str, params: Value) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&client.ask(method, params)?.text)?)
}

/// One call of the echo tool, directly or through `call_tool`.
fn echo(client: &mut HttpClient, text: &str, by_name: bool) -> anyhow::Result<Value> {
    let arguments = json!({"text": text});
    let params = if by_name {
        json!({"name": "call_tool", "arguments": {"tool_name": "echo", "parameters": arguments}})
    } else {
        json!({"name": "echo", "arguments": arguments})
    };
    ask(client, "tools/call", params)
}

fn left(answer: &Value) -> Option<u64> {
    answer["result"]["_meta"]["vmcp/limits"]["remaining"].as_u64()
}

#[test]
fn a_call_costs_what_it_asks_for_on_every_route_and_over_redis() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    for store in [String::new(), format!("  redis: {{url: \"{}\", deadline: 1s}}\n", redis.url())] {
        let limits = format!(
            "{OPTIMIZER}rateLimiting:\n  tools: [{{name: echo, cost: size(args.text), shared: {{maxTokens: 12, refillPeriod: \
             10000h}}}}]\n  hints: {{belowPercent: 100}}\n{store}"
        );
        let gateway = open(&limits)?;
        let mut told = Vec::new();
        for (family, by_name) in [
            (ProtocolFamily::Sessions, false),
            (ProtocolFamily::Stateless, false),
            (ProtocolFamily::Sessions, true),
            (ProtocolFamily::Stateless, true),
        ] {
            let mut client = HttpClient::open(&gateway.url, family)?;
            told.push(left(&echo(&mut client, "abc", by_name)?));
        }
        ensure!(told == [Some(9), Some(6), Some(3), Some(0)], "three tokens each: {told:?}");
        for family in ProtocolFamily::ALL {
            let mut client = HttpClient::open(&gateway.url, family)?;
            let refused = echo(&mut client, "a", false)?;
            ensure!(refusal_code(&refused) == Some(429), "{refused}");
            let unpriced = ask(&mut client, "tools/call", json!({"name": "echo", "arguments": {"text": 7}}))?;
            ensure!(refusal_code(&unpriced) == Some(-32602), "no price, no call: {unpriced}");
            let message = unpriced["error"]["message"].as_str().context("a message")?;
            ensure!(message.contains("price of this call of tool `echo`"), "{message}");
        }
    }
    Ok(())
}

/// The remaining tokens of the only limit, as the limits resource shows them.
fn remaining(client: &mut HttpClient) -> Option<u64> {
    let answer = client.request("resources/read", json!({"uri": "vmcp://limits"})).ok()?;
    let told: Value = serde_json::from_str(answer["contents"][0]["text"].as_str()?).ok()?;
    told["limits"][0]["remaining"].as_u64()
}

#[test]
fn a_call_is_settled_by_its_result() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    for store in [String::new(), format!("  redis: {{url: \"{}\", deadline: 1s}}\n", redis.url())] {
        // The text of the result equals the text of the call, so the call costs as many tokens as the text
        // has characters.
        let limits = format!(
            "rateLimiting:\n  tools: [{{name: echo, cost: 5, settle: 'size(result.content[0].text)', shared: {{maxTokens: 20, \
             refillPeriod: 10000h}}}}]\n  hints: {{belowPercent: 100, resource: true}}\n{store}"
        );
        let gateway = open(&limits)?;
        let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
        let mut told = Vec::new();
        // With Redis a call is settled after its answer was sent.
        for (text, settled) in [("a", 19), ("aaaaaaaaaa", 9), ("aaaaaaaaaaaa", 0)] {
            told.push(left(&echo(&mut client, text, false)?));
            wait::until("the call is settled", || remaining(&mut client).filter(|left| *left == settled))?;
        }
        // Each answer shows the remaining tokens before the settlement: 20 - 5, 19 - 5, 9 - 5.
        ensure!(told == [Some(15), Some(14), Some(4)], "{told:?}");
        let refused = echo(&mut client, "a", false)?;
        ensure!(refusal_code(&refused) == Some(429), "three are owed: {refused}");
    }
    Ok(())
}

#[test]
fn a_team_shares_its_limit_across_gateways() -> anyhow::Result<()> {
    let provider = IdentityProvider::start()?;
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    let backend = Backend::stdio("echo", &fixture(&["echo"])?);
    let limits = format!(
        "rateLimiting:\n  perClaim: [{{claim: team, maxTokens: 3, refillPeriod: 10000h}}]\n  redis: {{url: \"{}\", deadline: 1s}}\n",
        redis.url()
    );
    let incoming = format!(
        "incomingAuth:\n  type: oidc\n  oidc: {{issuer: \"{}\", audience: \"{RESOURCE}\", resource: \"{RESOURCE}\", scopes: [mcp], \
         protectedResourceAllowPrivateIp: true}}\n",
        provider.issuer,
    );
    let text = config(NamePolicy::Unchanged, &[backend], &limits)
        .replace("incomingAuth: {type: anonymous}\n", &incoming);
    let gateways = [Gateway::start(&text)?, Gateway::start(&text)?];
    let token = |who: &str, claims: Value| {
        let wanted = json!({"sub": who, "resource": RESOURCE, "scope": "mcp", "claims": claims});
        provider.token(Format::Signed, wanted)
    };
    let callers = [
        ("ann", json!({"team": "red"})),
        ("bob", json!({"team": "red"})),
        ("ann", json!({"team": "red"})),
        ("cid", json!({"team": "red"})),
        ("cid", json!({"team": "blue"})),
        ("dan", json!({})),
    ];
    let mut ended = Vec::new();
    for (number, (who, claims)) in callers.into_iter().enumerate() {
        let gateway = &gateways[number % 2];
        let family = ProtocolFamily::ALL[number / 2 % 2];
        let mut client = HttpClient::open_with_token(&gateway.url, family, &token(who, claims)?)?;
        let answer = echo(&mut client, "x", false)?;
        ended.push(refusal_code(&answer).unwrap_or(200));
    }
    ensure!(ended == [200, 200, 200, 429, 200, 403], "{ended:?}");
    let keys = redis.keys()?;
    ensure!(!keys.iter().any(|key| key.contains("red") || key.contains("ann")), "keys name nobody: {keys:?}");
    Ok(())
}

#[test]
fn methods_have_limits_and_a_resource_tells_what_is_left() -> anyhow::Result<()> {
    let limits = "rateLimiting:\n  anonymous: shared\n  perUser: {maxTokens: 10, refillPeriod: 10000h}\n  hints: {resource: true}\n  \
                  methods:\n    tools/list: {shared: {maxTokens: 2, refillPeriod: 10000h}}\n    resources/read: {shared: \
                  {maxTokens: 3, refillPeriod: 10000h}}\n";
    let gateway = open(&format!("{OPTIMIZER}{limits}"))?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        ask(&mut client, "tools/list", json!({}))?;
        echo(&mut client, "x", true)?;
        let list = ask(&mut client, "resources/list", json!({}))?;
        let resources = list["result"]["resources"].as_array().context("resources")?;
        ensure!(resources.iter().any(|resource| resource["uri"] == "vmcp://limits"), "{list}");
        let read = ask(&mut client, "resources/read", json!({"uri": "vmcp://limits"}))?;
        let text = read["result"]["contents"][0]["text"].as_str().with_context(|| read.to_string())?;
        let told: Value = serde_json::from_str(text)?;
        let expected = if family == ProtocolFamily::ALL[0] { 9 } else { 8 };
        ensure!(told["limits"][0]["rule"] == "perUser", "{told}");
        ensure!(told["limits"][0]["remaining"] == expected, "{told}");
    }
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let refused = ask(&mut client, "tools/list", json!({}))?;
        ensure!(refusal_code(&refused) == Some(429), "{refused}");
        ensure!(refused["error"]["data"]["rule"] == "methods[tools/list].shared", "{refused}");
        // Requests that the gateway itself makes are not counted.
        let answer = echo(&mut client, "x", true)?;
        ensure!(refusal_code(&answer).is_none(), "{answer}");
    }
    Ok(())
}
