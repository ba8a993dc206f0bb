//! What clients experience while the gateway starts.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use vmcp_e2e::gateway::{Backend, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, ProtocolFamily, StdioClient, names, text_of};
use vmcp_e2e::process::{binary, fixture};
use vmcp_e2e::wait;

/// Clients such as the OpenAI Agents SDK give a server five seconds for its handshake and its first list.
const FIRST_LIST: Duration = Duration::from_millis(4500);

/// A server that answers only after this many seconds, as one that `npx` installs.
fn slow_server(seconds: u32) -> anyhow::Result<Command> {
    let echo = fixture(&["echo"])?;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(format!("sleep {seconds}; exec \"$0\" \"$@\"")).arg(echo.get_program());
    command.args(echo.get_args());
    Ok(command)
}

#[test]
fn a_second_start_serves_the_last_lists_at_once() -> anyhow::Result<()> {
    let backends: Vec<_> = (1..=4)
        .map(|number| Ok(Backend::stdio(format!("slow{number}"), &slow_server(3)?)))
        .collect::<anyhow::Result<_>>()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, config(NamePolicy::Prefixed, &backends, ""))?;
    let start = |family| {
        let mut command = Command::new(binary("vmcp")?);
        command.arg("stdio").arg("--config").arg(&file).env("XDG_STATE_HOME", folder.path());
        StdioClient::start(&mut command, family)
    };
    let mut first = start(ProtocolFamily::Sessions)?;
    ensure!(first.list_tools()?.is_empty(), "no server has answered within the first two seconds");
    let complete = wait::until("all four servers have answered", || {
        let tools = first.list_tools().ok()?;
        let answered = names(&tools).iter().filter(|name| name.ends_with("_echo")).count();
        (answered == 4).then_some(tools)
    })?;
    drop(first);
    for family in ProtocolFamily::ALL {
        let started = Instant::now();
        let mut client = start(family)?;
        let listed = client.list_tools()?;
        let took = started.elapsed();
        ensure!(names(&listed) == names(&complete), "{family:?}: {listed:?}");
        // The servers answer after three seconds.
        ensure!(took < Duration::from_millis(1500), "{family:?}: the first list took {took:?}");
        ensure!(text_of(&client.call("slow4_echo", json!({"text": "x"}))?) == "x", "{family:?}");
        ensure!(client.list_tools()? == listed, "{family:?}: the answer of the servers changed the list");
    }
    Ok(())
}

#[test]
fn a_backend_that_hangs_does_not_hold_up_the_first_list() -> anyhow::Result<()> {
    // It never answers, and its first answer would be waited for.
    let mut hanging = Command::new("sleep");
    hanging.arg("1000");
    let backends = [
        Backend::stdio("one", &fixture(&["echo"])?),
        Backend::stdio("hanging", &hanging),
        Backend::stdio("two", &fixture(&["echo"])?),
    ];
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, config(NamePolicy::Prefixed, &backends, ""))?;
    for family in ProtocolFamily::ALL {
        let mut command = Command::new(binary("vmcp")?);
        command.arg("stdio").arg("--config").arg(&file);
        let started = Instant::now();
        let mut client = StdioClient::start(&mut command, family)?;
        let listed = names(&client.list_tools()?);
        let took = started.elapsed();
        ensure!(listed.iter().any(|name| name == "one_echo"), "{family:?}: {listed:?}");
        ensure!(listed.iter().any(|name| name == "two_echo"), "{family:?}: {listed:?}");
        ensure!(took < FIRST_LIST, "{family:?}: the first list took {took:?}");
        ensure!(text_of(&client.call("two_echo", json!({"text": "x"}))?) == "x", "{family:?}");
    }
    Ok(())
}
