//! The fixtures without a gateway behave as the other tests expect of them.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::mcp::{Client, HttpClient, ProtocolFamily, StdioClient, names, text_of};
use vmcp_e2e::process::{Process, fixture};
use vmcp_e2e::{cache, http, wait};

fn over_http(words: &[&str]) -> anyhow::Result<(Process, String)> {
    let mut process = Process::start(fixture(words)?.args(["--transport", "http"]))?;
    let url = process.wait_for_url()?;
    Ok((process, url))
}

#[test]
fn echo_answers_in_both_eras_on_both_transports() -> anyhow::Result<()> {
    let words = ["echo", "--instance", "seven"];
    let (_process, url) = over_http(&words)?;
    for family in ProtocolFamily::ALL {
        let mut clients: [Box<dyn Client>; 2] = [
            Box::new(HttpClient::open(&url, family)?),
            Box::new(StdioClient::start(&mut fixture(&words)?, family)?),
        ];
        for client in &mut clients {
            ensure!(names(&client.list_tools()?).len() >= 5, "{family:?}");
            ensure!(text_of(&client.call("echo", json!({"text": "hi"}))?) == "hi", "{family:?}");
            ensure!(text_of(&client.call("whoami", json!({}))?) == "seven", "{family:?}");
        }
    }
    Ok(())
}

#[test]
fn a_fixture_of_one_era_refuses_the_other() -> anyhow::Result<()> {
    for (speaks, other) in [
        (ProtocolFamily::Sessions, ProtocolFamily::Stateless),
        (ProtocolFamily::Stateless, ProtocolFamily::Sessions),
    ] {
        let (_process, url) = over_http(&["echo", "--protocol", speaks.version()])?;
        HttpClient::open(&url, speaks)?.list_tools()?;
        let refused = HttpClient::open(&url, other).and_then(|mut client| client.list_tools());
        ensure!(refused.is_err(), "{speaks:?} answers {other:?}");
    }
    Ok(())
}

#[test]
fn a_list_that_grows_is_announced_in_both_eras() -> anyhow::Result<()> {
    let (_process, url) = over_http(&["echo"])?;
    let mut session = HttpClient::open(&url, ProtocolFamily::Sessions)?;
    let mut heard = session.listen()?;
    session.call("grow", json!({}))?;
    let told = heard.next_message()?.context("the session hears of it")?;
    ensure!(told.contains("notifications/tools/list_changed"), "{told}");

    let mut stateless = HttpClient::open(&url, ProtocolFamily::Stateless)?;
    let filter = json!({"notifications": {"toolsListChanged": true}});
    let mut heard = stateless.send_request("subscriptions/listen", filter)?;
    let acknowledged = heard.next_message()?.context("the subscription is acknowledged")?;
    ensure!(acknowledged.contains("notifications/subscriptions/acknowledged"), "{acknowledged}");
    HttpClient::open(&url, ProtocolFamily::Stateless)?.call("grow", json!({}))?;
    let told: Value = serde_json::from_str(&heard.next_message()?.context("the subscriber hears of it")?)?;
    ensure!(told["method"] == "notifications/tools/list_changed", "{told}");
    let tag = &told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
    ensure!(*tag == json!(stateless.last_id()), "{told}");
    Ok(())
}

#[test]
fn the_journal_tells_a_call_that_ends_from_one_that_is_left() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let journal = folder.path().join("journal");
    let (_process, url) = over_http(&["echo", "--journal", &journal.to_string_lossy()])?;
    let noted = |line: &str| {
        wait::until(&format!("the journal has `{line}`"), || {
            let text = std::fs::read_to_string(&journal).unwrap_or_default();
            text.lines().any(|noted| noted == line).then_some(())
        })
    };
    let mut client = HttpClient::open(&url, ProtocolFamily::Stateless)?;
    client.call("sleep", json!({"ms": 1, "key": "short"}))?;
    noted("end 0 sleep short")?;
    let call = json!({"name": "sleep", "arguments": {"ms": 600_000, "key": "long"}});
    let waiting = client.start_request("tools/call", call)?;
    noted("start 0 sleep long")?;
    drop(waiting);
    noted("cancelled 0 sleep long")
}

#[test]
fn a_crash_ends_the_process() -> anyhow::Result<()> {
    let (mut process, url) = over_http(&["echo"])?;
    let crashed = HttpClient::open(&url, ProtocolFamily::Stateless)?.call("crash", json!({}));
    ensure!(crashed.is_err(), "{crashed:?}");
    ensure!(process.wait()?.code() == Some(70), "{}", process.output());
    Ok(())
}

#[test]
fn floods_come_in_pages_or_at_once() -> anyhow::Result<()> {
    for words in [&["flood", "--tools", "1000"][..], &["flood", "--tools", "1000", "--page-size", "300"]] {
        let mut client = StdioClient::start(&mut fixture(words)?, ProtocolFamily::Sessions)?;
        ensure!(names(&client.list_tools()?).len() == 1000, "{words:?}");
    }
    Ok(())
}

#[test]
fn garbage_comes_after_what_it_is_told_to_keep() -> anyhow::Result<()> {
    let (_process, url) = over_http(&["garbage", "--after", "lists"])?;
    let mut client = HttpClient::open(&url, ProtocolFamily::Stateless)?;
    ensure!(client.list_tools()?.len() == 1, "the list is proper");
    ensure!(client.call("anything", json!({})).is_err(), "the call is not");
    let (_process, url) = over_http(&["garbage"])?;
    ensure!(HttpClient::open(&url, ProtocolFamily::Sessions)?.list_tools().is_err(), "the list is not");
    Ok(())
}

#[test]
fn a_catalogue_is_replayed_byte_for_byte() -> anyhow::Result<()> {
    let file = cache::project_file("catalogues/git.json");
    let recorded = std::fs::read_to_string(&file)?;
    let definitions = recorded.trim().trim_start_matches("{\"tools\": [").trim_end_matches("]}");
    let first = definitions.split("}, {\"name\"").next().unwrap_or_default();
    let mut command = fixture(&["replay", "--catalogue"])?;
    let mut client = StdioClient::start(command.arg(&file), ProtocolFamily::Sessions)?;
    let answer = client.ask("tools/list", json!({}))?;
    ensure!(answer.text.contains(first), "{first} is not in {}", answer.text);
    Ok(())
}

#[test]
fn the_older_transport_names_where_to_post() -> anyhow::Result<()> {
    let mut process = Process::start(&mut fixture(&["echo", "--transport", "sse"])?)?;
    let url = process.wait_for_url()?;
    let mut events = http::get(&url, &[("accept", "text/event-stream")])?.messages()?;
    let endpoint = events.next_message()?.context("the stream begins with the endpoint")?;
    let post = url.replace("/sse", &endpoint);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let accepted = http::send("POST", &post, &[("content-type", "application/json")], ping.as_bytes())?;
    ensure!(accepted.status == 202, "{}", accepted.status);
    let answer = events.next_message()?.context("the answer comes on the stream")?;
    ensure!(answer == r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "{answer}");
    Ok(())
}

#[test]
fn children_die_with_their_handle() -> anyhow::Result<()> {
    let mut parent = Command::new("sh");
    // The child's child is in the same process group, so it is killed too.
    parent.args(["-c", "sleep 600 & echo child $!; wait"]);
    let mut process = Process::start(&mut parent)?;
    let grandchild =
        process.wait_for("the child starts", |line| line.strip_prefix("child ").map(str::to_owned))?;
    drop(process);
    wait::until("the grandchild is gone", || {
        let status = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        (status.is_empty() || status.contains(") Z ")).then_some(())
    })
}
