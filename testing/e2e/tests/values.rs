//! Limits by the values of calls, and a reserved share of a bucket, in memory and with two replicas on Redis.

use std::process::Command;

use anyhow::ensure;
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::{binary, fixture};
use vmcp_e2e::redis::Redis;

fn key(name: &str) -> String {
    format!("vmcp_{name:x<43}")
}

fn configured(store: &str) -> anyhow::Result<String> {
    let entry =
        |name: &str| format!("{{name: {name}, hash: \"{}\"}}", vmcp_identity::hash_api_key(&key(name)));
    let keys = ["ada", "bob", "oncall"].map(entry).join(", ");
    let incoming = format!("incomingAuth: {{type: apiKey, apiKeys: [{keys}]}}\n");
    let limits = format!(
        "rateLimiting:\n  tools:\n    - name: echo\n      perValue:\n        \
         - {{argument: text, maxTokens: 3, refillPeriod: 1000h}}\n    - name: whoami\n      \
         shared: {{maxTokens: 5, refillPeriod: 1000h, reserved: {{percent: 40, for: [{{apiKey: oncall}}]}}}}\n    \
         - name: sleep\n      perValue:\n        \
         - {{argument: ms, values: [7], maxTokens: 2, refillPeriod: 1000h}}\n{store}"
    );
    let text = config(NamePolicy::Unchanged, &[Backend::stdio("echo", &fixture(&["echo"])?)], &limits);
    Ok(text.replace("incomingAuth: {type: anonymous}\n", &incoming))
}

/// How many of eight calls are admitted, and the last answer.
fn count_passed(
    gateway: &Gateway,
    name: &str,
    tool: &str,
    arguments: &Value,
) -> anyhow::Result<(usize, String)> {
    let mut client = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Sessions, &key(name))?;
    let (mut count, mut last) = (0, String::new());
    for _ in 0..8 {
        let answer = client.ask("tools/call", json!({"name": tool, "arguments": arguments}))?;
        let message: Value = serde_json::from_str(&answer.text)?;
        count += usize::from(message["result"].is_object() && message["result"]["isError"] != true);
        last = answer.text;
    }
    Ok((count, last))
}

/// Checks the admitted calls at the first gateway, and that the second gateway then admits none.
fn check(first: &Gateway, second: Option<&Gateway>) -> anyhow::Result<()> {
    let (x, y) = (json!({"text": "x"}), json!({"text": "y"}));
    let seven = json!({"ms": 7});
    let cases = [
        ("ada", "echo", &x, 3, "perValue[argument text]"),
        ("ada", "echo", &y, 3, "perValue[argument text]"),
        ("bob", "echo", &x, 3, "perValue[argument text]"),
        ("ada", "sleep", &seven, 2, "perValue[argument ms]"),
        ("bob", "sleep", &seven, 0, "perValue[argument ms]"),
        ("bob", "sleep", &json!({"ms": 8}), 2, "perValue[argument ms]"),
        ("ada", "whoami", &json!({}), 3, "shared.unreserved"),
        ("bob", "whoami", &json!({}), 0, "shared.unreserved"),
        ("oncall", "whoami", &json!({}), 2, "tools[whoami].shared"),
    ];
    for (name, tool, arguments, expected, rule) in cases {
        let (count, last) = count_passed(first, name, tool, arguments)?;
        ensure!(count == expected && last.contains(rule), "{name} {tool} {arguments}: {count}: {last}");
        if let Some(second) = second {
            let (count, last) = count_passed(second, name, tool, arguments)?;
            ensure!(count == 0, "the other replica, {name} {tool} {arguments}: {count}: {last}");
        }
    }
    Ok(())
}

#[test]
fn calls_are_told_apart_by_what_they_say() -> anyhow::Result<()> {
    check(&Gateway::start(&configured("")?)?, None)
}

#[test]
fn replicas_tell_them_apart_together() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    let text = configured(&format!("  redis: {{url: \"{}\"}}\n", redis.url()))?;
    let (first, second) = (Gateway::start(&text)?, Gateway::start(&text)?);
    check(&first, Some(&second))?;
    // A key's name must not contain the value of an argument.
    let keys = redis.keys()?;
    ensure!(keys.iter().any(|key| key.contains("argument-user-tool")), "{keys:?}");
    Ok(())
}

#[test]
fn an_operator_reads_them() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, configured("")?)?;
    let said = Command::new(binary("vmcp")?).args(["limits", "explain", "--config"]).arg(&file).output()?;
    let said = String::from_utf8(said.stdout)?;
    for line in [
        "tools[echo].perValue[argument text]",
        "3 in 3600000s for each value of each caller",
        "tools[sleep].perValue[argument ms]",
        "2 in 3600000s for each listed value, and for all others together",
        "tools[whoami].shared.unreserved",
        "but subject oncall of vmcp:api-key: not limited",
    ] {
        ensure!(said.contains(line), "no `{line}` in\n{said}");
    }
    Ok(())
}
