//! Changes by operators at a running gateway: buckets are reset or granted tokens, blocks are set and lifted.
//! Only the token of the state folder permits them, and each is recorded.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily};
use vmcp_e2e::process::{binary, fixture};
use vmcp_e2e::redis::Redis;
use vmcp_e2e::{http, wait};

const ADA: &str = "vmcp_adaadaadaadaadaadaadaadaadaadaadaadaadaadaa";

struct OperatorTest {
    folder: tempfile::TempDir,
    gateway: Gateway,
}

impl OperatorTest {
    fn start(store: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let admin = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let limits = format!(
            "admin: {{listen: \"{admin}\"}}\nstateFolder: {}\naudit: {{enabled: true, logFile: {}}}\n\
             rateLimiting:\n  shared: {{maxTokens: 50, refillPeriod: 1000h}}\n  \
             perUser: {{maxTokens: 3, refillPeriod: 1000h}}\n  \
             tools: [{{name: whoami, perUser: {{quota: {{calls: 2, per: month}}}}}}]\n{store}",
            path("state"),
            path("audit.jsonl")
        );
        let keys = format!("{{name: ada, hash: \"{}\"}}", vmcp_identity::hash_api_key(ADA));
        let incoming = format!("incomingAuth: {{type: apiKey, apiKeys: [{keys}]}}\n");
        let text = config(NamePolicy::Unchanged, &[Backend::stdio("echo", &fixture(&["echo"])?)], &limits);
        let text = text.replace("incomingAuth: {type: anonymous}\n", &incoming);
        std::fs::write(folder.path().join("vmcp.yaml"), &text)?;
        Ok(Self { gateway: Gateway::start(&text)?, folder })
    }

    fn count_passed(&self, tool: &str, attempts: usize) -> anyhow::Result<usize> {
        let mut client = HttpClient::open_with_token(&self.gateway.url, ProtocolFamily::Sessions, ADA)?;
        let mut count = 0;
        for _ in 0..attempts {
            let answer = client.ask("tools/call", json!({"name": tool, "arguments": {"text": "x"}}))?;
            let message: Value = serde_json::from_str(&answer.text)?;
            count += usize::from(message["result"].is_object() && message["result"]["isError"] != true);
        }
        Ok(count)
    }

    /// Runs `vmcp limits` and returns its output, or its error output if it fails.
    fn limits(&self, words: &[&str]) -> anyhow::Result<Result<String, String>> {
        let file = self.folder.path().join("vmcp.yaml");
        let output =
            Command::new(binary("vmcp")?).arg("limits").args(words).arg("--config").arg(file).output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
    }

    fn run_limits(&self, words: &[&str]) -> anyhow::Result<String> {
        self.limits(words)?.map_err(|error| anyhow::anyhow!("{words:?}: {error}"))
    }
}

fn check(store: &str) -> anyhow::Result<()> {
    let setting = OperatorTest::start(store)?;
    ensure!(setting.count_passed("echo", 5)? == 3);
    let said = setting.run_limits(&["grant", "echo", "--user", "ada", "--tokens", "2"])?;
    ensure!(said.contains("perUser") && said.contains("2 of 3") && !said.contains("shared"), "{said}");
    ensure!(setting.count_passed("echo", 5)? == 2);
    let said = setting.run_limits(&["reset", "echo", "--user", "ada"])?;
    ensure!(said.contains("3 of 3"), "{said}");
    ensure!(setting.count_passed("echo", 5)? == 3);
    // A calendar quota, and the bucket next to it.
    setting.run_limits(&["reset", "whoami", "--user", "ada"])?;
    ensure!(setting.count_passed("whoami", 5)? == 2);
    setting.run_limits(&["reset", "whoami", "--user", "ada"])?;
    ensure!(setting.count_passed("whoami", 5)? == 2);
    // Without a user, the shared buckets are reset.
    let said = setting.run_limits(&["reset", "echo"])?;
    ensure!(said.contains("shared") && said.contains("50 of 50") && !said.contains("perUser"), "{said}");
    let said = setting.run_limits(&["top"])?;
    ensure!(said.contains("ada of vmcp:api-key"), "{said}");
    let unknown = setting.limits(&["reset", "no_such_tool", "--user", "ada"])?;
    ensure!(unknown.as_ref().is_err_and(|error| error.contains("not found")), "{unknown:?}");
    let log = setting.folder.path().join("audit.jsonl");
    let recorded = wait::until("changes are recorded", || {
        let text = std::fs::read_to_string(&log).ok()?;
        let rows = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let changes: Vec<Value> = rows.filter(|row| row["type"] == "vmcp_limits_changed").collect();
        (changes.len() == 6).then_some(changes)
    })?;
    let change = &recorded[0]["metadata"]["extra"]["limits_change"];
    ensure!(
        *change
            == json!({"act": "grant", "tool": "echo", "issuer": "vmcp:api-key", "user": "ada", "tokens": 2}),
        "{change}"
    );
    ensure!(recorded[5]["outcome"] == "failure", "{}", recorded[5]);
    Ok(())
}

