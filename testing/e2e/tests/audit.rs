//! Audit records of the real gateway, and a replay of the recorded calls against limits: the same calls are
//! refused.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::{binary, fixture};
use vmcp_e2e::wait;

fn configured(extra: &str) -> anyhow::Result<String> {
    Ok(config(NamePolicy::Prefixed, &[Backend::stdio("lab", &fixture(&["echo"])?)], extra))
}

fn call(client: &mut HttpClient, tool: &str, arguments: Value) -> anyhow::Result<bool> {
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": arguments}))?;
    let answer: Value = serde_json::from_str(&answer.text)?;
    Ok(answer.get("error").is_none() && answer["result"]["isError"] != true)
}

/// Waits until the file has `count` records of calls, and returns them.
fn call_records(file: &Path, count: usize) -> anyhow::Result<Vec<Value>> {
    let read = || {
        let text = std::fs::read_to_string(file).ok()?;
        let records: Option<Vec<Value>> = text.lines().map(|line| serde_json::from_str(line).ok()).collect();
        let calls = records?.into_iter().filter(|record| record["type"] == "mcp_tool_call");
        Some(calls.collect::<Vec<_>>()).filter(|calls| calls.len() >= count)
    };
    wait::until("the records are written", read)
}

fn replay(audit: &Path, config: &str) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("new.yaml");
    std::fs::write(&file, config)?;
    let mut command = Command::new(binary("vmcp")?);
    command.args(["limits", "replay", "--json"]).arg(audit).arg("--config").arg(&file);
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn number(report: &Value, key: &str) -> anyhow::Result<u64> {
    report[key].as_u64().with_context(|| format!("{key} in {report:#}"))
}

#[test]
fn what_was_recorded_is_refused_again_by_the_same_limits() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let audit = folder.path().join("audit.jsonl");
    let extra = |limits: &str| {
        format!(
            "audit: {{logFile: {}}}\noptimizer: {{embeddingProvider: none}}\nrateLimiting: {limits}\n",
            json!(audit)
        )
    };
    let same = configured(&extra(
        "{anonymous: address, shared: {maxTokens: 30, refillPeriod: 2s}, tools: [{name: lab_echo, cost: 2, perUser: {maxTokens: 10, refillPeriod: 3s}}]}",
    ))?;
    let gateway = Gateway::start(&same)?;
    let mut refused = 0;
    let mut clients = Vec::new();
    for family in ProtocolFamily::ALL {
        clients.push(HttpClient::open(&gateway.url, family)?);
    }
    let mut made = 0;
    for turn in 0..40 {
        for client in &mut clients {
            // Half of the calls use `call_tool`; the record must name the tool that was run.
            let arguments = json!({"text": "x"});
            let passed = if turn % 2 == 0 {
                call(client, "lab_echo", arguments)?
            } else {
                call(client, "call_tool", json!({"tool_name": "lab_echo", "parameters": arguments}))?
            };
            made += 1;
            refused += u64::from(!passed);
        }
        if turn == 20 {
            // The pause refills some tokens.
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
    }
    ensure!(refused > 0 && refused < made, "{refused} of {made} calls are refused");
    let calls = call_records(&audit, usize::try_from(made)?)?;
    ensure!(calls.len() as u64 == made, "one record for one call: {} for {made}", calls.len());
    ensure!(calls.iter().all(|record| record["target"]["name"] == "lab_echo"), "the tool that really ran");
    let limited = calls.iter().filter(|record| record["outcome"] == "rate_limited").count();
    ensure!(limited as u64 == refused, "{limited} records say so of {refused} refused calls");
    let extra_of = |record: &Value| record["metadata"]["extra"].clone();
    ensure!(calls.iter().any(|record| extra_of(record)["via"] == "call_tool"), "{calls:#?}");
    let first = calls.first().context("a record")?;
    ensure!(first["source"] == json!({"type": "network", "value": "127.0.0.1"}), "{first}");
    ensure!(extra_of(first)["backend_name"] == "lab" && extra_of(first)["backend_tool"] == "echo", "{first}");

    let report = replay(&audit, &same)?;
    ensure!(number(&report, "calls")? == made && number(&report, "refusedInLog")? == refused, "{report:#}");
    // The replay has the same calls and limits, so its decisions must be the same.
    ensure!(number(&report, "newlyRefused")? == 0 && number(&report, "newlyAdmitted")? == 0, "{report:#}");

    let wider = configured(&extra("{shared: {maxTokens: 100000, refillPeriod: 1s}}"))?;
    let report = replay(&audit, &wider)?;
    ensure!(number(&report, "refused")? == 0 && number(&report, "newlyAdmitted")? == refused, "{report:#}");
    Ok(())
}

#[test]
fn the_flag_alone_records_to_standard_output() -> anyhow::Result<()> {
    use std::io::{BufRead as _, BufReader};
    use std::process::Stdio;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, configured("")?)?;
    let mut command = Command::new(binary("vmcp")?);
    command.args(["serve", "--enable-audit", "--port", "0", "--config"]).arg(&file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = vmcp_e2e::process::Process::start_piped(&mut command)?;
    let url = process.wait_for_url()?;
    let stdout = process.child().stdout.take().context("standard output")?;
    let mut client = HttpClient::open(&url, ProtocolFamily::Stateless)?;
    call(&mut client, "lab_absent", json!({}))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let record: Value = serde_json::from_str(&line)?;
    ensure!(record["type"] == "mcp_tool_call" && record["outcome"] == "failure", "{record}");
    Ok(())
}
