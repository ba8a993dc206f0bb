//! Scripts through the binary: what they do, what they cost, whom they ask, and what they cannot harm.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{self, Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::fixture;
use vmcp_e2e::wait;

const TOOL: &str = "execute_tool_script";
/// Scripts that use up memory, time, calls or the engine's stack, by name. `__call` is the call of a tool.
const HOSTILE: &str = include_str!("../../../crates/script-worker/tests/it/hostile.json");
/// What ends ToolHive's process when it is written in Starlark, as scripts in JavaScript.
const PROCESS_KILLERS: [(&str, &str); 7] = [
    ("a long text", "return 'a'.repeat(1e9).length"),
    ("doubling", "let s = 'ab'; for (let i = 0; i < 34; i++) s += s; return s.length"),
    ("a long list", "return new Array(5e8).fill(0).length"),
    ("a list of a range", "return Array.from({length: 3e8}, (_, i) => i).length"),
    ("replacing", "let s = 'a'.repeat(1e5); for (;;) s = s.replaceAll('a', 'aaaaaaaaaa')"),
    ("a long result", "return 'a'.repeat(2e8)"),
    ("squaring", "let x = 3n; for (let i = 0; i < 40; i++) x = x * x; return 1"),
];
/// How much memory a gateway may take in addition, after all hostile scripts.
const GROWTH_MAX: u64 = 20 << 20;

fn start(extra: &str) -> anyhow::Result<Gateway> {
    let backends = [Backend::stdio("b", &fixture(&["steps"])?)];
    Gateway::start(&config(NamePolicy::Unchanged, &backends, extra))
}

fn run(client: &mut HttpClient, script: &str) -> anyhow::Result<Value> {
    client.request("tools/call", json!({"name": TOOL, "arguments": {"script": script}}))
}

/// The text of the first content item.
fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

#[test]
fn a_script_calls_tools_and_returns_one_value() -> anyhow::Result<()> {
    let gateway = start("codeMode: {enabled: true}\n")?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let tools = client.list_tools()?;
        let own = tools.iter().find(|tool| tool["name"] == TOOL).context("the script tool is not listed")?;
        let description = own["description"].as_str().unwrap_or_default();
        ensure!(description.contains("flaky(args"), "{description}");
        let result = run(
            &mut client,
            "const [echoed, user] = await Promise.all([tools.echo({id: 12345678901234567890n}), tools.jsontext({})]);
             console.log('two calls');
             emit({type: 'text', text: 'more'});
             return {id: echoed.args.id, name: user.user.name, list: (await tools.list({})).items.length}",
        )?;
        ensure!(text(&result) == r#"{"id":12345678901234567890,"name":"Alice","list":3}"#, "{result}");
        ensure!(result["content"][1]["text"] == "Script logs:\ntwo calls", "{result}");
        ensure!(result["content"][2]["text"] == "more", "{result}");
        let run = &result["_meta"]["vmcp/run"];
        let called: Vec<&str> = run["calls"]
            .as_array()
            .context("no calls")?
            .iter()
            .filter_map(|call| call["tool"].as_str().filter(|_| call["outcome"] == "ok"))
            .collect();
        ensure!(called == ["echo", "jsontext", "list"], "{run}");
    }
    Ok(())
}

