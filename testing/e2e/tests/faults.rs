//! Faults of backends and clients: the gateway answers in time with an error, and all other calls continue.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Answer, Client as _, HttpClient, ProtocolFamily, names, text_of};
use vmcp_e2e::process::{Process, fixture};
use vmcp_e2e::{cache, wait};

/// The maximum duration until a fault is reported to the client.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// A backend without faults, next to the ones under test.
fn healthy_backend() -> anyhow::Result<Backend> {
    Ok(Backend::stdio("calm", &fixture(&["echo", "--instance", "calm"])?))
}

fn start(faulty: Vec<Backend>) -> anyhow::Result<Gateway> {
    let mut backends = faulty;
    backends.push(healthy_backend()?);
    Gateway::start(&config(NamePolicy::Prefixed, &backends, ""))
}

fn check_healthy_backend(client: &mut HttpClient) -> anyhow::Result<()> {
    let result = client.call("calm_whoami", json!({})).context("the calm backend does not answer")?;
    ensure!(text_of(&result) == "calm", "{result}");
    Ok(())
}

fn ask(client: &mut HttpClient, tool: &str, arguments: Value) -> anyhow::Result<Answer> {
    let started = Instant::now();
    let answer = client.ask("tools/call", json!({"name": tool, "arguments": arguments}))?;
    ensure!(started.elapsed() < RESPONSE_TIMEOUT, "{tool} took {:?}", started.elapsed());
    Ok(answer)
}

/// Whether the call failed. Its answer must be well formed: an error, or a result with `isError`.
fn failed(answer: &Answer) -> anyhow::Result<bool> {
    let message: Value = serde_json::from_str(&answer.text).with_context(|| answer.text.clone())?;
    let error = message["error"]["code"].is_i64() && message["error"]["message"].is_string();
    Ok(error || message["result"]["isError"] == true)
}

fn fails_in_time(client: &mut HttpClient, tool: &str) -> anyhow::Result<()> {
    let answer = ask(client, tool, json!({}))?;
    ensure!(failed(&answer)?, "{tool} succeeds: {}", answer.text);
    let leaks = ["127.0.0.1", "vmcp-fixture"].iter().find(|word| answer.text.contains(**word));
    ensure!(leaks.is_none(), "{tool} tells the client about {leaks:?}: {}", answer.text);
    Ok(())
}

#[test]
fn a_backend_that_dies_during_a_call_is_started_again() -> anyhow::Result<()> {
    let gateway = start(vec![Backend::stdio("frail", &fixture(&["echo", "--instance", "frail"])?)])?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        fails_in_time(&mut client, "frail_crash")?;
        check_healthy_backend(&mut client)?;
        wait::until("the dead backend answers again", || {
            let answer = ask(&mut client, "frail_whoami", json!({})).ok()?;
            answer.text.contains("frail").then_some(()).filter(|()| !failed(&answer).unwrap_or(true))
        })
        .with_context(|| gateway.process.output())?;
    }
    Ok(())
}

#[test]
fn a_backend_that_is_killed_and_comes_back_is_used_again() -> anyhow::Result<()> {
    let mut frail = Process::start(&mut fixture(&["echo", "--transport", "http"])?)?;
    let url = frail.wait_for_url()?;
    let port = url.trim_start_matches("http://127.0.0.1:").trim_end_matches("/mcp").to_owned();
    let gateway = start(vec![Backend::http("frail", &url)])?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let waiting = client
            .start_request("tools/call", json!({"name": "frail_sleep", "arguments": {"ms": 600_000}}))?;
        frail.wait_for("the call arrives", |line| line.starts_with("start 0 sleep").then_some(()))?;
        frail.kill();
        let mut messages = waiting.response()?.messages()?;
        let text = messages.next_message()?.context("the killed call has no answer")?;
        ensure!(failed(&Answer { status: 200, text: text.clone() })?, "a killed call succeeds: {text}");
        check_healthy_backend(&mut client)?;
        frail = Process::start(&mut fixture(&["echo", "--transport", "http", "--port", &port])?)?;
        frail.wait_for_url()?;
        wait::until("the backend answers again", || {
            let answer = ask(&mut client, "frail_whoami", json!({})).ok()?;
            (!failed(&answer).unwrap_or(true)).then_some(())
        })
        .with_context(|| gateway.process.output())?;
    }
    Ok(())
}

