//! Limits on every path, with a real Redis: each real call of a backend's tool is charged once, for every
//! client and every path.

use std::cell::RefCell;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{self, Client, HttpClient, ProtocolFamily, StdioClient};
use vmcp_e2e::process::{binary, fixture};
use vmcp_e2e::redis::Redis;
use vmcp_e2e::wait;

/// Replaces the list by two tools. The other tools can still be called by name.
const OPTIMIZER: &str = "optimizer: {embeddingProvider: none}\n";
/// A workflow for each tool, which calls it.
const WORKFLOWS: &str = r#"
compositeTools:
  - {name: run_echo, description: d, steps: [{id: a, tool: echo, arguments: {text: "{{.params.text}}"}}]}
  - {name: run_whoami, description: d, steps: [{id: a, tool: whoami}]}
"#;

const SCRIPTS: &str = "codeMode: {enabled: true}\n";

/// The limited tool, and a tool without a limit.
const LIMITED: &str = "echo";
const FREE: &str = "whoami";

fn limits(tokens: u64, period: &str, redis: &Redis, more: &str) -> String {
    format!(
        "rateLimiting:\n  tools: [{{name: {LIMITED}, shared: {{maxTokens: {tokens}, refillPeriod: {period}}}}}]\n  \
         redis: {{url: \"{}\"}}\n{more}",
        redis.url()
    )
}

/// A configuration with one echo backend. Every gateway that is started with it has its own process of the
/// backend.
fn configured(extra: &str) -> anyhow::Result<String> {
    let backend = Backend::stdio("echo", &fixture(&["echo"])?);
    Ok(config(NamePolicy::Unchanged, &[backend], extra))
}

/// Makes a call on one path and returns the answer as a JSON-RPC message.
type Call = Box<dyn FnMut(&str) -> anyhow::Result<Value>>;