#[test]
fn scripts_of_toolhive_run_as_they_are() -> anyhow::Result<()> {
    let gateway = start("codeMode: {enabled: true}\n")?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    let script = "results = parallel([lambda i=i: call_tool(\"echo\", n=i) for i in range(3)])
print(\"calls:\", len(results))
return {\"count\": len(results), \"name\": jsontext()[\"text\"], \"last\": results[2][\"args\"][\"n\"]}";
    let result = run(&mut client, script)?;
    let expected = r#"{"count":3,"name":"{\"user\":{\"name\":\"Alice\",\"id\":1234567}}","last":2}"#;
    ensure!(text(&result) == expected, "{result}");
    ensure!(result["content"][1]["text"] == "Script logs:\ncalls: 3", "{result}");
    ensure!(result["_meta"]["vmcp/run"]["language"] == "starlark", "{result}");
    let result = run(&mut client, "text()\nx = fail()\nreturn x")?;
    ensure!(
        text(&result)
            .starts_with("Script failed at line 2, column 5: Error: backend says no. Done before: text."),
        "{result}"
    );
    let killer = run(&mut client, "x = 3\nfor i in range(40):\n    x = x * x\nreturn 1")?;
    ensure!(killer["isError"] == true, "{killer}");
    Ok(())
}

#[test]
fn a_script_that_fails_says_where_and_what_it_did() -> anyhow::Result<()> {
    let limits = "rateLimiting: {tools: [{name: list, shared: {maxTokens: 1, refillPeriod: 1h}}]}\n";
    let gateway = start(&format!("{limits}codeMode: {{enabled: true, tools: {{deny: [slow]}}}}\n"))?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    let result = run(&mut client, "await tools.text({});\nawait tools.text({});\nawait tools.fail({})")?;
    let told = "Script failed at line 3, column 13: ToolError: backend says no. Done before: text (2 calls). Failed: fail";
    ensure!(result["isError"] == true && text(&result) == told, "{result}");
    let error = &result["structuredContent"]["error"];
    ensure!(error["tool"] == "fail" && error["line"] == 3, "{error}");
    // A failure that the script catches is none.
    let caught = run(&mut client, "try { await tools.fail({}) } catch (e) { return e.message }")?;
    ensure!(text(&caught) == r#""backend says no""#, "{caught}");
    // A denied tool is as unknown as one that does not exist.
    for (script, name) in [("tools.slow({})", "slow"), ("callTool('nosuch')", "nosuch")] {
        let unknown = run(&mut client, script)?;
        ensure!(text(&unknown).contains(&format!("Error: no tool \"{name}\"")), "{unknown}");
    }
    // A limit before all calls is an ordinary refusal, and one after them a failure that has its code.
    let limited = "await tools.list({}); await tools.list({})";
    let result = run(&mut client, limited)?;
    let error = &result["structuredContent"]["error"];
    ensure!(error["code"] == 429 && error["retryAfterSeconds"].as_u64() > Some(3000), "{result}");
    ensure!(text(&result).contains("Done before: list. Failed: list"), "{result}");
    let params = json!({"name": TOOL, "arguments": {"script": limited}});
    let refused: Value = serde_json::from_str(&client.ask("tools/call", params)?.text)?;
    ensure!(mcp::refusal_code(&refused) == Some(429), "{refused}");
    Ok(())
}

#[test]
fn a_budget_is_charged_before_the_script_starts_and_given_back() -> anyhow::Result<()> {
    let limits = "rateLimiting: {tools: [{name: echo, shared: {maxTokens: 4, refillPeriod: 1h}}]}\n";
    let gateway = start(&format!("{limits}codeMode: {{enabled: true}}\n"))?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    let mut ask = |count: u64, script: &str| -> anyhow::Result<Value> {
        let arguments = json!({"script": script, "budget": {"echo": count}});
        let answer = client.ask("tools/call", json!({"name": TOOL, "arguments": arguments}))?;
        Ok(serde_json::from_str(&answer.text)?)
    };
    let refused = ask(5, "return await tools.text({})")?;
    ensure!(mcp::refusal_code(&refused) == Some(429), "five calls never fit into four tokens: {refused}");
    // Three are charged, of which one is made. Two come back, so that three are left.
    let ran = ask(3, "return (await tools.echo({n: 1})).args.n")?;
    ensure!(text(&ran["result"]) == "1", "{ran}");
    let ran = ask(3, "let n = 0; for (let i = 0; i < 3; i++) { await tools.echo({n}); n++ } return n")?;
    ensure!(text(&ran["result"]) == "3", "{ran}");
    let refused = ask(1, "return 1")?;
    ensure!(mcp::refusal_code(&refused) == Some(429), "all four are spent: {refused}");
    Ok(())
}

/// Runs a script in which the user is asked, and answers with `action`. Returns the result and the questions.
fn run_asked(client: &mut HttpClient, script: &str, action: &str) -> anyhow::Result<(Value, Vec<String>)> {
    let first = json!({"name": TOOL, "arguments": {"script": script}});
    let (mut params, mut questions) = (first.clone(), Vec::new());
    let answer = json!({"action": action, "content": {}});
    loop {
        let mut messages = client.send_request("tools/call", params.clone())?;
        let result = loop {
            let message = messages.next_message()?.context("no answer")?;
            let message: Value = serde_json::from_str(&message)?;
            if message["method"] == "elicitation/create" {
                questions.extend(message["params"]["message"].as_str().map(str::to_owned));
                client.reply(&message["id"], &answer)?;
            } else if message.get("result").is_some() {
                break message["result"].clone();
            }
        };
        if result["resultType"] != "input_required" {
            return Ok((result, questions));
        }
        let asked = result["inputRequests"].as_object().context("no questions")?;
        questions
            .extend(asked.values().filter_map(|one| one["params"]["message"].as_str().map(str::to_owned)));
        let answers = asked.keys().map(|key| (key.clone(), answer.clone())).collect();
        params = first.clone();
        params["inputResponses"] = Value::Object(answers);
        params["requestState"] = result["requestState"].clone();
    }
}

#[test]
fn the_user_consents_to_calls_in_both_revisions() -> anyhow::Result<()> {
    let gateway = start("codeMode: {enabled: true, confirm: destructive}\n")?;
    let script = "const got = []; for (let i = 0; i < 2; i++) { got.push(await tools.echo({n: 7}).then((r) => r.args.n, (e) => e.message)) } return got";
    for family in ProtocolFamily::ALL {
        let offers = json!({"elicitation": {"form": {}}});
        let mut client = HttpClient::open_with_capabilities(&gateway.url, family, offers)?;
        let (result, questions) = run_asked(&mut client, script, "accept")?;
        ensure!(text(&result) == "[7,7]", "{family:?}: {result}");
        let question = r#"A script wants to call echo with {"n":7}. Allow this call?"#;
        ensure!(questions == [question, question], "{questions:?}");
        // The same call is not asked for again.
        let (result, questions) = run_asked(&mut client, script, "decline")?;
        ensure!(text(&result) == r#"["the user declined","the user declined"]"#, "{family:?}: {result}");
        ensure!(questions == [question], "{questions:?}");
        let called = &result["_meta"]["vmcp/run"]["calls"][0];
        ensure!(called["outcome"] == "refused", "{called}");
        let mut silent = HttpClient::open(&gateway.url, family)?;
        let result = run(&mut silent, script)?;
        ensure!(text(&result).contains("this call needs the user's consent, and the client"), "{result}");
        let asked = "const a = await ask('Which?', {type: 'object', properties: {}}); return a.action";
        ensure!(text(&run_asked(&mut client, asked, "decline")?.0) == r#""decline""#);
    }
    Ok(())
}

#[test]
fn the_optimizer_lists_the_script_tool_and_scripts_search() -> anyhow::Result<()> {
    let gateway = start("optimizer: {embeddingProvider: none}\ncodeMode: {enabled: true}\n")?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
    let tools = client.list_tools()?;
    ensure!(mcp::names(&tools) == ["find_tool", "call_tool", TOOL], "{tools:?}");
    ensure!(tools[2]["description"].as_str().is_some_and(|text| text.contains("find them with `findTools`")));
    let result = run(
        &mut client,
        "const found = await findTools('jsontext'); return [found[0].name, await describeTool(found[0].name)]",
    )?;
    ensure!(text(&result).starts_with(r#"["jsontext",""#), "{result}");
    // The script tool is no result of a search, though its description has many words.
    let params = json!({"name": "find_tool", "arguments": {"tool_description": "run a script"}});
    ensure!(!client.request("tools/call", params)?.to_string().contains(TOOL));
    Ok(())
}

#[test]
fn a_script_ends_with_its_caller() -> anyhow::Result<()> {
    let gateway = start("codeMode: {enabled: true, spareWorkers: 0}\n")?;
    let id = gateway.process.id();
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    let arguments = json!({"script": "await tools.slow({})"});
    let pending = client.start_request("tools/call", json!({"name": TOOL, "arguments": arguments}))?;
    wait::until("the worker runs", || (!workers(id).is_empty()).then_some(()))?;
    drop(pending);
    wait::until("the worker has ended", || workers(id).is_empty().then_some(()))?;
    Ok(())
}

/// The processes of scripts that a gateway has, ended ones included.
fn workers(gateway: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let command = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let is_child = status.lines().any(|line| line == format!("PPid:\t{gateway}"));
        is_child && (command.contains("script-worker") || status.contains("State:\tZ"))
    })
    .collect()
}

fn resident_bytes(id: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

#[test]
fn hostile_scripts_harm_no_other_client() -> anyhow::Result<()> {
    let bounds = "codeMode: {enabled: true, timeout: 2s, cpuTime: 1s, spareWorkers: 2}\n";
    let gateway = start(bounds)?;
    let id = gateway.process.id();
    let mut scripts: BTreeMap<String, String> = serde_json::from_str(HOSTILE)?;
    ensure!(scripts.len() == 65);
    for (name, script) in PROCESS_KILLERS {
        scripts.insert(name.to_owned(), script.to_owned());
    }
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    let warm_up = run(&mut client, "return 'x'.repeat(200000)")?;
    ensure!(warm_up["isError"] != true, "{warm_up}");
    let before = resident_bytes(id)?;
    let is_over = AtomicBool::new(false);
    let (failed, calls) = std::thread::scope(|scope| -> anyhow::Result<(usize, usize)> {
        let other = scope.spawn(|| -> anyhow::Result<(usize, usize)> {
            let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?;
            let (mut failed, mut calls) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                calls += 1;
                let answer = client.request("tools/call", json!({"name": "text", "arguments": {}}));
                failed += usize::from(!answer.is_ok_and(|answer| text(&answer) == "plain text"));
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok((failed, calls))
        });
        let ran = scripts.iter().try_for_each(|(name, script)| run_hostile(&mut client, name, script));
        is_over.store(true, Ordering::Relaxed);
        ran?;
        other.join().unwrap_or_else(|_| anyhow::bail!("the other client panicked"))
    })?;
    ensure!(failed == 0 && calls > 100, "{failed} of {calls} calls of another client failed");
    let after = resident_bytes(id)?;
    ensure!(after < before + GROWTH_MAX, "the gateway grew from {before} to {after} bytes");
    wait::until("only the spare workers are left", || (workers(id).len() <= 2).then_some(()))?;
    Ok(())
}

fn run_hostile(client: &mut HttpClient, name: &str, script: &str) -> anyhow::Result<()> {
    let script = format!("const __call = (_, text) => callTool('echo', JSON.parse(text));{script}");
    let started = Instant::now();
    let result = run(client, &script).with_context(|| name.to_owned())?;
    // The bound of two seconds, and as much again for a busy machine.
    ensure!(started.elapsed() < Duration::from_secs(4), "{name} took {:?}: {result}", started.elapsed());
    ensure!(!text(&result).is_empty(), "{name}: {result}");
    Ok(())
}

/// The examples of the page: their titles, their `data`, their scripts, and their results.
fn worked_examples() -> anyhow::Result<Vec<(String, Value, String, Value)>> {
    let page = include_str!("../../../docs/writing-scripts.md");
    let block = |section: &str, language: &str| -> Option<String> {
        let (_, rest) = section.split_once(&format!("```{language}\n"))?;
        rest.split_once("\n```").map(|(code, _)| code.to_owned())
    };
    let sections = page.split("\n### ").skip(1);
    let examples = sections.map(|section| {
        let title = section.lines().next().unwrap_or_default().to_owned();
        let data = section.split_once("`data: ").and_then(|(_, rest)| rest.split_once("`:"));
        let data = data.map_or_else(|| Ok(json!({})), |(data, _)| serde_json::from_str(data))?;
        let script = block(section, "js").context("no script")?;
        let result = serde_json::from_str(&block(section, "json").context("no result")?)?;
        Ok((title, data, script, result))
    });
    examples.collect()
}

#[test]
fn the_worked_examples_do_what_the_page_says() -> anyhow::Result<()> {
    let mut backends = Vec::new();
    for name in ["glossary", "notes"] {
        let mut command = std::process::Command::new(vmcp_e2e::process::binary("vmcp")?);
        command.args(["demo-server", name]);
        backends.push(Backend::stdio(name, &command));
    }
    let limits = "rateLimiting: {tools: [{name: add_note, shared: {maxTokens: 4, refillPeriod: 1s}}]}\n";
    let yaml = config(NamePolicy::Unchanged, &backends, &format!("{limits}codeMode: {{enabled: true}}\n"));
    let gateway = Gateway::start(&yaml)?;
    let offers = json!({"elicitation": {"form": {}}});
    let mut client = HttpClient::open_with_capabilities(&gateway.url, ProtocolFamily::Sessions, offers)?;
    let examples = worked_examples()?;
    ensure!(examples.len() == 10, "{} examples", examples.len());
    for (title, data, script, expected) in examples {
        if title.starts_with("Finding") {
            // The example before has spent the limit.
            std::thread::sleep(Duration::from_millis(1100));
        }
        let arguments = json!({"script": script, "data": data});
        let result = client.request("tools/call", json!({"name": TOOL, "arguments": arguments}))?;
        let found: Value =
            serde_json::from_str(text(&result)).with_context(|| format!("{title}: {result}"))?;
        ensure!(found == expected, "{title}: {result}");
        if title.starts_with("Progress") {
            let added = result["content"].as_array().map(Vec::len);
            ensure!(added == Some(4), "the value, the log and two items: {result}");
        }
    }
    Ok(())
}