#[test]
fn a_backend_that_never_answers_is_not_waited_for() -> anyhow::Result<()> {
    let mut remote = Process::start(&mut fixture(&["mute", "--transport", "http"])?)?;
    let gateway = start(vec![
        Backend::stdio("mute", &fixture(&["mute"])?).with("timeout: 1s"),
        Backend::http("remote", remote.wait_for_url()?).with("timeout: 1s"),
    ])?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        for tool in ["mute_anything", "remote_anything"] {
            fails_in_time(&mut client, tool)?;
            check_healthy_backend(&mut client)?;
        }
    }
    Ok(())
}

#[test]
fn answers_that_are_garbage_become_errors() -> anyhow::Result<()> {
    const KINDS: usize = 9;
    let garbage = ["garbage", "--after", "lists"];
    let mut remote = Process::start(fixture(&garbage)?.args(["--transport", "http"]))?;
    let mut stream = Process::start(fixture(&garbage)?.args(["--transport", "http", "--stream-answers"]))?;
    let gateway = start(vec![
        Backend::stdio("child", &fixture(&garbage)?).with("timeout: 1s"),
        Backend::http("remote", remote.wait_for_url()?).with("timeout: 1s"),
        Backend::http("stream", stream.wait_for_url()?).with("timeout: 1s"),
    ])?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        for backend in ["child", "remote", "stream"] {
            for _ in 0..KINDS {
                fails_in_time(&mut client, &format!("{backend}_anything"))?;
            }
        }
        check_healthy_backend(&mut client)?;
    }
    Ok(())
}

#[test]
fn a_backend_whose_list_is_garbage_is_left_out() -> anyhow::Result<()> {
    let mut remote = Process::start(&mut fixture(&["garbage", "--transport", "http"])?)?;
    let gateway = start(vec![
        Backend::stdio("child", &fixture(&["garbage"])?).with("timeout: 2s"),
        Backend::http("remote", remote.wait_for_url()?).with("timeout: 2s"),
    ])?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        check_healthy_backend(&mut client)?;
        let listed = names(&client.list_tools()?);
        ensure!(listed.iter().all(|name| name.starts_with("calm_")), "{family:?}: {listed:?}");
    }
    Ok(())
}

#[test]
fn ten_thousand_tools_are_listed_beside_the_others() -> anyhow::Result<()> {
    const FLOOD: usize = 10_000;
    let gateway = start(vec![
        Backend::stdio("once", &fixture(&["flood"])?),
        Backend::stdio("pages", &fixture(&["flood", "--page-size", "250"])?),
    ])?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let listed = names(&client.list_tools()?);
        for prefix in ["once_", "pages_"] {
            let count = listed.iter().filter(|name| name.starts_with(prefix)).count();
            ensure!(count == FLOOD, "{family:?}: {count} tools of {prefix}");
        }
        let answer = client.call("pages_flood_9999", json!({}))?;
        ensure!(text_of(&answer) == "flood_9999", "{answer}");
        check_healthy_backend(&mut client)?;
    }
    Ok(())
}

#[test]
fn a_list_without_an_end_ends() -> anyhow::Result<()> {
    let endless = fixture(&["flood", "--endless", "--page-size", "1"])?;
    let gateway = start(vec![Backend::stdio("endless", &endless)])?;
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        let listed = names(&client.list_tools()?);
        ensure!(listed.len() < 100_000, "{family:?}: {} tools", listed.len());
        check_healthy_backend(&mut client)?;
    }
    Ok(())
}

/// The backends at which a call is cancelled: each transport in each protocol family.
fn sleepers(journal: &Path) -> anyhow::Result<(Vec<Backend>, Vec<Process>)> {
    let journal = journal.to_string_lossy();
    let mut backends = Vec::new();
    let mut running = Vec::new();
    for family in ProtocolFamily::ALL {
        let word = if family == ProtocolFamily::Sessions { "old" } else { "new" };
        let words = ["echo", "--protocol", family.version(), "--instance", word, "--journal", &journal];
        backends.push(Backend::stdio(format!("{word}-child"), &fixture(&words)?));
        let mut process = Process::start(fixture(&words)?.args(["--transport", "http"]))?;
        backends.push(Backend::http(format!("{word}-remote"), process.wait_for_url()?));
        running.push(process);
    }
    let words = ["echo", "--transport", "sse", "--journal", &journal];
    let mut process = Process::start(&mut fixture(&words)?)?;
    backends.push(Backend::sse("sse", process.wait_for_url()?));
    running.push(process);
    Ok((backends, running))
}

