//! A call of several rounds (2026-07-28) is charged once: the first round pays. A state that was used before
//! or is forged pays again.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::{Process, fixture};

const TOOL: &str = "test_input_required_result_multi_round";
const PROMPT: &str = "test_input_required_result_prompt";

/// The method and parameters of a first request, one for each path.
type FirstRequest = (&'static str, Value);

fn paths() -> [FirstRequest; 3] {
    let by_name = json!({"name": "call_tool", "arguments": {"tool_name": TOOL, "parameters": {}}});
    [
        ("tools/call", json!({"name": TOOL, "arguments": {}})),
        ("tools/call", by_name),
        ("prompts/get", json!({"name": PROMPT, "arguments": {}})),
    ]
}

/// The parameters of the next round, if the answer asks for input.
fn next(answer: &Value, first: &Value) -> Option<Value> {
    if answer["resultType"] != "input_required" {
        return None;
    }
    let asked = answer["inputRequests"].as_object()?;
    let answers =
        asked.keys().map(|key| (key.clone(), json!({"action": "accept", "content": {"name": "Ada"}})));
    let mut params = first.clone();
    params["inputResponses"] = Value::Object(answers.collect());
    params["requestState"] = answer["requestState"].clone();
    Some(params)
}

fn is_refused(client: &mut HttpClient, method: &str, params: Value) -> anyhow::Result<bool> {
    Ok(client.ask(method, params)?.text.contains("Rate limit exceeded"))
}

#[test]
fn a_call_in_several_rounds_is_charged_once_on_every_path() -> anyhow::Result<()> {
    let mut backend = Process::start(&mut fixture(&["conformance", "--port", "0"])?)?;
    let backends = [Backend::http("asking", backend.wait_for_url()?)];
    let quota = "{maxTokens: 1, refillPeriod: 1000h}";
    for (method, first) in paths() {
        let search = first["name"] == "call_tool";
        let limits = format!(
            "rateLimiting:\n  tools: [{{name: {TOOL}, shared: {quota}}}]\n  methods: {{prompts/get: {{shared: {quota}}}}}\n{}",
            if search { "optimizer: {embeddingProvider: none}\n" } else { "" }
        );
        let gateway = Gateway::start(&config(NamePolicy::Unchanged, &backends, &limits))?;
        let offers = json!({"elicitation": {"form": {}}});
        let mut client = HttpClient::open_with_capabilities(&gateway.url, ProtocolFamily::Stateless, offers)?;
        let begun = client.request(method, first.clone())?;
        let second = next(&begun, &first).with_context(|| format!("no question: {begun}"))?;
        let (mut params, mut round_count) = (second.clone(), 1);
        let answer = loop {
            let answer = client.request(method, params.clone())?;
            round_count += 1;
            match next(&answer, &first) {
                Some(more) => params = more,
                None => break answer,
            }
        };
        ensure!(answer["resultType"] == "complete", "{method}: {answer}");
        ensure!(round_count >= 2, "{method}: {round_count} rounds");
        ensure!(is_refused(&mut client, method, first.clone())?, "{method} {first}: the first call has paid");
        ensure!(is_refused(&mut client, method, second.clone())?, "{method}: a paid round is good for one");
        let mut forged = second;
        forged["requestState"] = json!("forged");
        ensure!(is_refused(&mut client, method, forged)?, "{method}: a state that is made up has not paid");
    }
    Ok(())
}
