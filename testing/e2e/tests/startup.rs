//! What clients experience while the gateway starts.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use vmcp_e2e::gateway::{Backend, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, ProtocolFamily, StdioClient, names, text_of};
use vmcp_e2e::process::{binary, fixture};

/// Clients such as the OpenAI Agents SDK give a server five seconds for its handshake and its first list.
const FIRST_LIST: Duration = Duration::from_millis(4500);

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
