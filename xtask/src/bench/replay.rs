//! `cargo xtask bench replay`: the duration of `vmcp limits replay` for a million recorded calls, against
//! only reading the same file in the same run.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::{cargo, target};

/// How many calls the record has.
const CALLS: u64 = 1_000_000;
/// How many tools the calls are distributed over, and users.
const TOOLS: u64 = 200;
const USERS: u64 = 20_000;
/// The maximum duration of a replay in seconds.
const SECONDS_MAX: f64 = 10.0;

/// Limits of every kind. The calls arrive every millisecond on average.
const CONFIG: &str = "name: bench
incomingAuth: {type: anonymous}
rateLimiting:
  anonymous: address
  shared: {maxTokens: 100000, refillPeriod: 2m}
  perUser: {windows: [{maxTokens: 3, refillPeriod: 1m}, {maxTokens: 20, refillPeriod: 24h}]}
  tools:
    - {name: \"tool_1*\", perUser: {maxTokens: 2, refillPeriod: 1m}, cost: 2}
    - {name: \"*_7\", group: true, shared: {maxTokens: 100, refillPeriod: 1m}, concurrency: {shared: 5}}
";

/// Generates the record, replays it and prints the durations.
pub(super) fn run() -> anyhow::Result<()> {
    cargo(&["build", "--quiet", "--release", "-p", "vmcp-gateway"])?;
    let vmcp = target()?.join("release/vmcp");
    let folder = tempfile::tempdir()?;
    let (audit, config) = (folder.path().join("audit.jsonl"), folder.path().join("new.yaml"));
    std::fs::write(&config, CONFIG)?;
    generate(&audit)?;
    let begun = Instant::now();
    let mut lines = 0;
    let mut reader = BufReader::with_capacity(1 << 20, File::open(&audit)?);
    while reader.skip_until(b'\n')? > 0 {
        lines += 1;
    }
    let read = begun.elapsed().as_secs_f64();
    ensure!(lines == CALLS, "{lines} lines were generated");
    let begun = Instant::now();
    let output =
        Command::new(&vmcp).args(["limits", "replay"]).arg(&audit).arg("--config").arg(&config).output()?;
    let took = begun.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8(output.stdout)?;
    let head = report.lines().take(3).collect::<Vec<_>>().join("\n");
    ensure!(head.starts_with(&format!("{CALLS} calls of {TOOLS} tools")), "{report}");
    let size = std::fs::metadata(&audit)?.len() >> 20;
    println!("{head}\n");
    println!("{CALLS} calls, {size} MiB: replayed in {took:.2} s; only finding the lines takes {read:.2} s");
    ensure!(took < SECONDS_MAX, "more than {SECONDS_MAX} s");
    Ok(())
}

/// Writes records in the gateway's own format. Their times are not strictly ordered, because calls do not end
/// in the order in which they begin.
fn generate(path: &Path) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("{}", path.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut state = 1_u64;
    // A step of a linear congruential generator: the same record in every run.
    let mut random_below = |sides: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % sides
    };
    for call in 0..CALLS {
        let (tool, user, duration_us) = (random_below(TOOLS), random_below(USERS), random_below(400_000));
        let at = 1_767_225_600_000_000 + call * 1000 + random_below(900) + random_below(50_000);
        writeln!(
            out,
            "{{\"audit_id\":\"00000000-0000-4000-8000-{call:012x}\",\"type\":\"mcp_tool_call\",\
             \"logged_at\":\"2026-01-01T00:00:00.000000Z\",\"outcome\":\"success\",\"component\":\"vmcp-server\",\
             \"source\":{{\"type\":\"network\",\"value\":\"10.0.0.1\"}},\
             \"subjects\":{{\"user\":\"User {user}\",\"user_id\":\"user-{user}\",\"issuer\":\"https://issuer.example.com\"}},\
             \"target\":{{\"endpoint\":\"/mcp\",\"method\":\"tools/call\",\"type\":\"tool\",\"name\":\"tool_{tool}\"}},\
             \"metadata\":{{\"extra\":{{\"duration_ms\":{},\"duration_us\":{duration_us},\"time_us\":{at},\
             \"transport\":\"streamable-http\",\"backend_name\":\"backend-{}\",\"backend_tool\":\"tool_{tool}\",\
             \"rate_limit\":{{\"decision\":\"admitted\",\"would_refuse\":0,\"waited_us\":0,\"refunded\":false}}}}}}}}",
            duration_us / 1000,
            tool % 10
        )?;
    }
    out.flush()?;
    Ok(())
}
