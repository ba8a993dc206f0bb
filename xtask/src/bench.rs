//! `cargo xtask bench`: measures the cost of the gateway and of its parts. Shared machines are noisy, so the
//! rounds of all contenders are interleaved, and only ratios of medians are reported.

pub(crate) mod bench_env;
pub(crate) mod benchmark_page;
mod calls;
mod chart;
pub(crate) mod connection;
mod growth;
pub(crate) mod idle_and_start;
mod isolation;
pub(crate) mod lists;
pub(crate) mod load;
mod nginx;
mod replay;
pub(crate) mod request;
mod rounds;
mod sessions;
mod suite;
mod tokens;
mod workflows;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use vmcp_e2e::cache;

pub(crate) use self::suite::BenchOptions;
use crate::{root, target};

/// The bench to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bench {
    /// Calls and lists through the gateway, against direct calls to the backend and against nginx.
    Calls,
    /// Decisions of the rate limiter.
    Limits,
    /// The replay of a million recorded calls against a configuration of rate limits.
    Replay,
    /// Memory of an idle client session, measured with 100,000 open sessions.
    Sessions,
    /// The cost of separate connections per caller at a backend with state.
    Isolation,
    /// The tokens that `find_tool` and `call_tool` save in definitions, and the turns that they cost.
    Tokens,
    /// Workflows, over the calls that their steps make.
    Workflow,
    /// The recall of the tool search; writes docs/search.md.
    Retrieval,
    /// The latency of the tool search in ten thousand tools; writes docs/search.md.
    Search,
}

/// Runs a bench and prints its table.
pub(crate) fn run(harness: Bench, options: BenchOptions) -> anyhow::Result<()> {
    match harness {
        Bench::Limits => {
            cargo(&["bench", "--quiet", "-p", "vmcp-ratelimit", "--bench", "decision"])?;
            cargo(&["run", "--quiet", "--release", "-p", "vmcp-ratelimit-redis", "--example", "bench"])?;
            cargo(&["run", "--quiet", "--release", "-p", "vmcp-ratelimit-redis", "--example", "leases"])
        }
        // A load generator without optimisation would measure itself.
        Bench::Calls if cfg!(debug_assertions) => run_released(&options.to_args("bench")),
        Bench::Calls => suite::run(options),
        Bench::Replay => replay::run(),
        Bench::Sessions => sessions::run(),
        Bench::Isolation => isolation::run(),
        Bench::Tokens => tokens::run(),
        Bench::Workflow if cfg!(debug_assertions) => run_released(&["bench", "workflow"]),
        Bench::Workflow => workflows::run(),
        Bench::Retrieval => {
            let bfcl = bfcl_data()?.display().to_string();
            run_search_bench(&["retrieval", "--bfcl", &bfcl])
        }
        Bench::Search => run_search_bench(&["search"]),
    }
}

/// Calls one tool at an address and prints the measured rate and latencies.
pub(crate) fn load(address: &str, tool: &str, connections: usize, seconds: u64) -> anyhow::Result<()> {
    let target = request::Target::new(address, request::ProtocolFamily::Stateless);
    let requests = [request::Request::call(tool, "gateway", 120)];
    let sample = load::send(&target, &requests, connections, std::time::Duration::from_secs(seconds))?;
    println!(
        "{:.0} calls/s, median {:.0} µs, 99 %: {:.0} µs, {:.0} MB/s",
        sample.rate,
        sample.median_us,
        sample.p99_us,
        sample.bytes / 1e6
    );
    Ok(())
}

/// Labelled requests from outside this project (Apache-2.0).
const BFCL: &str = "bfcl-eval==2026.3.23";

/// Returns the folder of BFCL's data. If it is missing, installs the package into the cache, without its
/// dependencies.
fn bfcl_data() -> anyhow::Result<PathBuf> {
    let folder = cache::root()?.join(BFCL);
    let data = folder.join("bfcl_eval/data");
    if !data.exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&folder).arg(BFCL);
        ensure!(pip.status().context("python3 does not start")?.success(), "pip cannot install {BFCL}");
    }
    Ok(data)
}

fn run_search_bench(args: &[&str]) -> anyhow::Result<()> {
    let data = root().join("../shared/data").display().to_string();
    let page = root().join("docs/search.md").display().to_string();
    let tool =
        ["run", "--quiet", "--release", "-p", "vmcp-search-bench", "--", "--data", &data, "--page", &page];
    cargo(&[&tool[..], args].concat())
}

/// Builds this program in release mode and runs it with these arguments.
pub(crate) fn run_released(args: &[&str]) -> anyhow::Result<()> {
    cargo(&bench_env::BUILD)?;
    let status = Command::new(target()?.join("release/xtask")).args(args).status()?;
    ensure!(status.success(), "xtask {} failed", args.join(" "));
    Ok(())
}

pub(crate) fn cargo(args: &[&str]) -> anyhow::Result<()> {
    let status =
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(args).status()?;
    ensure!(status.success(), "cargo {} failed", args.join(" "));
    Ok(())
}

/// A server process of a bench; it is killed on drop.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(vmcp: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(vmcp);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{} does not start", vmcp.display()))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        for line in &mut lines {
            let line = line?;
            if let Some((_, rest)) = line.split_once("serving http://") {
                let address = rest.trim_end_matches("/mcp").to_owned();
                // The pipe must be drained, or the server blocks once the pipe is full.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Self { child, address });
            }
        }
        bail!("{} {} said no address", vmcp.display(), args.join(" "))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // No process may outlive the bench. An error means that the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
