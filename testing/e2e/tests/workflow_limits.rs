//! The plan of a workflow at two replicas that share limits in a real Redis: all calls are charged in one decision, or
//! none is made; a step that is skipped gives its charge back while the run continues.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, refusal, text_of};
use vmcp_e2e::process::fixture;
use vmcp_e2e::redis::Redis;
use vmcp_e2e::wait;

/// A workflow with three calls, and one that skips two of its three before it waits.
const WORKFLOWS: &str = r#"
compositeTools:
  - name: three
    description: Three calls.
    steps: [{id: a, tool: b_text}, {id: b, tool: b_text}, {id: c, tool: b_text}]
  - name: skips
    description: Skips two calls, and asks.
    steps:
      - {id: a, tool: b_text}
      - {id: b, tool: b_text, condition: "false"}
      - {id: c, tool: b_text, condition: "false"}
      - {id: ask, type: elicitation, dependsOn: [a, b, c], message: Go on?, schema: {type: object, properties: {x: {type: string}}}}
"#;

fn start(redis: &Redis) -> anyhow::Result<Gateway> {
    let limits = format!(
        "rateLimiting:\n  tools:\n  - {{name: b_text, shared: {{maxTokens: 5, refillPeriod: 10000h}}}}\n  \
         - {{name: three, shared: {{maxTokens: 2, refillPeriod: 10000h}}}}\n  redis: {{url: \"{}\"}}\n",
        redis.url()
    );
    let backends = [Backend::stdio("b", &fixture(&["steps"])?)];
    Gateway::start(&config(NamePolicy::Prefixed, &backends, &format!("{limits}{WORKFLOWS}")))
}

fn call(client: &mut HttpClient, tool: &str) -> anyhow::Result<Value> {
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": {}}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

#[test]
fn replicas_charge_a_plan_together_or_not_at_all() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    let (one, two) = (start(&redis)?, start(&redis)?);
    let mut one = HttpClient::open(&one.url, ProtocolFamily::Sessions)?;
    let mut two = HttpClient::open(&two.url, ProtocolFamily::Sessions)?;
    let first = call(&mut one, "three")?;
    ensure!(refusal(&first).is_none(), "{first}");
    // Two tokens are left, which is less than the plan of the other replica.
    let refused = call(&mut two, "three")?;
    ensure!(refusal(&refused).is_some(), "{refused}");
    ensure!(text_of(&refused["result"]).contains("b_text"), "{refused}");
    // The refused run did not cost the workflow's own token either: the next refusal is that of the tool.
    let refused = call(&mut two, "three")?;
    ensure!(text_of(&refused["result"]).contains("b_text"), "{refused}");
    for expected in [true, true, false] {
        let single = call(&mut two, "b_text")?;
        ensure!((refusal(&single).is_none()) == expected, "the refused plan was charged: {single}");
    }
    Ok(())
}

#[test]
fn a_skipped_step_gives_its_charge_back_while_the_run_waits() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    let gateway = start(&redis)?;
    let capabilities = json!({"elicitation": {}});
    let mut asked = HttpClient::open_with_capabilities(&gateway.url, ProtocolFamily::Sessions, capabilities)?;
    let mut messages =
        asked.send_request("tools/call", json!({"name": "skips", "arguments": {}})).context("the run")?;
    let question = messages.next_message()?.context("a question")?;
    ensure!(question.contains("elicitation/create"), "{question}");
    // One of five tokens is spent. A plan of three fits, and one call more.
    let mut other = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    wait::until("the charges are back", || {
        call(&mut other, "three").ok().filter(|answer| refusal(answer).is_none())
    })?;
    ensure!(refusal(&call(&mut other, "b_text")?).is_none());
    ensure!(refusal(&call(&mut other, "b_text")?).is_some());
    Ok(())
}
