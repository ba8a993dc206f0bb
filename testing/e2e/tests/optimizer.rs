//! `find_tool` and `call_tool` for clients of both protocol families: the list, the search results, the
//! refusal of a limited tool, and that every feature of a tool works unchanged through `call_tool`.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client, HttpClient, ProtocolFamily, names, refusal, text_of, without_hop_fields};
use vmcp_e2e::process::{Process, fixture};
use vmcp_e2e::{http, wait};

/// One echo backend with a prefix, searched by words only.
fn configured(extra: &str) -> anyhow::Result<String> {
    let backend = Backend::stdio("lab", &fixture(&["echo"])?);
    Ok(config(NamePolicy::Prefixed, &[backend], &format!("optimizer: {{embeddingProvider: none}}\n{extra}")))
}

fn find(client: &mut impl Client, what: &str) -> anyhow::Result<Vec<Value>> {
    let result = client.call("find_tool", json!({"tool_description": what}))?;
    ensure!(result["isError"] != true, "{result}");
    let text = text_of(&result);
    let found = &result["structuredContent"];
    ensure!(found["token_metrics"]["baseline_tokens"].is_u64(), "{found}");
    let tools = found["tools"].as_array().context("a result has tools")?;
    for name in names(tools) {
        ensure!(text.contains(&format!("\n\n{name}(")), "the text does not say how to call {name}: {text}");
    }
    Ok(tools.clone())
}

fn by_name(client: &mut impl Client, tool: &str, parameters: Value) -> anyhow::Result<Value> {
    let arguments = json!({"tool_name": tool, "parameters": parameters});
    let answer = client.ask("tools/call", json!({"name": "call_tool", "arguments": arguments}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

fn direct(client: &mut impl Client, tool: &str, arguments: Value) -> anyhow::Result<Value> {
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": arguments}))?;
    Ok(serde_json::from_str(&answer.text)?)
}

#[test]
fn a_limit_on_the_tool_that_runs_holds_behind_call_tool() -> anyhow::Result<()> {
    let limits = "rateLimiting: {tools: [{name: lab_echo, shared: {maxTokens: 1, refillPeriod: 1000h}}]}\n";
    for family in ProtocolFamily::ALL {
        let gateway = Gateway::start(&configured(limits)?)?;
        let mut client = HttpClient::open(&gateway.url, family)?;
        ensure!(
            names(&client.list_tools()?) == ["find_tool", "call_tool"],
            "two tools stand in place of the list"
        );
        for _ in 0..3 {
            let found = find(&mut client, "answers with its text")?;
            ensure!(names(&found)[0] == "lab_echo" && found[0].get("availability").is_none(), "{found:?}");
        }
        let first = by_name(&mut client, "lab_echo", json!({"text": "x"}))?;
        ensure!(text_of(&first["result"]) == "x", "searching has spent nothing: {first}");
        let second = by_name(&mut client, "lab_echo", json!({"text": "x"}))?;
        let limit = refusal(&second).with_context(|| format!("{family:?}: {second}"))?;
        ensure!(limit["message"] == "Rate limit exceeded", "{limit}");
        ensure!(limit["data"]["detail"].as_str().unwrap_or_default().contains("lab_echo"), "{limit}");
        ensure!(limit["data"]["retryAfterSeconds"].as_u64() > Some(3_500_000), "{limit}");
        let again = direct(&mut client, "lab_echo", json!({"text": "x"}))?;
        ensure!(refusal(&again).is_some(), "a direct call spends from the same bucket: {again}");
        let other = by_name(&mut client, "lab_whoami", json!({}))?;
        ensure!(other["result"]["isError"] != true && other.get("error").is_none(), "{other}");
        let found = find(&mut client, "answers with its text")?;
        let echo = found.iter().find(|tool| tool["name"] == "lab_echo").context("it is still found")?;
        ensure!(echo["availability"]["state"] == "over_quota", "{echo}");
        ensure!(echo["availability"]["retryAfterSeconds"].as_u64() > Some(3_500_000), "{echo}");
    }
    Ok(())
}

#[test]
fn searching_can_have_a_limit_of_its_own() -> anyhow::Result<()> {
    let limits = "rateLimiting: {shared: {maxTokens: 1, refillPeriod: 1000h}, tools: [{name: find_tool, shared: {maxTokens: 2, refillPeriod: 1000h}}]}\n";
    let gateway = Gateway::start(&configured(limits)?)?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    for _ in 0..2 {
        find(&mut client, "echo")?;
    }
    let third = direct(&mut client, "find_tool", json!({"tool_description": "echo"}))?;
    ensure!(
        refusal(&third).context("it is refused")?["data"]["rule"] == "tools[find_tool].shared",
        "{third}"
    );
    let call = by_name(&mut client, "lab_whoami", json!({}))?;
    ensure!(call.get("error").is_none(), "searches have not spent from the limit on real calls: {call}");
    Ok(())
}

#[test]
fn what_a_backend_adds_is_found_and_called_while_others_go_on() -> anyhow::Result<()> {
    let gateway = Gateway::start(&configured("")?)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| -> anyhow::Result<usize> {
            let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                ensure!(names(&find(&mut client, "id of this instance")?)[0] == "lab_whoami");
                by_name(&mut client, "lab_whoami", json!({}))?["result"]["content"]
                    .as_array()
                    .context("it answers")?;
                count += 1;
            }
            Ok(count)
        });
        let outcome = grows(&gateway);
        stop.store(true, Ordering::Relaxed);
        let count = other.join().map_err(|_| anyhow::anyhow!("the other caller panicked"))?;
        ensure!(count? > 0, "the other caller was served");
        outcome
    })
}

