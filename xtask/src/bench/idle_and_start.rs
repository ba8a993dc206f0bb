//! Memory of the idle gateway, and the time from its start to the first answered call.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use vmcp_e2e::gateway::{NamePolicy, config};
use vmcp_e2e::process::Process;

use super::lists;
use super::rounds::median;
use crate::bench::bench_env::{BenchServer, Programs};
use crate::bench::connection;
use crate::bench::request::{ProtocolFamily, Request, Target};

/// How many backends the gateway has, and how many tools in total.
const BACKENDS: usize = 10;
const TOOLS: usize = 200;
/// How long the gateway is idle before its memory is read.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// How often the gateway is started.
const STARTS: usize = 5;

/// Returns the rows of the table of targets.
pub(crate) fn measure(programs: &Programs) -> anyhow::Result<String> {
    let fast = BenchServer::start(programs, TOOLS / BACKENDS, "both")?;
    let text = config(NamePolicy::Prefixed, &fast.backends(BACKENDS), "");
    let mut gateway = programs.gateway(&text)?;
    lists::wait_for(&gateway.url, TOOLS)?;
    std::thread::sleep(SETTLE_TIME);
    let idle = resident_bytes(gateway.process.child().id())?;
    drop(gateway);
    let mut start_times = Vec::new();
    for _ in 0..STARTS {
        start_times.push(time_to_first_call(programs, &text)?.as_secs_f64() * 1e3);
    }
    let mut rows = String::new();
    let _ = writeln!(
        rows,
        "| resident when idle, {BACKENDS} backends and {TOOLS} tools | ≤ 30 MB | {:.1} MB |",
        idle as f64 / 1e6
    );
    let most = start_times.iter().copied().fold(0.0, f64::max);
    let _ = writeln!(
        rows,
        "| start to the first answered call, {BACKENDS} backends that run already | ≤ 100 ms | {:.0} ms (at most {most:.0}) |",
        median(start_times)
    );
    Ok(rows)
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes << 10)
}

/// The time from the start of the program to the first response of a tool.
fn time_to_first_call(programs: &Programs, text: &str) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, text)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let target = Target::new(&address, ProtocolFamily::Stateless);
    let request = Request::call("b7_json_200", "gateway", 120).encode_for(&target, None)?;
    let mut command = Command::new(&programs.vmcp);
    command.arg("serve").arg("--config").arg(&file).args(["--port", &port.to_string()]).stdin(Stdio::null());
    let started = Instant::now();
    let _process = Process::start(&mut command)?;
    let limit = started + Duration::from_secs(10);
    let stream = loop {
        match TcpStream::connect(&address) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > limit => return Err(error).context("the gateway does not listen"),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        connection::Connection::new(tokio::net::TcpStream::from_std(stream)?).exchange(request.bytes()).await
    })?;
    let took = started.elapsed();
    request.check(&answer)?;
    Ok(took)
}
