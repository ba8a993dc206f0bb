//! `cargo xtask bench`: what the gateway adds to a call, held against calling the same backend directly, in one run.
//! Shared machines are noisy, so rounds of every contender are interleaved and only ratios of medians are claimed.

mod replay;
mod sessions;
mod tokens;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use vmcp_e2e::cache;
use vmcp_e2e::identity::{Format, IdentityProvider};

use crate::root;

/// How long one contender is measured in one round.
const ROUND: Duration = Duration::from_millis(1500);
/// How many rounds each contender gets at each number of connections.
const ROUNDS: usize = 7;
/// Connections at once.
const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// Which bench to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bench {
    /// Calls through the gateway against the same calls made directly.
    Calls,
    /// Decisions of the limiter.
    Limits,
    /// Limits before a million recorded calls.
    Replay,
    /// What an idle session of a client takes in memory, a hundred thousand at once.
    Sessions,
    /// What `find_tool` and `call_tool` save in definitions and cost in turns.
    Tokens,
    /// How much of what is wanted the tool search finds; writes docs/search.md.
    Retrieval,
    /// What a tool search costs among ten thousand tools; writes docs/search.md.
    Search,
}

/// Runs a bench and prints its table.
pub(crate) fn run(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Limits => {
            cargo(&["bench", "--quiet", "-p", "vmcp-ratelimit", "--bench", "decision"])?;
            cargo(&["run", "--quiet", "--release", "-p", "vmcp-ratelimit-redis", "--example", "bench"])?;
            cargo(&["run", "--quiet", "--release", "-p", "vmcp-ratelimit-redis", "--example", "leases"])
        }
        Bench::Calls => calls(),
        Bench::Replay => replay::run(),
        Bench::Sessions => sessions::run(),
        Bench::Tokens => tokens::run(),
        Bench::Retrieval => {
            let bfcl = bfcl()?.display().to_string();
            search(&["retrieval", "--bfcl", &bfcl])
        }
        Bench::Search => search(&["search"]),
    }
}

/// Labelled requests nobody here wrote (Apache-2.0).
const BFCL: &str = "bfcl-eval==2026.3.23";

/// The folder of BFCL's data. Installs the package into the cache, without what it needs to run, if it is not there.
fn bfcl() -> anyhow::Result<PathBuf> {
    let folder = cache::root()?.join(BFCL);
    let data = folder.join("bfcl_eval/data");
    if !data.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&folder).arg(BFCL);
        ensure!(pip.status().context("python3 does not start")?.success(), "pip cannot install {BFCL}");
    }
    Ok(data)
}

fn search(words: &[&str]) -> anyhow::Result<()> {
    let data = root().join("../shared/data").display().to_string();
    let page = root().join("docs/search.md").display().to_string();
    let tool =
        ["run", "--quiet", "--release", "-p", "vmcp-search-bench", "--", "--data", &data, "--page", &page];
    cargo(&[&tool[..], words].concat())
}

fn cargo(words: &[&str]) -> anyhow::Result<()> {
    let status =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(words).status()?;
    ensure!(status.success(), "cargo {} failed", words.join(" "));
    Ok(())
}