#[test]
fn an_operator_changes_limits_in_memory() -> anyhow::Result<()> {
    check("")
}

#[test]
fn an_operator_changes_limits_in_redis() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    check(&format!("  redis: {{url: \"{}\"}}\n", redis.url()))
}

/// A gateway that is shut down cleanly saves the levels for the next one. A damaged file is reported.
#[test]
fn a_restart_gives_no_user_a_fresh_budget() -> anyhow::Result<()> {
    let mut setting = OperatorTest::start("")?;
    ensure!(setting.count_passed("echo", 5)? == 3);
    ensure!(setting.count_passed("whoami", 5)? == 0, "the user's calls of all tools are spent");
    let text = std::fs::read_to_string(setting.folder.path().join("vmcp.yaml"))?;
    setting.gateway.process.signal(rustix::process::Signal::TERM)?;
    ensure!(setting.gateway.process.wait()?.success(), "{}", setting.gateway.process.output());
    let file = setting.folder.path().join("state/limits");
    let saved = std::fs::read(&file)?;
    ensure!(
        std::fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600,
        "the file is readable by others"
    );
    let is_named = saved.windows(3).any(|part| part == b"ada");
    ensure!(!is_named, "the file names a user");
    setting.gateway = Gateway::start(&text)?;
    ensure!(setting.count_passed("echo", 5)? == 0, "after a restart");
    setting.run_limits(&["grant", "echo", "--user", "ada", "--tokens", "1"])?;
    ensure!(setting.count_passed("echo", 5)? == 1);
    // After a kill, the last saved levels apply.
    setting.gateway.process.kill();
    setting.gateway = Gateway::start(&text)?;
    ensure!(setting.count_passed("echo", 5)? == 0, "after a kill");
    setting.gateway.process.kill();
    std::fs::write(&file, &saved[..saved.len() / 2])?;
    setting.gateway = Gateway::start(&text)?;
    setting.gateway.process.wait_for("a warning of the damaged file", |line| {
        (line.contains("limits start with full buckets") && line.contains("damaged")).then_some(())
    })?;
    ensure!(setting.count_passed("echo", 5)? == 3, "with a torn file");
    Ok(())
}

fn blocks(store: &str) -> anyhow::Result<()> {
    let setting = OperatorTest::start(store)?;
    setting.run_limits(&["block", "echo", "--user", "ada", "--for", "90s"])?;
    let mut client = HttpClient::open_with_token(&setting.gateway.url, ProtocolFamily::Sessions, ADA)?;
    let said = client.ask("tools/call", json!({"name": "echo", "arguments": {"text": "x"}}))?.text;
    ensure!(said.contains("blocked by an operator") && said.contains("retryAfterSeconds"), "{said}");
    ensure!(setting.count_passed("whoami", 1)? == 1, "another tool");
    setting.run_limits(&["unblock", "echo", "--user", "ada"])?;
    ensure!(setting.count_passed("echo", 1)? == 1, "after the block is lifted");
    setting.run_limits(&["block", "echo"])?;
    let said = client.ask("tools/call", json!({"name": "echo", "arguments": {"text": "x"}}))?.text;
    ensure!(said.contains("an operator has blocked it; do not try again"), "{said}");
    let status = http::get(&format!("{}/status", admin(&setting)?), &[])?.text()?;
    ensure!(status.contains("operators have blocked 1"), "{status}");
    if !store.is_empty() {
        // A running replica learns of the change with its next heartbeat, a new replica when it starts.
        let text = std::fs::read_to_string(setting.folder.path().join("vmcp.yaml"))?;
        let other = OperatorTest { gateway: Gateway::start(&text)?, folder: tempfile::tempdir()? };
        ensure!(other.count_passed("echo", 1)? == 0, "at a replica that comes later");
        setting.run_limits(&["unblock", "echo"])?;
        wait::until("the other replica hears of it", || {
            other.count_passed("echo", 1).ok().filter(|count| *count == 1)
        })?;
    }
    setting.run_limits(&["unblock", "echo"])?;
    let unknown = setting.limits(&["block", "no_such_tool"])?;
    ensure!(unknown.as_ref().is_err_and(|error| error.contains("not found")), "{unknown:?}");
    Ok(())
}

