//! Third-party clients in front of the real gateway. Each client lists and calls in each protocol family that
//! it supports. The scripts are in `clients/`; `./test` installs their runtimes.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::ProtocolFamily;
use vmcp_e2e::process::{fixture, run};
use vmcp_e2e::{cache, process::Process};

const TEXT: &str = "hello from a client";

/// A gateway in front of one backend for each protocol family and transport, so that every family of a client
/// is combined with every family of a backend.
struct ClientTest {
    gateway: Gateway,
    _fixtures: Vec<Process>,
}

/// The backends of a [`ClientTest`].
const BACKENDS: [&str; 4] = ["old-stdio", "new-stdio", "old-http", "new-http"];

impl ClientTest {
    fn start() -> anyhow::Result<Self> {
        let mut backends = Vec::new();
        let mut fixtures = Vec::new();
        for name in BACKENDS {
            let family =
                if name.starts_with("old") { ProtocolFamily::Sessions } else { ProtocolFamily::Stateless };
            let words = ["echo", "--protocol", family.version(), "--instance", name];
            if name.ends_with("stdio") {
                backends.push(Backend::stdio(name, &fixture(&words)?));
            } else {
                let mut running = Process::start(fixture(&words)?.args(["--transport", "http"]))?;
                backends.push(Backend::http(name, running.wait_for_url()?));
                fixtures.push(running);
            }
        }
        let gateway = Gateway::start(&config(NamePolicy::Prefixed, &backends, ""))?;
        Ok(Self { gateway, _fixtures: fixtures })
    }

    /// Runs a script once for each protocol family and backend. The script prints the protocol version, the
    /// listed tools, and the text of a tool's answer.
    fn check(
        &self,
        families: &[ProtocolFamily],
        script: impl Fn(&str, &str, &str) -> anyhow::Result<Command>,
    ) -> anyhow::Result<()> {
        for family in families {
            for backend in BACKENDS {
                let tool = format!("{backend}_echo");
                let word = if *family == ProtocolFamily::Sessions { "session" } else { "stateless" };
                let mut command = script(&self.gateway.url, word, &tool)?;
                let told = run(&mut command)
                    .with_context(|| format!("the gateway said:\n{}", self.gateway.process.output()))?;
                let seen: Value = serde_json::from_str(&told).with_context(|| told.clone())?;
                ensure!(seen["version"] == family.version(), "{family:?}, {tool}: {seen}");
                ensure!(seen["text"] == TEXT, "{family:?}, {tool}: {seen}");
                self.lists_everything(&seen["tools"])?;
            }
        }
        Ok(())
    }

    fn lists_everything(&self, tools: &Value) -> anyhow::Result<()> {
        let listed: Vec<&str> = tools.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for backend in BACKENDS {
            for tool in ["echo", "whoami", "sleep", "crash", "grow"] {
                let name = format!("{backend}_{tool}");
                ensure!(listed.contains(&name.as_str()), "{name} is not in {listed:?}");
            }
        }
        ensure!(listed.len() == 5 * BACKENDS.len(), "more tools than there are: {listed:?}");
        Ok(())
    }
}

fn python(venv: &str, script: &str, words: [&str; 3]) -> anyhow::Result<Command> {
    let mut command = Command::new(cache::python(venv)?);
    command.arg(cache::project_file("clients").join(script)).args(words);
    Ok(command)
}

fn node(package: &str, script: &str, words: [&str; 3]) -> anyhow::Result<Command> {
    let mut command = Command::new(cache::node()?);
    command
        .arg(cache::project_file("clients").join(script))
        .arg(cache::installed("npm", package)?)
        .args(words);
    Ok(command)
}

#[test]
fn the_python_sdk_lists_and_calls() -> anyhow::Result<()> {
    let scene = ClientTest::start()?;
    scene.check(&ProtocolFamily::ALL, |url, family, tool| python("sdk", "python_sdk.py", [url, family, tool]))
}

#[test]
fn fastmcp_lists_and_calls() -> anyhow::Result<()> {
    let scene = ClientTest::start()?;
    scene.check(&ProtocolFamily::ALL, |url, family, tool| {
        python("fastmcp", "fastmcp_client.py", [url, family, tool])
    })
}

#[test]
fn the_typescript_client_lists_and_calls() -> anyhow::Result<()> {
    let scene = ClientTest::start()?;
    scene.check(&ProtocolFamily::ALL, |url, family, tool| {
        node("client", "typescript_client.mjs", [url, family, tool])
    })
}

#[test]
fn version_1_of_the_typescript_sdk_lists_and_calls() -> anyhow::Result<()> {
    let scene = ClientTest::start()?;
    scene.check(&[ProtocolFamily::Sessions], |url, family, tool| {
        node("sdk", "typescript_sdk.mjs", [url, family, tool])
    })
}

#[test]
fn the_inspector_lists_and_calls() -> anyhow::Result<()> {
    let scene = ClientTest::start()?;
    let home = tempfile::tempdir()?;
    let inspect = |family: &str, words: &[&str]| -> anyhow::Result<Value> {
        let mut command = Command::new(cache::node()?);
        command
            .arg(cache::npm("inspector", "@modelcontextprotocol/inspector/clients/launcher/build/index.js")?);
        command.args(["--cli", &scene.gateway.url, "--transport", "http", "--protocol-era", family]);
        // The inspector writes files into the home folder, so it receives a temporary one.
        command.args(["--format", "json", "--quiet"]).args(words).env("HOME", home.path());
        let told = run(&mut command)
            .with_context(|| format!("the gateway said:\n{}", scene.gateway.process.output()))?;
        serde_json::from_str(&told).with_context(|| told.clone())
    };
    // With these two settings the inspector does not fall back to the other protocol family.
    for family in ["legacy", "modern"] {
        let listed = inspect(family, &["--method", "tools/list"])?;
        let tools = listed["result"]["tools"].as_array().cloned().unwrap_or_default();
        scene.lists_everything(&tools.iter().map(|tool| tool["name"].clone()).collect())?;
        let arguments = serde_json::json!({"text": TEXT}).to_string();
        for backend in BACKENDS {
            let tool = format!("{backend}_echo");
            let words = ["--method", "tools/call", "--tool-name", &tool, "--tool-args-json", &arguments];
            let called = inspect(family, &words)?;
            ensure!(called["result"]["content"][0]["text"] == TEXT, "{family}, {tool}: {called}");
        }
    }
    Ok(())
}
