//! Processes of stdio backends, as the real binary starts them: their environment, and that none outlives the
//! gateway.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, text_of};
use vmcp_e2e::process::{Signal, binary};
use vmcp_e2e::wait;

/// A server as a shell script. Its tool `told` returns the names of its environment variables and its limit
/// on open files. The script appends its process identifier to the file `$1`, and keeps running after the end
/// of its input.
const SERVER: &str = r#"
trap '' TERM HUP
echo $$ >> "$1"
BEFORE
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}\n' "$id" ;;
    *'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"told","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
    *'"tools/call"'*) names=$(env | cut -d= -f1 | tr '\n' ' ')
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s files=%s"}]}}\n' "$id" "$names" "$(ulimit -Sn)" ;;
    *'"id"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}\n' "$id" ;;
  esac
done
sleep 100
"#;

/// The server as a backend; it runs `before` first.
fn server(folder: &Path, before: &str) -> Backend {
    let mut command = Command::new("sh");
    command.arg("-c").arg(SERVER.replace("BEFORE", before)).arg("server").arg(pids(folder)).env("OWN", "1");
    Backend::stdio("server", &command)
}

fn pids(folder: &Path) -> std::path::PathBuf {
    folder.join("pids")
}

/// The process identifiers in the file whose processes still run.
fn living_pids(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(pids(folder)).unwrap_or_default();
    let runs = |pid: &&str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie has ended; only its new parent has not yet waited for it.
        stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
    };
    text.split_ascii_whitespace().filter(runs).map(str::to_owned).collect()
}

fn status_text(gateway: &Gateway) -> anyhow::Result<String> {
    let mut client = HttpClient::open(&gateway.url, ProtocolFamily::Stateless)?;
    Ok(text_of(&client.call("told", json!({}))?))
}

#[test]
fn a_child_gets_usual_variables_and_those_that_are_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let start = |more: &str| {
        let backend = server(folder.path(), "");
        let backend = if more.is_empty() { backend } else { backend.with(more) };
        let mut command = Command::new(binary("vmcp")?);
        for name in ["GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "REDIS_PASSWORD", "LC_MESSAGES", "https_proxy"]
        {
            command.env(name, "C");
        }
        Gateway::start_command(command, &config(NamePolicy::Unchanged, &[backend], ""))
    };
    let has = |said: &str, name: &str| said.split(' ').any(|word| word == name);
    let usual = status_text(&start("")?)?;
    for name in ["PATH", "HOME", "LC_MESSAGES", "https_proxy", "OWN"] {
        ensure!(has(&usual, name), "{name} is missing: {usual}");
    }
    for name in ["GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "REDIS_PASSWORD", "CARGO_MANIFEST_DIR"] {
        ensure!(!has(&usual, name), "{name} is passed: {usual}");
    }
    let named = status_text(&start("inheritEnv: [GITHUB_TOKEN, 'AWS_*']")?)?;
    ensure!(has(&named, "GITHUB_TOKEN") && has(&named, "AWS_SECRET_ACCESS_KEY"), "{named}");
    ensure!(!has(&named, "REDIS_PASSWORD"), "{named}");
    Ok(())
}

#[test]
fn a_child_that_ends_at_once_is_told_of_its_variables() -> anyhow::Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "exit 3"]);
    let config = config(NamePolicy::Unchanged, &[Backend::stdio("brief", &command)], "");
    let mut gateway = Gateway::start(&config)?;
    gateway.process.wait_for("a word about `inheritEnv`", |line| line.contains("inheritEnv").then_some(()))
}

#[test]
fn a_killed_gateway_leaves_no_child() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let gateway = Gateway::start(&config(NamePolicy::Unchanged, &[server(folder.path(), "")], ""))?;
    ensure!(living_pids(folder.path()).len() == 1, "it runs");
    gateway.process.signal(Signal::KILL)?;
    wait::until("the child has ended", || living_pids(folder.path()).is_empty().then_some(()))
}

#[test]
fn what_a_child_detached_ends_with_the_gateway_within_its_grace() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let detach = r#"file=$1; setsid sh -c 'echo $$ >> "$0"; trap "" TERM HUP; sleep 100; sleep 100' "$file" </dev/null >/dev/null 2>&1 &"#;
    let mut gateway = Gateway::start(&config(NamePolicy::Unchanged, &[server(folder.path(), detach)], ""))?;
    wait::until("both run", || (living_pids(folder.path()).len() == 2).then_some(()))?;
    let begun = Instant::now();
    gateway.process.terminate()?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    ensure!(living_pids(folder.path()).is_empty(), "left behind: {:?}", living_pids(folder.path()));
    Ok(())
}

#[test]
fn a_hangup_changes_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut gateway = Gateway::start(&config(NamePolicy::Unchanged, &[server(folder.path(), "")], ""))?;
    gateway.process.signal(Signal::HUP)?;
    gateway.process.wait_for("a line about it", |line| line.contains("SIGHUP is ignored").then_some(()))?;
    status_text(&gateway).map(drop)
}

#[test]
fn the_gateway_raises_its_bound_on_open_files_and_children_keep_theirs() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let text = config(NamePolicy::Unchanged, &[server(folder.path(), "")], "");
    let mut command = Command::new("sh");
    command.arg0("sh").args(["-c", "ulimit -Sn 300; ulimit -Hn 900; exec \"$@\"", "sh"]).arg(binary("vmcp")?);
    let mut gateway = Gateway::start_command(command, &text)?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.process.child().id()))?;
    let files = limits.lines().find(|line| line.starts_with("Max open files")).context("a line")?;
    ensure!(files.split_ascii_whitespace().nth(3) == Some("900"), "{files}");
    let said = status_text(&gateway)?;
    ensure!(said.ends_with("files=300"), "{said}");
    Ok(())
}

#[test]
fn a_child_that_floods_its_standard_error_does_not_fill_the_log() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let backend = server(folder.path(), "yes noise >&2 &");
    let mut gateway = Gateway::start(&config(NamePolicy::Unchanged, &[backend], ""))?;
    gateway.process.wait_for("how many lines were left out", |line| {
        line.contains("left out lines of the backend's standard error").then_some(())
    })?;
    status_text(&gateway)?;
    let lines = gateway.process.output().lines().filter(|line| line.contains("noise")).count();
    ensure!((50..500).contains(&lines), "{lines} lines of it are in the log");
    Ok(())
}