fn grows(gateway: &Gateway) -> anyhow::Result<()> {
    for (number, family) in ProtocolFamily::ALL.into_iter().enumerate() {
        let mut client = HttpClient::open(&gateway.url, family)?;
        by_name(&mut client, "lab_grow", json!({}))?;
        let tool = format!("lab_grown_{number}");
        wait::until(&format!("{tool} is found"), || {
            names(&find(&mut client, &format!("grown {number}")).ok()?).contains(&tool).then_some(())
        })?;
        let answer = by_name(&mut client, &tool, json!({}))?;
        ensure!(text_of(&answer["result"]) == format!("grown_{number}"), "{answer}");
    }
    Ok(())
}

#[test]
fn a_call_by_name_answers_as_the_direct_one() -> anyhow::Result<()> {
    let mut suite = Process::start(&mut fixture(&["conformance", "--port", "0"])?)?;
    let backend = Backend::http("suite", suite.wait_for_url()?);
    let extra = "optimizer: {embeddingProvider: none}\n";
    let gateway = Gateway::start(&config(NamePolicy::Unchanged, &[backend], extra))?;
    let tools = [
        "test_simple_text",
        "test_image_content",
        "test_multiple_content_types",
        "test_error_handling",
        "test_tool_with_logging",
        "test_tool_with_progress",
    ];
    for family in ProtocolFamily::ALL {
        for tool in tools {
            let mut client = HttpClient::open(&gateway.url, family)?;
            let mut both = Vec::new();
            for (name, arguments) in
                [(tool, json!({})), ("call_tool", json!({"tool_name": tool, "parameters": {}}))]
            {
                let meta = json!({"progressToken": "p", "io.modelcontextprotocol/logLevel": "debug"});
                let params = json!({"name": name, "arguments": arguments, "_meta": meta});
                let mut stream = client.send_request("tools/call", params)?;
                let mut said = Vec::new();
                while let Some(message) = stream.next_message()? {
                    let mut message: Value = serde_json::from_str(&message)?;
                    message.as_object_mut().and_then(|members| members.remove("id"));
                    if let Some(result) = message.get_mut("result") {
                        *result = without_hop_fields(result.take());
                    }
                    said.push(message);
                }
                both.push(said);
            }
            ensure!(both[0] == both[1], "{family:?}, {tool}:\n{:#?}", both);
            if tool == "test_tool_with_progress" {
                ensure!(both[1].len() > 1, "progress comes through: {:#?}", both[1]);
            }
        }
    }
    Ok(())
}

