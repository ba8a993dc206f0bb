//! Calls that wait for a limit, over real connections: the progress messages that clients receive, and that
//! the wait does not count towards the call's time-out.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client, HttpClient, ProtocolFamily};
use vmcp_e2e::process::{fixture, run};
use vmcp_e2e::redis::Redis;
use vmcp_e2e::{cache, http, wait};

/// One token every four seconds, and calls may wait for it.
const LIMITS: &str =
    "rateLimiting:\n  maxWait: 30s\n  tools: [{name: LIMITED, shared: {maxTokens: 1, refillPeriod: 4s}}]\n";

fn gateway(backend: Backend, limited: &str) -> anyhow::Result<Gateway> {
    Gateway::start(&config(NamePolicy::Unchanged, &[backend], &LIMITS.replace("LIMITED", limited)))
}

/// Runs a client of an SDK, which calls a tool with its own progress messages twice.
fn check(script: impl Fn(&str, &str, &str) -> anyhow::Result<Command>) -> anyhow::Result<()> {
    let tool = "test_tool_with_progress";
    for family in ProtocolFamily::ALL {
        let gateway =
            gateway(Backend::stdio("progress", &fixture(&["conformance", "--transport", "stdio"])?), tool)?;
        let word = if family == ProtocolFamily::Sessions { "session" } else { "stateless" };
        let told = run(&mut script(&gateway.url, word, tool)?)
            .with_context(|| format!("the gateway said:\n{}", gateway.process.output()))?;
        let seen: Value = serde_json::from_str(&told).with_context(|| told.clone())?;
        ensure!(seen["version"] == family.version() && seen["failed"] == false, "{family:?}: {seen}");
        let told = seen["told"].as_array().context("no progress")?;
        let values: Vec<f64> = told.iter().filter_map(|one| one[0].as_f64()).collect();
        ensure!(
            values.len() == told.len() && values.windows(2).all(|two| two[0] < two[1]),
            "{family:?}: {seen}"
        );
        let (waiting, own): (Vec<&Value>, Vec<&Value>) =
            told.iter().partition(|one| one[0].as_f64().is_some_and(|value| value < 0.0));
        // The messages come after one and after three seconds of almost four.
        ensure!((1..=2).contains(&waiting.len()), "{family:?}: {seen}");
        let rule = format!("waiting for rate limit tools[{tool}].shared, about ");
        let names_it = |one: &&Value| one[2].as_str().is_some_and(|message| message.starts_with(&rule));
        ensure!(waiting.iter().all(names_it), "{family:?}: {seen}");
        ensure!(
            own.len() == 3 && own[0][0] == 0.0,
            "the tool's own progress comes as it is: {family:?}: {seen}"
        );
    }
    Ok(())
}

#[test]
fn the_python_sdk_hears_how_its_call_waits() -> anyhow::Result<()> {
    check(|url, family, tool| {
        let mut command = Command::new(cache::python("sdk")?);
        command.arg(cache::project_file("clients").join("waiting_client.py")).args([url, family, tool]);
        Ok(command)
    })
}

#[test]
fn the_typescript_client_hears_how_its_call_waits() -> anyhow::Result<()> {
    check(|url, family, tool| {
        let mut command = Command::new(cache::node()?);
        command
            .arg(cache::project_file("clients").join("waiting_client.mjs"))
            .arg(cache::installed("npm", "client")?);
        command.args([url, family, tool]);
        Ok(command)
    })
}

#[test]
fn a_wait_is_not_part_of_the_calls_own_time() -> anyhow::Result<()> {
    for family in ProtocolFamily::ALL {
        // The backend has a time-out of one second for a call; the wait takes almost four.
        let backend = Backend::stdio("echo", &fixture(&["echo"])?).with("timeout: 1s");
        let gateway = gateway(backend, "echo")?;
        let mut client = HttpClient::open(&gateway.url, family)?;
        client.call("echo", json!({"text": "first"}))?;
        let begun = Instant::now();
        let answer = client.call("echo", json!({"text": "second"}))?;
        let waited = begun.elapsed();
        ensure!(answer["content"][0]["text"] == "second", "{family:?}: {answer}");
        ensure!(waited >= Duration::from_secs(3), "{family:?}: {waited:?}");
        let metrics = http::get(&gateway.url.replace("/mcp", "/metrics"), &[])?.text()?;
        ensure!(metrics.contains("vmcp_rate_limit_queue 0\n"), "{metrics}");
        ensure!(metrics.contains("vmcp_rate_limit_waited_seconds_count{end=\"admitted\"} 1\n"), "{metrics}");
        let status = http::get(&gateway.url.replace("/mcp", "/status"), &[])?.text()?;
        ensure!(serde_json::from_str::<Value>(&status)?["limits"]["waiting"] == 0, "{status}");
    }
    Ok(())
}

