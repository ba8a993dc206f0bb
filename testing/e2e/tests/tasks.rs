//! Calls that continue as tasks at two backends with equal task identifiers, over every transport of
//! 2026-07-28 and through `call_tool`. Each task is followed to its own end.

use anyhow::ensure;
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::{Process, fixture};

fn follows() -> Value {
    json!({"elicitation": {"form": {}}, "extensions": {"io.modelcontextprotocol/tasks": {}}})
}

fn follow(client: &mut HttpClient, call: Value, instance: &str) -> anyhow::Result<()> {
    let begun = client.request("tools/call", call)?;
    ensure!(begun["resultType"] == "task" && begun["statusMessage"] == instance, "{begun}");
    ensure!(begun["ttlMs"] == 60000, "how long it is kept is no caching hint: {begun}");
    let id = begun["taskId"].clone();
    let task = client.request("tasks/get", json!({"taskId": id}))?;
    ensure!(task["status"] == "input_required" && task["taskId"] == id, "{task}");
    ensure!(task["inputRequests"]["confirm"]["params"]["message"] == "sure?", "{task}");
    let answer = json!({"action": "accept", "content": {"name": instance}});
    let answers = json!({"confirm": answer});
    let update = client.request("tasks/update", json!({"taskId": id, "inputResponses": answers}))?;
    ensure!(update["resultType"] == "complete", "{update}");
    let task = client.request("tasks/get", json!({"taskId": id}))?;
    ensure!(task["status"] == "completed" && task["taskId"] == id, "{task}");
    ensure!(task["result"]["structuredContent"]["answers"] == json!([answer]), "{task}");
    ensure!(task["result"]["content"][0]["text"] == instance, "{task}");
    Ok(())
}

#[test]
fn tasks_of_two_backends_are_told_apart() -> anyhow::Result<()> {
    let stateless = ProtocolFamily::Stateless.version();
    let child = fixture(&["tasks", "--instance", "child", "--protocol", stateless])?;
    let mut remote = Process::start(
        fixture(&["tasks", "--instance", "remote", "--protocol", stateless])?.args(["--transport", "http"]),
    )?;
    let backends = [Backend::stdio("child", &child), Backend::http("remote", remote.wait_for_url()?)];
    for search in [false, true] {
        let more = if search { "optimizer: {embeddingProvider: none}\n" } else { "" };
        let gateway = Gateway::start(&config(NamePolicy::Prefixed, &backends, more))?;
        let mut client =
            HttpClient::open_with_capabilities(&gateway.url, ProtocolFamily::Stateless, follows())?;
        let call = |tool: &str| match search {
            false => json!({"name": tool, "arguments": {}}),
            true => json!({"name": "call_tool", "arguments": {"tool_name": tool, "parameters": {}}}),
        };
        let discovered = client.request("server/discover", json!({}))?;
        ensure!(discovered["capabilities"]["extensions"].is_object(), "{discovered}");
        for instance in ["child", "remote", "child"] {
            follow(&mut client, call(&format!("{instance}_confirm_delete")), instance)?;
        }
        let begun = client.request("tools/call", call("remote_confirm_delete"))?;
        client.request("tasks/cancel", json!({"taskId": begun["taskId"]}))?;
        let task = client.request("tasks/get", json!({"taskId": begun["taskId"]}))?;
        ensure!(task["status"] == "cancelled", "{task}");
        // A client without the tasks capability is refused with the required capabilities. A client with a
        // session receives a failed result, since its version has no tasks.
        let mut other = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
        let refused = other.ask("tools/call", call("child_confirm_delete"))?;
        ensure!(refused.status == 400 && refused.text.contains("requiredCapabilities"), "{}", refused.text);
        let refused = other.ask("tasks/get", json!({"taskId": begun["taskId"]}))?;
        ensure!(refused.status == 400 && refused.text.contains("-32021"), "{}", refused.text);
        let mut session = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
        let refused = session.ask("tools/call", call("child_confirm_delete"))?;
        ensure!(refused.text.contains("only as a task"), "{}", refused.text);
    }
    Ok(())
}