#[test]
fn a_near_miss_and_wrong_arguments_are_told_what_is_right() -> anyhow::Result<()> {
    let gateway = Gateway::start(&configured("")?)?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let missed = by_name(&mut client, "lab_ecko", json!({}))?;
        ensure!(missed["result"]["isError"] == true, "{missed}");
        ensure!(
            text_of(&missed["result"]) == "tool \"lab_ecko\" not found; did you mean \"lab_echo\"?",
            "{missed}"
        );
        for (tool, arguments) in [
            ("find_tool", json!({})),
            ("find_tool", json!({"tool_description": ["x"]})),
            ("call_tool", json!({"tool_name": 7})),
            ("call_tool", json!({"tool_name": "lab_echo", "parameters": [1]})),
        ] {
            let answer = direct(&mut client, tool, arguments)?;
            ensure!(answer["result"]["isError"] == true, "{answer}");
        }
        let huge = "x".repeat(1 << 20);
        ensure!(find(&mut client, &huge)?.is_empty(), "a long search finds nothing and harms nobody");
    }
    Ok(())
}

/// The numbers of tools and of vectors in `/status`.
fn indexed(gateway: &Gateway) -> anyhow::Result<(u64, u64)> {
    let page = http::get(&gateway.url.replace("/mcp", "/status"), &[])?.text()?;
    let page: Value = serde_json::from_str(&page)?;
    let count = |key: &str| page["optimizer"][key].as_u64().context("the page tells of the optimizer");
    Ok((count("tools")?, count("vectors")?))
}

fn vectorised(gateway: &Gateway) -> anyhow::Result<()> {
    wait::until("every tool has its vector", || {
        let (tools, vectors) = indexed(gateway).ok()?;
        (tools > 0 && tools == vectors).then_some(())
    })
}

#[test]
fn the_model_within_the_binary_finds_by_meaning_and_remembers() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let backend = Backend::stdio("lab", &fixture(&["echo"])?);
    let quoted = Value::from(folder.path().to_string_lossy()).to_string();
    let extra = format!("optimizer: {{embeddingCache: {quoted}}}\n");
    let text = config(NamePolicy::Prefixed, &[backend], &extra);
    for round in ["computed", "remembered"] {
        let gateway = Gateway::start(&text)?;
        vectorised(&gateway)?;
        for family in ProtocolFamily::ALL {
            let mut client = HttpClient::open(&gateway.url, family)?;
            // No word of the query is in any definition.
            let found = names(&find(&mut client, "take a nap")?);
            ensure!(found.first().is_some_and(|name| name == "lab_sleep"), "{round}, {family:?}: {found:?}");
        }
        let kept = std::fs::read_dir(folder.path())?.count();
        ensure!(kept > 0, "vectors are kept in the folder");
    }
    Ok(())
}

#[test]
fn a_dead_embedding_service_leaves_search_by_words() -> anyhow::Result<()> {
    // No process listens on this port: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let backend = Backend::stdio("lab", &fixture(&["echo"])?);
    let extra =
        format!("optimizer: {{embeddingService: \"http://127.0.0.1:{port}\", embeddingCache: \"\"}}\n");
    let gateway = Gateway::start(&config(NamePolicy::Prefixed, &[backend], &extra))?;
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    for _ in 0..5 {
        ensure!(names(&find(&mut client, "answers with its text")?)[0] == "lab_echo");
    }
    ensure!(indexed(&gateway)?.1 == 0, "there are no vectors");
    Ok(())
}