#[test]
fn an_operator_blocks_tools_in_memory() -> anyhow::Result<()> {
    blocks("")
}

#[test]
fn an_operator_blocks_tools_at_all_replicas() -> anyhow::Result<()> {
    let Some(redis) = Redis::for_test()? else { return Ok(()) };
    blocks(&format!("  redis: {{url: \"{}\"}}\n", redis.url()))
}

fn admin(setting: &OperatorTest) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(setting.folder.path().join("vmcp.yaml"))?;
    let address = text.split("listen: \"").nth(1).and_then(|rest| rest.split('"').next());
    Ok(format!("http://{}", address.context("an admin listener")?))
}

/// Neither a web page in a browser nor another user of the machine can change limits.
#[test]
fn only_the_token_of_the_state_folder_changes_limits() -> anyhow::Result<()> {
    let setting = OperatorTest::start("")?;
    let token_file = setting.folder.path().join("state/operator-token");
    ensure!(
        std::fs::metadata(&token_file)?.permissions().mode() & 0o777 == 0o600,
        "the file is readable by others"
    );
    let token = std::fs::read_to_string(&token_file)?;
    let (url, body) = (format!("{}/limits/reset", admin(&setting)?), r#"{"tool": "echo"}"#);
    let bearer = |token: &str| format!("Bearer {token}");
    let post = |headers: &[(&str, &str)], body: &str| {
        http::send("POST", &url, headers, body.as_bytes()).map(|answer| answer.status)
    };
    let good = &*bearer(token.trim());
    ensure!(post(&[("authorization", good)], body)? == 200);
    ensure!(post(&[], body)? == 401, "without a token");
    ensure!(post(&[("authorization", &bearer("vmcp_guess"))], body)? == 401, "a wrong one");
    ensure!(post(&[("authorization", good), ("origin", "http://evil.example")], body)? == 403, "a page");
    ensure!(post(&[("authorization", good), ("host", "evil.example")], body)? == 403, "a rebound name");
    ensure!(post(&[("authorization", good)], "{}")? == 400, "no tool");
    ensure!(
        post(&[("authorization", good)], r#"{"tool": "echo", "tokens": 1}"#)? == 400,
        "tokens for a reset"
    );
    ensure!(
        post(&[("authorization", good)], &format!("\"{}\"", "x".repeat(100_000)))? == 413,
        "a large body"
    );
    // The client listener does not have this endpoint.
    let clients = setting.gateway.url.replace("/mcp", "/limits/reset");
    let status = http::send("POST", &clients, &[("authorization", good)], body.as_bytes())?.status;
    ensure!([401, 403, 404, 405].contains(&status), "on the client listener: {status}");
    Ok(())
}

#[test]
fn a_token_that_others_could_read_is_not_used() -> anyhow::Result<()> {
    let setting = OperatorTest::start("")?;
    let token_file = setting.folder.path().join("state/operator-token");
    std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(0o644))?;
    let text = std::fs::read_to_string(setting.folder.path().join("vmcp.yaml"))?;
    drop(setting.gateway);
    let mut again = Gateway::start(&text)?;
    again
        .process
        .wait_for("a warning of the token", |line| line.contains("may be read by others").then_some(()))?;
    ensure!(Path::new(&token_file).exists(), "it is left for the operator to look at");
    Ok(())
}