/// A server of the bench; killed when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(vmcp: &Path, words: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(vmcp);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{} does not start", vmcp.display()))?;
        let said = child.stderr.take().context("stderr is piped")?;
        let mut lines = BufReader::new(said).lines();
        for line in &mut lines {
            let line = line?;
            if let Some((_, rest)) = line.split_once("serving http://") {
                let address = rest.trim_end_matches("/mcp").to_owned();
                // Read on, or the server blocks once the pipe is full.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, address });
            }
        }
        bail!("{} {} said no address", vmcp.display(), words.join(" "))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing of the bench outlives it; a server that is gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn calls() -> anyhow::Result<()> {
    cargo(&["build", "--quiet", "--release", "-p", "vmcp-gateway"])?;
    let vmcp = target()?.join("release/vmcp");
    let backend = Server::start(&vmcp, &["demo-server", "glossary", "--http", "0"])?;
    let folder = std::env::temp_dir().join(format!("vmcp-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let config = |name: &str, more: &str| -> anyhow::Result<String> {
        let file = folder.join(name);
        let text = format!(
            "name: bench\nincomingAuth: {{type: local}}\nbackends:\n  - {{name: glossary, transport: streamable-http, \
             url: \"http://{}/mcp\"}}\n{more}",
            backend.address
        );
        std::fs::write(&file, text)?;
        Ok(file.display().to_string())
    };
    let limits = "rateLimiting:\n  shared: {maxTokens: 1000000, refillPeriod: 1s}\n  perUser: {maxTokens: 1000000, \
                  refillPeriod: 1s}\n  tools: [{name: define, shared: {maxTokens: 1000000, refillPeriod: 1s}, perUser: \
                  {maxTokens: 1000000, refillPeriod: 1s}}]\n";
    let plain = config("plain.yaml", "")?;
    let limited = config("limited.yaml", limits)?;
    let through = Server::start(&vmcp, &["serve", "--port", "0", "-c", &plain])?;
    let metered = Server::start(&vmcp, &["serve", "--port", "0", "-c", &limited])?;
    let provider = IdentityProvider::start()?;
    let token = provider.user_token(Format::Signed, "ada", RESOURCE)?;
    let guarded = config("guarded.yaml", limits)?;
    let text = std::fs::read_to_string(&guarded)?;
    std::fs::write(&guarded, text.replace("incomingAuth: {type: local}\n", &policies(&provider.issuer)))?;
    let guarded = Server::start(&vmcp, &["serve", "--port", "0", "-c", &guarded])?;
    let contenders = [
        ("direct", &backend, None),
        ("vmcp", &through, None),
        ("vmcp, four limits in memory", &metered, None),
        ("vmcp, four limits, token and policies", &guarded, Some(&*token)),
    ];
    println!(
        "tools/call on 2026-07-28, answers of about 200 bytes; medians of {ROUNDS} interleaved rounds of {ROUND:?}"
    );
    println!(
        "| connections | road | calls/s | to direct | median | added |\n| --- | --- | --- | --- | --- | --- |"
    );
    for connections in CONNECTIONS {
        let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for ((_, server, token), samples) in contenders.iter().zip(&mut samples) {
                samples.push(measure(&server.address, connections, *token)?);
            }
        }
        let middle = |values: &[Sample], of: fn(&Sample) -> f64| median(values.iter().map(of).collect());
        let direct = samples.first().context("there is a first contender")?;
        let (base_rate, base_time) = (middle(direct, |one| one.rate), middle(direct, |one| one.micros));
        for ((name, ..), values) in contenders.iter().zip(&samples) {
            let (rate, micros) = (middle(values, |one| one.rate), middle(values, |one| one.micros));
            println!(
                "| {connections} | {name} | {rate:.0} | {:.2} | {micros:.0} µs | {:.0} µs |",
                rate / base_rate,
                micros - base_time
            );
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

struct Sample {
    rate: f64,
    micros: f64,
}

/// What the tokens of the bench are meant for.
const RESOURCE: &str = "http://127.0.0.1:4483/mcp";

/// A caller known by a signed token, and a hundred and one policies, one of which lets her call.
fn policies(issuer: &str) -> String {
    let mut text = format!(
        "incomingAuth:\n  type: oidc\n  oidc: {{issuer: \"{issuer}\", audience: \"{RESOURCE}\", scopes: [mcp], \
         protectedResourceAllowPrivateIp: true}}\n  authz:\n    type: cedar\n    policies:\n"
    );
    let tools = (0..100).map(|number| format!("other_{number}")).chain(["define".to_owned()]);
    for tool in tools {
        text += &format!(
            "      - 'permit(principal, action == Action::\"call_tool\", resource == Tool::\"{tool}\") when {{ \
             principal.claim_sub == \"ada\" }};'\n"
        );
    }
    text
}

/// Calls as fast as answers come, on so many kept connections.
fn measure(address: &str, connections: usize, token: Option<&str>) -> anyhow::Result<Sample> {
    let begun = Instant::now();
    let stop = begun + ROUND;
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..connections).map(|_| scope.spawn(move || caller(address, stop, token))).collect();
        let mut times = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(more) => times.extend(more?),
                Err(_) => bail!("a caller panicked"),
            }
        }
        Ok(times)
    })?;
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    ensure!(!times.is_empty(), "no call was answered");
    times.sort_by(f64::total_cmp);
    Ok(Sample { rate, micros: times.get(times.len() / 2).copied().unwrap_or_default() })
}

fn caller(address: &str, stop: Instant, token: Option<&str>) -> anyhow::Result<Vec<f64>> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"define","arguments":{"word":"gateway"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let credential = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {address}\r\n{credential}Content-Type: application/json\r\nAccept: application/json, \
         text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: \
         define\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_ref().set_nodelay(true)?;
    let mut times = Vec::new();
    let (mut line, mut answer) = (String::new(), Vec::new());
    while Instant::now() < stop {
        let begun = Instant::now();
        stream.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        let mut status = String::new();
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            if status.is_empty() {
                status.clone_from(&line);
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        answer.resize(length, 0);
        stream.read_exact(&mut answer)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        // Every answer is looked at: a fast refusal is no result.
        ensure!(
            answer.windows(8).any(|part| part == b"gateway:"),
            "{status}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(times)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn target() -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo").args(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}