#[test]
fn a_client_that_leaves_the_queue_takes_no_token() -> anyhow::Result<()> {
    let gateway = gateway(Backend::stdio("echo", &fixture(&["echo"])?), "echo")?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    client.call("echo", json!({"text": "first"}))?;
    let begun = Instant::now();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "echo", "arguments": {"text": "leaves"},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "leaver", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }});
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "echo"),
    ];
    let leaving = http::begin("POST", &gateway.url, &headers, body.to_string().as_bytes())?;
    let waits = |count: u64| {
        let status = http::get(&gateway.url.replace("/mcp", "/status"), &[])?.text()?;
        Ok::<bool, anyhow::Error>(serde_json::from_str::<Value>(&status)?["limits"]["waiting"] == count)
    };
    let until = |count| wait::until("the queue", || waits(count).unwrap_or(false).then_some(()));
    until(1)?;
    drop(leaving);
    until(0)?;
    client.call("echo", json!({"text": "stays"}))?;
    let waited = begun.elapsed();
    // If the cancelled call had taken the next token, this call would have waited for the one after it.
    ensure!(waited < Duration::from_millis(7500), "{waited:?}");
    Ok(())
}

#[test]
fn replicas_wait_for_one_bucket() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    let limits = format!(
        "rateLimiting:\n  maxWait: 30s\n  shared: {{maxTokens: 1, refillPeriod: 500ms}}\n  redis: {{url: \"{}\"}}\n",
        redis.url()
    );
    let text = config(NamePolicy::Unchanged, &[Backend::stdio("echo", &fixture(&["echo"])?)], &limits);
    let gateways = (0..2).map(|_| Gateway::start(&text)).collect::<anyhow::Result<Vec<_>>>()?;
    let begun = Instant::now();
    let mut callers = Vec::new();
    for number in 0..12 {
        let url = gateways[number % 2].url.clone();
        callers.push(std::thread::spawn(move || -> anyhow::Result<()> {
            let mut client = HttpClient::open(&url, ProtocolFamily::ALL[number / 2 % 2])?;
            let answer = client.call("echo", json!({"text": "x"}))?;
            ensure!(answer["content"][0]["text"] == "x", "{answer}");
            Ok(())
        }));
    }
    for caller in callers {
        caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
    }
    let took = begun.elapsed();
    // Twelve calls, the first of which finds a token.
    ensure!(took >= Duration::from_millis(5500), "more than the limit allows: {took:?}");
    ensure!(took <= Duration::from_secs(9), "tokens were left lying: {took:?}");
    Ok(())
}

#[test]
fn a_greedy_caller_delays_nobody_but_itself() -> anyhow::Result<()> {
    const GREEDY: &str = "vmcp_Z3JlZWR5LWdyZWVkeS1ncmVlZHktZ3JlZWR5LWdyZWVk";
    const MODEST: &str = "vmcp_bW9kZXN0LW1vZGVzdC1tb2Rlc3QtbW9kZXN0LW1vZGVz";
    let limits = "rateLimiting: {maxWait: 30s, shared: {maxTokens: 10, refillPeriod: 1s}}\n";
    let text = config(NamePolicy::Unchanged, &[Backend::stdio("echo", &fixture(&["echo"])?)], limits);
    let incoming = format!(
        "incomingAuth: {{type: apiKey, apiKeys: [{{name: greedy, hash: \"{}\"}}, {{name: modest, hash: \"{}\"}}]}}\n",
        vmcp_identity::hash_api_key(GREEDY),
        vmcp_identity::hash_api_key(MODEST),
    );
    let gateway = Gateway::start(&text.replace("incomingAuth: {type: anonymous}\n", &incoming))?;
    let begun = Instant::now();
    let call_for = |key: &'static str, time: Duration| {
        let url = gateway.url.clone();
        std::thread::spawn(move || -> anyhow::Result<usize> {
            let mut client = HttpClient::open_with_token(&url, ProtocolFamily::Stateless, key)?;
            let mut count = 0;
            while begun.elapsed() < time {
                client.call("echo", json!({"text": "x"}))?;
                count += 1;
            }
            Ok(count)
        })
    };
    let time = Duration::from_secs(6);
    let greedy: Vec<_> = (0..30).map(|_| call_for(GREEDY, time)).collect();
    let modest = call_for(MODEST, time);
    let joined = |thread: std::thread::JoinHandle<anyhow::Result<usize>>| {
        thread.join().unwrap_or_else(|_| anyhow::bail!("a caller panicked"))
    };
    let modest = joined(modest)?;
    let greedy = greedy.into_iter().map(joined).sum::<anyhow::Result<usize>>()?;
    let most = 10.0 + 10.0 * begun.elapsed().as_secs_f64();
    // One caller with one call at a time against thirty: a fair share is half of sixty tokens, while first
    // come, first served would give it two.
    ensure!(modest >= 20, "{modest} against {greedy}");
    ensure!((greedy + modest) as f64 <= most, "{greedy} and {modest} of {most}");
    Ok(())
}