/// Every path to a backend's tool. A new path must be added here, so that the tests cover its limits.
fn routes(gateway: &Gateway, file: &std::path::Path) -> anyhow::Result<Vec<(&'static str, Call)>> {
    let mut routes: Vec<(&'static str, Call)> = Vec::new();
    for (name, family) in
        [("HTTP, with sessions", ProtocolFamily::Sessions), ("HTTP, 2026-07-28", ProtocolFamily::Stateless)]
    {
        let mut client = HttpClient::open(&gateway.url, family)?;
        routes.push((name, Box::new(move |tool| ask(&mut client, tool))));
    }
    for (name, family) in [
        ("HTTP, with sessions, call_tool", ProtocolFamily::Sessions),
        ("HTTP, 2026-07-28, call_tool", ProtocolFamily::Stateless),
    ] {
        let mut client = HttpClient::open(&gateway.url, family)?;
        routes.push((name, Box::new(move |tool| ask_by_name(&mut client, tool))));
    }
    for (name, family) in [
        ("workflow, with sessions", ProtocolFamily::Sessions),
        ("workflow, 2026-07-28", ProtocolFamily::Stateless),
    ] {
        let mut client = HttpClient::open(&gateway.url, family)?;
        routes.push((name, Box::new(move |tool| ask(&mut client, &format!("run_{tool}")))));
    }
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    routes.push((
        "workflow, call_tool",
        Box::new(move |tool| ask_by_name(&mut client, &format!("run_{tool}"))),
    ));
    for (name, family) in [
        ("script, with sessions", ProtocolFamily::Sessions),
        ("script, 2026-07-28", ProtocolFamily::Stateless),
    ] {
        let mut client = HttpClient::open(&gateway.url, family)?;
        routes.push((name, Box::new(move |tool| ask_in_script(&mut client, tool))));
    }
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    routes.push((
        "script, call_tool",
        Box::new(move |tool| {
            let parameters = json!({"script": script_of(tool)});
            let arguments = json!({"tool_name": "execute_tool_script", "parameters": parameters});
            let answer = client.ask("tools/call", json!({"name": "call_tool", "arguments": arguments}))?;
            Ok(serde_json::from_str(&answer.text)?)
        }),
    ));
    for (name, family) in
        [("stdio, with sessions", ProtocolFamily::Sessions), ("stdio, 2026-07-28", ProtocolFamily::Stateless)]
    {
        let mut command = Command::new(binary("vmcp")?);
        command.arg("stdio").arg("--config").arg(file);
        let client = Rc::new(RefCell::new(StdioClient::start(&mut command, family)?));
        let same = client.clone();
        routes.push((name, Box::new(move |tool| ask(&mut *client.borrow_mut(), tool))));
        let name = if family == ProtocolFamily::Sessions {
            "stdio, with sessions, call_tool"
        } else {
            "stdio, 2026-07-28, call_tool"
        };
        routes.push((name, Box::new(move |tool| ask_by_name(&mut *same.borrow_mut(), tool))));
    }
    routes.extend(shell_routes(file));
    Ok(routes)
}

/// The paths of the command line.
fn shell_routes(file: &std::path::Path) -> [(&'static str, Call); 4] {
    let route = |words: fn(&str) -> Vec<String>, input: fn(&str) -> String| -> Call {
        let file = file.to_owned();
        Box::new(move |tool| shell(&file, &words(tool), &input(tool)))
    };
    let nothing = |_: &str| String::new();
    [
        ("vmcp call", route(|tool| to_words(["call", tool, r#"{"text": "x"}"#]), nothing)),
        (
            "vmcp call call_tool",
            route(
                |tool| {
                    let arguments = json!({"tool_name": tool, "parameters": {"text": "x"}}).to_string();
                    to_words(["call", "call_tool", &arguments])
                },
                nothing,
            ),
        ),
        (
            "vmcp workflow run",
            route(
                |tool| {
                    let arguments = if tool == LIMITED { r#"{"text": "x"}"# } else { "{}" };
                    to_words(["workflow", "run", &format!("run_{tool}"), arguments])
                },
                nothing,
            ),
        ),
        ("vmcp script run", route(|_| to_words(["script", "run", "-"]), script_of)),
    ]
}

fn to_words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// A script that calls a tool.
fn script_of(tool: &str) -> String {
    format!("return await callTool({tool:?}, {{text: \"x\"}})")
}

fn ask_in_script(client: &mut impl Client, tool: &str) -> anyhow::Result<Value> {
    let arguments = json!({"script": script_of(tool)});
    let answer = client.ask("tools/call", json!({"name": "execute_tool_script", "arguments": arguments}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

fn ask(client: &mut impl Client, tool: &str) -> anyhow::Result<Value> {
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": {"text": "x"}}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

fn ask_by_name(client: &mut impl Client, tool: &str) -> anyhow::Result<Value> {
    let arguments = json!({"tool_name": tool, "parameters": {"text": "x"}});
    let answer = client.ask("tools/call", json!({"name": "call_tool", "arguments": arguments}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

/// Runs a command that calls a tool, which prints a refusal as text, and returns it in the form of the
/// other paths.
fn shell(file: &std::path::Path, words: &[String], input: &str) -> anyhow::Result<Value> {
    let mut command = Command::new(binary("vmcp")?);
    command.args(words).args(["--json", "--config"]).arg(file);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    child.stdin.take().context("the command has no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8(output.stderr)?;
    if output.status.success() {
        return Ok(json!({"result": serde_json::from_slice::<Value>(&output.stdout)?}));
    }
    ensure!(said.contains("Rate limit exceeded"), "{said}");
    Ok(json!({"error": {"code": 429, "message": said.trim(), "data": {"retryAfterSeconds": 1}}}))
}

/// The code, the message and the retry time of a refusal in any form; `None` for an answer.
fn refusal(message: &Value) -> Option<(i64, String, u64)> {
    let limit = mcp::refusal(message)?;
    let retry = limit["data"]["retryAfterSeconds"].as_u64()?;
    Some((limit["code"].as_i64()?, limit["message"].as_str()?.to_owned(), retry))
}

#[test]
fn every_route_spends_from_one_bucket_and_is_refused_alike() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    // One token for each path, and no refill while the test runs.
    let text = configured(&limits(18, "10000h", &redis, &format!("{OPTIMIZER}{WORKFLOWS}{SCRIPTS}")))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, &text)?;
    let gateway = Gateway::start(&text)?;
    let mut paths = routes(&gateway, &file)?;
    assert_eq!(paths.len(), 18, "a token for each path");
    for (name, call) in &mut paths {
        let answer = call(LIMITED)?;
        ensure!(refusal(&answer).is_none(), "{name} has a token: {answer}");
    }
    for (name, call) in &mut paths {
        let answer = call(LIMITED)?;
        let (code, message, retry) =
            refusal(&answer).with_context(|| format!("{name} is refused: {answer}"))?;
        ensure!(code == 429 && message.contains("Rate limit exceeded") && retry > 0, "{name}: {answer}");
        let other = call(FREE)?;
        ensure!(refusal(&other).is_none(), "{name}: another tool still answers: {other}");
    }
    Ok(())
}

/// Calls the limited tool from several threads on every gateway until `stop`, and counts the admitted calls.
fn count_admitted(gateways: &[Gateway], stop: Instant) -> anyhow::Result<usize> {
    let admitted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, gateway) in gateways.iter().enumerate() {
            for family in ProtocolFamily::ALL {
                let admitted = &admitted;
                threads.push(scope.spawn(move || -> anyhow::Result<()> {
                    let mut client = HttpClient::open(&gateway.url, family)?;
                    while Instant::now() < stop {
                        let answer = ask(&mut client, LIMITED)?;
                        match refusal(&answer) {
                            None => {
                                admitted.fetch_add(1, Ordering::Relaxed);
                            }
                            Some((code, ..)) => ensure!(code == 429, "gateway {index}: {answer}"),
                        }
                    }
                    Ok(())
                }));
            }
        }
        let joined = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            thread.join().unwrap_or_else(|_| anyhow::bail!("a caller panicked"))
        };
        threads.into_iter().try_for_each(joined)
    })?;
    Ok(admitted.into_inner())
}

#[test]
fn a_fleet_admits_exactly_the_allowance() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    let text = configured(&limits(100, "5s", &redis, ""))?;
    let gateways = (0..3).map(|_| Gateway::start(&text)).collect::<anyhow::Result<Vec<_>>>()?;
    let begun = Instant::now();
    let admitted = count_admitted(&gateways, begun + Duration::from_secs(30))?;
    let took = begun.elapsed();
    // The bucket refills twenty tokens a second in addition to the first hundred. The store's clock runs from
    // the first call to the last, and both are inside of the measured time.
    let most = 100.0 + 20.0 * took.as_secs_f64();
    let least = 100.0 + 20.0 * 29.0;
    ensure!((least..=most).contains(&(admitted as f64)), "{admitted} admitted in {took:?}, at most {most}");
    Ok(())
}

#[test]
#[ignore = "slow: ./test --group fleets"]
fn leases_admit_no_more_than_the_limit_over_the_whole_run_and_are_explained() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    // The slowest refill that permits a leased bucket, so that three gateways in debug code are faster than
    // the limit.
    let more = "  consistency: split\n  lease: {duration: 200ms}\n";
    let text = configured(&limits(100, "1s", &redis, more))?;
    let gateways = (0..3).map(|_| Gateway::start(&text)).collect::<anyhow::Result<Vec<_>>>()?;
    let begun = Instant::now();
    let admitted = count_admitted(&gateways, begun + Duration::from_secs(10))?;
    let took = begun.elapsed().as_secs_f64();
    // Over the whole run, leases admit no more than an exact bucket.
    ensure!((admitted as f64) <= 100.0 + 100.0 * took, "{admitted} admitted in {took} s");
    ensure!(admitted >= 800, "{admitted} admitted in {took} s");
    let explained = explain(&text)?;
    ensure!(explained.contains("leased: any stretch of time may see up to 20 more than 100"), "{explained}");
    Ok(())
}

/// Runs `vmcp limits explain` on a configuration and returns its output.
fn explain(text: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, text)?;
    let said = Command::new(binary("vmcp")?).args(["limits", "explain", "--config"]).arg(&file).output()?;
    Ok(String::from_utf8(said.stdout)?)
}

/// Makes a call on each gateway. Returns the number of admitted calls, the longest duration, and the answers.
fn call_each(clients: &mut [HttpClient]) -> anyhow::Result<(usize, Duration, Vec<Value>)> {
    let (mut admitted, mut slowest, mut answers) = (0, Duration::ZERO, Vec::new());
    for client in clients {
        let begun = Instant::now();
        let answer = ask(client, LIMITED)?;
        slowest = slowest.max(begun.elapsed());
        let failed = answer.get("error").is_some() || answer["result"]["isError"] == true;
        admitted += usize::from(!failed);
        answers.push(answer);
    }
    Ok((admitted, slowest, answers))
}

#[test]
fn each_policy_holds_while_redis_is_away_and_ends_by_itself() -> anyhow::Result<()> {
    for (policy, expected) in [("local", 10), ("allow", 30), ("deny", 0)] {
        let Some(mut redis) = Redis::for_test()? else { return Ok(()) };
        let more = format!("  onStoreFailure: {policy}\n");
        let text = configured(&limits(10, "10000h", &redis, &more).replace("\"}", "\", replicas: 2}"))?;
        let gateways = (0..2).map(|_| Gateway::start(&text)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut clients = gateways
            .iter()
            .map(|one| HttpClient::open(&one.url, ProtocolFamily::Stateless))
            .collect::<anyhow::Result<Vec<_>>>()?;
        // The store fails before anything is spent, so each replica's share is half of a full bucket.
        redis.kill();
        let (mut admitted, mut slowest) = (0, Duration::ZERO);
        for _ in 0..15 {
            let (more, took, answers) = call_each(&mut clients)?;
            (admitted, slowest) = (admitted + more, slowest.max(took));
            for answer in answers {
                let text = answer.to_string();
                ensure!(!text.contains(&redis.url()), "the store's address reaches a client: {text}");
            }
        }
        ensure!(admitted == expected, "{policy}: {admitted} of 30 calls passed");
        // The limit is generous for a busy machine. Without a deadline, a client library waits for many
        // seconds.
        ensure!(slowest < Duration::from_secs(2), "{policy}: a call waited {slowest:?}");
        redis.restart()?;
        // The empty store has ten tokens; with `local` the gateways write back their spending as debt. In
        // each case the store must decide again without a restart of the gateways.
        wait::until("the store decides again", || {
            let (_, _, answers) = call_each(&mut clients).ok()?;
            answers.iter().all(|answer| refusal(answer).is_some()).then_some(())
        })
        .with_context(|| policy.to_owned())?;
    }
    Ok(())
}

#[test]
fn a_looping_call_is_explained_on_every_route_and_costs_nothing() -> anyhow::Result<()> {
    let extra = format!(
        "{OPTIMIZER}loopBreaker: {{repeats: 3, within: 1h}}\n\
         rateLimiting: {{tools: [{{name: {LIMITED}, shared: {{maxTokens: 4, refillPeriod: 24h}}}}]}}\n"
    );
    let gateway = Gateway::start(&configured(&extra)?)?;
    let mut session = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    let mut stateless = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    ask(&mut session, LIMITED)?;
    ask(&mut stateless, LIMITED)?;
    ask_by_name(&mut stateless, LIMITED)?;
    for _ in 0..3 {
        for answer in [
            ask(&mut session, LIMITED)?,
            ask(&mut stateless, LIMITED)?,
            ask_by_name(&mut session, LIMITED)?,
            ask_by_name(&mut stateless, LIMITED)?,
        ] {
            let result = &answer["result"];
            let text = result["content"][0]["text"].as_str().unwrap_or_default();
            ensure!(result["isError"] == true && text.contains("3 times in a row"), "{answer}");
        }
    }
    // Three of four tokens are spent. A call with other arguments takes the last one, and then the limit
    // refuses.
    let other = json!({"name": LIMITED, "arguments": {"text": "other"}});
    ensure!(stateless.request("tools/call", other.clone())?["isError"] != true);
    let limited = stateless.ask("tools/call", other)?;
    ensure!(limited.text.contains("Rate limit exceeded"), "{}", limited.text);
    Ok(())
}
