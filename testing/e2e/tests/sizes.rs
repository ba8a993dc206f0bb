//! Limits that depend on the caller, in memory and in Redis: API keys, claims and groups have their own
//! sizes, one caller is blocked, and one is exempt. A caller whose claims change keeps the spent tokens.

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

/// A configuration with three API keys, and limits with the store in `store`.
fn configured(claims: &str, store: &str) -> anyhow::Result<String> {
    let entry = |name: &str, claims: &str| {
        format!("{{name: {name}, hash: \"{}\", claims: {claims}}}", vmcp_identity::hash_api_key(&key(name)))
    };
    let keys = [
        entry("ada", claims),
        entry("ci", "{}"),
        entry("bad", "{groups: [staff]}"),
        entry("bob", "{groups: [staff]}"),
        entry("cy", "{realm: {teams: [red, blue]}}"),
    ];
    let incoming = format!("incomingAuth: {{type: apiKey, apiKeys: [{}]}}\n", keys.join(", "));
    let limits = format!(
        "rateLimiting:\n  perUser:\n    maxTokens: 2\n    refillPeriod: 1000h\n    overrides:\n      \
         - {{apiKey: bad, maxTokens: 0}}\n      - {{apiKey: ci, maxTokens: 4}}\n      \
         - {{group: staff, unlimited: true}}\n      - {{claim: plan, value: gold, maxTokens: 5}}\n  \
         tools:\n    - name: whoami\n      perClaim:\n        \
         - {{claim: realm.teams, lists: each, missing: shared, maxTokens: 100, refillPeriod: 1000h, overrides: [{{value: red, maxTokens: 1}}]}}\n{store}"
    );
    let text = config(NamePolicy::Unchanged, &[Backend::stdio("echo", &fixture(&["echo"])?)], &limits);
    Ok(text.replace("incomingAuth: {type: anonymous}\n", &incoming))
}

/// How many of eight calls are admitted, and the last answer.
fn count_passed(gateway: &Gateway, name: &str, tool: &str) -> anyhow::Result<(usize, String)> {
    let mut client = HttpClient::open_with_token(&gateway.url, ProtocolFamily::Sessions, &key(name))?;
    let (mut count, mut last) = (0, String::new());
    for _ in 0..8 {
        let answer = client.ask("tools/call", json!({"name": tool, "arguments": {"text": "x"}}))?;
        let message: Value = serde_json::from_str(&answer.text)?;
        count += usize::from(message["result"].is_object() && message["result"]["isError"] != true);
        last = answer.text;
    }
    Ok((count, last))
}

fn check(store: &str) -> anyhow::Result<()> {
    let gateway = Gateway::start(&configured("{}", store)?)?;
    for (name, expected) in [("ada", 2), ("ci", 4), ("bob", 8)] {
        let (count, last) = count_passed(&gateway, name, "echo")?;
        ensure!(count == expected, "{name}: {count} passed, {expected} allowed: {last}");
    }
    let (count, last) = count_passed(&gateway, "bad", "echo")?;
    ensure!(count == 0 && last.contains("an operator has blocked it"), "{count}: {last}");
    let (count, last) = count_passed(&gateway, "cy", "whoami")?;
    ensure!(
        count == 1 && last.contains("perClaim[realm.teams]"),
        "the smaller of two teams: {count}: {last}"
    );
    Ok(())
}

#[test]
fn callers_have_the_sizes_that_name_them() -> anyhow::Result<()> {
    check("")
}

#[test]
fn a_claim_that_changes_gives_no_fresh_budget() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    let store = format!("  redis: {{url: \"{}\"}}\n", redis.url());
    check(&store)?;
    // Another gateway of the fleet has other claims for the same caller.
    let gateway = Gateway::start(&configured("{plan: gold}", &store)?)?;
    let (count, last) = count_passed(&gateway, "ada", "echo")?;
    ensure!(count == 3, "five less the two that are spent: {count}: {last}");
    Ok(())
}

/// A month's reset is far enough away for a test, and the refusal names it.
#[test]
fn a_quota_is_counted_by_all_replicas_and_names_its_reset() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    for store in [String::new(), format!("  redis: {{url: \"{}\"}}\n", redis.url())] {
        let text = configured("{}", &store)?.replace(
            "  perUser:\n    maxTokens: 2\n    refillPeriod: 1000h\n",
            "  perUser:\n    quota: {calls: 3, per: month, timeZone: Asia/Tokyo}\n",
        );
        let text = text.replace("{apiKey: ci, maxTokens: 4}", "{apiKey: ci, quota: {calls: 5, per: month}}");
        let text = text.replace("value: gold, maxTokens: 5", "value: gold, unlimited: true");
        let first = Gateway::start(&text)?;
        let (count, last) = count_passed(&first, "ada", "echo")?;
        ensure!(count == 3 && last.contains("01 00:00 (Asia/Tokyo)"), "{count}: {last}");
        ensure!(last.contains("resetsAt"), "{last}");
        ensure!(count_passed(&first, "ci", "echo")?.0 == 5, "an override has its own");
        if !store.is_empty() {
            let second = Gateway::start(&text)?;
            ensure!(count_passed(&second, "ada", "echo")?.0 == 0, "the other replica counts them, too");
        }
    }
    Ok(())
}

#[test]
fn an_operator_reads_the_sizes() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, configured("{}", "")?)?;
    let said = Command::new(binary("vmcp")?).args(["limits", "explain", "--config"]).arg(&file).output()?;
    let said = String::from_utf8(said.stdout)?;
    for line in [
        "2 at once, and at most 4 in any 3600000s",
        "but subject bad of vmcp:api-key: no call",
        "but group staff: not limited",
        "but plan gold: 5 in 3600000s, 5 at once",
        "on echo, whoami",
    ] {
        ensure!(said.contains(line), "no `{line}` in\n{said}");
    }
    Ok(())
}
