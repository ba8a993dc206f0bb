//! `cargo xtask bench isolation`: the cost of separate connections per caller at a backend with state. Each
//! caller makes two calls, one caller after the other. Measured are one shared connection, one connection for
//! each caller, and one connection for each call. The last case calls the backend directly, like a gateway
//! that keeps no connections.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;
use vmcp_e2e::mcp::{Client as _, HttpClient, ProtocolFamily, StdioClient};
use vmcp_e2e::process::{Process, run as run_command};

use super::{Server, cargo, target};

/// Numbers of callers.
const CALLERS: [usize; 3] = [1, 100, 1000];
/// How many single-call connections are timed.
const SINGLE_CALLS: usize = 50;

/// The transport to the backend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Http,
    Stdio,
}

/// The cost of one setting of `isolation`: median durations of a first and a later call, memory in bytes.
struct Cost {
    first: Duration,
    later: Duration,
    gateway_bytes: u64,
    process_count: usize,
    process_bytes: u64,
}

/// Measures all cases and prints the table.
pub(super) fn run() -> anyhow::Result<()> {
    cargo(&["build", "--quiet", "--release", "-p", "vmcp-gateway", "-p", "vmcp-fixtures"])?;
    let folder = target()?.join("release");
    let (vmcp, fixture) = (folder.join("vmcp"), folder.join("vmcp-fixture"));
    println!(
        "| backend | callers | connection | first call | later call | gateway, more | processes | in them |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for transport in [Transport::Http, Transport::Stdio] {
        let name = if transport == Transport::Http { "HTTP" } else { "stdio" };
        for count in CALLERS {
            for isolation in ["shared", "perCaller"] {
                let cost = measure((&vmcp, &fixture), transport, isolation, count)?;
                println!(
                    "| {name} | {count} | {isolation} | {:.2} ms | {:.2} ms | {:.1} MB | {} | {:.0} MB |",
                    millis(cost.first),
                    millis(cost.later),
                    megabytes(cost.gateway_bytes),
                    cost.process_count,
                    megabytes(cost.process_bytes),
                );
            }
        }
        let each = single_calls(&fixture, transport)?;
        println!("| {name} | any | one for each call | {0:.2} ms | {0:.2} ms | | | |", millis(each));
    }
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[allow(clippy::cast_precision_loss, reason = "a size to be read by people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn measure(
    (vmcp, fixture): (&Path, &Path),
    transport: Transport,
    isolation: &str,
    count: usize,
) -> anyhow::Result<Cost> {
    let folder = tempfile::tempdir()?;
    let keys = (0..count).map(|number| new_key(vmcp, number)).collect::<anyhow::Result<Vec<_>>>()?;
    let (_backend, entry) = backend(fixture, transport)?;
    let mut text = format!(
        "name: bench\nbackends:\n  - {{name: echo, {entry}, isolation: {isolation}}}\nisolation: {{maxProcesses: 2000}}\n\
         incomingAuth:\n  type: apiKey\n  apiKeys:\n"
    );
    for (_, entry) in &keys {
        writeln!(text, "    {entry}")?;
    }
    let file = folder.path().join("isolation.yaml");
    std::fs::write(&file, text)?;
    let gateway = Server::start(vmcp, &["serve", "--port", "0", "-c", &file.display().to_string()])?;
    let url = format!("http://{}/mcp", gateway.address);
    let mut clients = keys
        .iter()
        .map(|(key, _)| HttpClient::open_with_token(&url, ProtocolFamily::Stateless, key))
        .collect::<anyhow::Result<Vec<_>>>()?;
    clients[0].ask("tools/list", json!({}))?;
    // The gateway starts its spare process after the backend's own process, so the memory is read after a
    // pause.
    std::thread::sleep(Duration::from_secs(1));
    let before = resident_bytes(gateway.child.id())?;
    let first = median_call_time(&mut clients)?;
    let later = median_call_time(&mut clients)?;
    let processes = children(gateway.child.id())?;
    let process_bytes = processes.iter().map(|pid| resident_bytes(*pid)).sum::<anyhow::Result<u64>>()?;
    Ok(Cost {
        first,
        later,
        gateway_bytes: resident_bytes(gateway.child.id())?.saturating_sub(before),
        process_count: processes.len(),
        process_bytes,
    })
}

/// Creates an API key. Returns the key and its entry in a configuration.
fn new_key(vmcp: &Path, number: usize) -> anyhow::Result<(String, String)> {
    let output = run_command(Command::new(vmcp).args(["auth", "new-key", &format!("k{number}")]))?;
    let line = |start: &str| output.lines().map(str::trim).find(|line| line.starts_with(start));
    let key = line("key").and_then(|line| line.split_ascii_whitespace().nth(1)).context("a key")?;
    Ok((key.to_owned(), line("- {name").context("an entry")?.to_owned()))
}

/// Starts the backend if it is a separate server. Returns it with its entry in a configuration.
fn backend(fixture: &Path, transport: Transport) -> anyhow::Result<(Option<Process>, String)> {
    match transport {
        Transport::Stdio => Ok((None, format!("command: {}, args: [echo]", fixture.display()))),
        Transport::Http => {
            let mut command = Command::new(fixture);
            let words = ["echo", "--transport", "http", "--protocol", "2025-11-25", "--journal", "/dev/null"];
            let mut process = Process::start(command.args(words))?;
            let url = process.wait_for_url()?;
            Ok((Some(process), format!("url: \"{url}\"")))
        }
    }
}

/// Median duration of one call, made by each client in turn.
fn median_call_time(clients: &mut [HttpClient]) -> anyhow::Result<Duration> {
    let timed = clients.iter_mut().map(|client| {
        let begun = Instant::now();
        client.call("echo", json!({"text": "x"}))?;
        Ok(begun.elapsed())
    });
    middle_time(timed.collect::<anyhow::Result<Vec<_>>>()?)
}

fn middle_time(mut times: Vec<Duration>) -> anyhow::Result<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("something was timed")
}

/// Median duration of one call over a new connection made directly to the backend.
fn single_calls(fixture: &Path, transport: Transport) -> anyhow::Result<Duration> {
    let (process, _) = backend(fixture, transport)?;
    let url = process.map(|mut process| process.wait_for_url().map(|url| (process, url))).transpose()?;
    let timed = (0..SINGLE_CALLS).map(|_| {
        let begun = Instant::now();
        let result = match &url {
            Some((_, url)) => {
                HttpClient::open(url, ProtocolFamily::Sessions)?.call("echo", json!({"text": "x"}))?
            }
            None => {
                let mut command = Command::new(fixture);
                StdioClient::start(command.arg("echo"), ProtocolFamily::Sessions)?
                    .call("echo", json!({"text": "x"}))?
            }
        };
        ensure!(result["isError"] != true, "{result}");
        Ok(begun.elapsed())
    });
    middle_time(timed.collect::<anyhow::Result<Vec<_>>>()?)
}

fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut all = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let list = std::fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
        all.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(all)
}

fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("a resident size")?;
    let kilobytes: u64 = line.split_ascii_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kilobytes * 1024)
}