#[test]
fn a_client_that_leaves_during_a_call_cancels_it_at_the_backend() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = folder.path().join("journal");
    let (backends, _running) = sleepers(&journal)?;
    let tools: Vec<String> = backends.iter().map(|backend| format!("{}_sleep", backend.name)).collect();
    let gateway = start(backends)?;
    let noted = |event: &str, key: &str| {
        wait::until(&format!("the journal has `{event}` of {key}"), || {
            let text = std::fs::read_to_string(&journal).unwrap_or_default();
            let is_it = |line: &str| line.starts_with(event) && line.ends_with(&format!(" {key}"));
            text.lines().any(is_it).then_some(())
        })
        .with_context(|| format!("{}\nthe gateway said:\n{}", journal.display(), gateway.process.output()))
    };
    for family in ProtocolFamily::ALL {
        let mut client = HttpClient::open(&gateway.url, family)?;
        for tool in &tools {
            let key = format!("{tool}-{}", family.version());
            let arguments = json!({"ms": 600_000, "key": key});
            let waiting =
                client.start_request("tools/call", json!({"name": tool, "arguments": arguments}))?;
            noted("start", &key)?;
            // In versions with sessions, closing the stream does not cancel a call; the notification does.
            if family == ProtocolFamily::Sessions {
                let id = client.last_id();
                client.notify("notifications/cancelled", json!({"requestId": id, "reason": "enough"}))?;
            }
            drop(waiting);
            noted("cancelled", &key)?;
        }
        check_healthy_backend(&mut client)?;
    }
    Ok(())
}

#[test]
fn a_thousand_calls_at_once_get_their_own_answers() -> anyhow::Result<()> {
    const BACKENDS: usize = 50;
    const CALLS: usize = 1000;
    const STACK_BYTES: usize = 256 << 10;
    let instances = BACKENDS.to_string();
    let mut remote =
        Process::start(&mut fixture(&["echo", "--transport", "http", "--instances", &instances])?)?;
    let root = remote.wait_for_url()?.trim_end_matches("/mcp").to_owned();
    let backends = (0..BACKENDS).map(|n| Backend::http(format!("b{n}"), format!("{root}/{n}/mcp")));
    let gateway = start(backends.collect())?;
    let clients = [
        HttpClient::open(&gateway.url, ProtocolFamily::Sessions)?,
        HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?,
    ];
    let calls = (0..CALLS).map(|number| {
        let client = clients[number % clients.len()].share_session(number as u64);
        let call = move || own_answer(client, number, (number / 2) % BACKENDS);
        Ok(std::thread::Builder::new().stack_size(STACK_BYTES).spawn(call)?)
    });
    let calls = calls.collect::<anyhow::Result<Vec<_>>>()?;
    for call in calls {
        let answered = call.join().map_err(|_| anyhow::anyhow!("a client thread panicked"))?;
        answered.with_context(|| gateway.process.output())?;
    }
    Ok(())
}

/// Makes a call with a unique answer and checks that exactly this answer arrives.
fn own_answer(mut client: HttpClient, number: usize, backend: usize) -> anyhow::Result<()> {
    let text = format!("call {number}");
    let result = client.call(&format!("b{backend}_echo"), json!({"text": text, "number": number}))?;
    ensure!(text_of(&result) == text, "call {number} got {result}");
    let expected = json!({"instance": backend.to_string(), "arguments": {"text": text, "number": number}});
    ensure!(result["structuredContent"] == expected, "call {number} got {result}");
    Ok(())
}

#[test]
fn what_the_tests_need_is_named_where_it_is_missing() {
    let missing = cache::installed("npm", "nothing-of-this-name").map_err(|error| error.to_string());
    assert_eq!(missing, Err("testing/e2e/pins.txt names no npm nothing-of-this-name".to_owned()));
}
