//! `cargo xtask soak`: mixed calls in both protocol families through two gateways for some minutes, while
//! backends stop and restart. Every answer is checked against its request. Memory, open files and threads of
//! the gateways may not grow.

mod calls;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::process::Process;

use self::calls::Caller;
use crate::bench::bench_env::{BenchServer, Programs, authority, four_limits};
use crate::bench::idle_and_start::resident_bytes;
use crate::bench::request::ProtocolFamily;
use crate::bench::{lists, run_released};

/// Callers at each gateway.
const CALLERS: usize = 8;
/// The number of phases. The resource usage is measured after each phase.
const PHASES: u32 = 4;
/// How long the gateways are idle before a measurement. Idle connections have been closed by then.
const SETTLE_TIME: Duration = Duration::from_secs(6);
/// How often the resource usage is measured, each time after some small calls. An allocator releases memory
/// when it is used, not when it is idle, so the lowest measurement counts.
const MEASUREMENTS: usize = 3;
const SMALL_CALLS: Duration = Duration::from_secs(2);
/// How long a restartable backend runs, and how long it is stopped.
const UPTIME: Duration = Duration::from_millis(2_500);
const DOWNTIME: Duration = Duration::from_millis(1_200);
/// By how many bytes memory may grow between two measurements, independent of its size. Allocators do not
/// return freed memory at once.
const MEMORY_SLACK: u64 = 6 << 20;
/// The same bound as a share of the earlier memory: one tenth. The larger of the two bounds applies.
const MEMORY_SHARE: u64 = 10;
/// By how many the open files may grow: a backend may be reconnecting.
const FILES_SLACK: usize = 16;

/// Counts of requests over all callers.
#[derive(Debug, Default)]
pub(crate) struct CallCounts {
    pub(crate) answered: AtomicU64,
    /// Errors because a backend was stopped.
    pub(crate) unavailable: AtomicU64,
    pub(crate) lists: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) sessions: AtomicU64,
}

/// The resource usage of a gateway: resident memory in bytes, open files, threads.
#[derive(Clone, Copy, Debug)]
struct ResourceUsage {
    memory: u64,
    files: usize,
    threads: usize,
}

impl ResourceUsage {
    fn of(process: u32) -> anyhow::Result<Self> {
        let count = |what: &str| anyhow::Ok(std::fs::read_dir(format!("/proc/{process}/{what}"))?.count());
        Ok(Self { memory: resident_bytes(process)?, files: count("fd")?, threads: count("task")? })
    }

    fn min(self, other: Self) -> Self {
        Self {
            memory: self.memory.min(other.memory),
            files: self.files.min(other.files),
            threads: self.threads.min(other.threads),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            files: self.files.max(other.files),
            threads: self.threads.max(other.threads),
        }
    }

    /// Fails if the usage has grown since `before` by more than the slack.
    fn check_growth(self, before: Self) -> anyhow::Result<()> {
        let memory_max = before.memory + (before.memory / MEMORY_SHARE).max(MEMORY_SLACK);
        ensure!(self.memory <= memory_max, "resident memory grew: {before:?}, then {self:?}");
        ensure!(self.files <= before.files + FILES_SLACK, "open files grew: {before:?}, then {self:?}");
        ensure!(self.threads <= before.threads, "threads grew: {before:?}, then {self:?}");
        Ok(())
    }
}

/// Runs the soak test for `minutes` and prints the counts.
pub(crate) fn run(minutes: u64) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        return run_released(&["soak", "--minutes", &minutes.to_string()]);
    }
    let programs = Programs::build()?;
    let duration = Duration::from_secs(minutes * 60);
    let steady = [
        BenchServer::start(&programs, 40, "both")?,
        BenchServer::start(&programs, 40, ProtocolFamily::Sessions.date())?,
        BenchServer::start(&programs, 40, ProtocolFamily::Stateless.date())?,
    ];
    let restartable = [RestartableBackend::start(&programs)?, RestartableBackend::start(&programs)?];
    let gateways = gateways(&programs, &steady, &restartable)?;
    let counts = Arc::new(CallCounts::default());
    let stop = Arc::new(AtomicBool::new(false));
    let restarters: Vec<_> = restartable
        .into_iter()
        .map(|backend| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || backend.restart_until(&stop))
        })
        .collect();
    let outcome = run_phases(gateways, duration, &counts);
    stop.store(true, Ordering::Relaxed);
    for restarter in restarters {
        let restarts = restarter.join().map_err(|_| anyhow::anyhow!("a mortal's keeper panicked"))??;
        println!("a backend died {restarts} times");
    }
    outcome?;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{} calls answered, {} while their backend was away, {} lists, {} refused as they should be, {} taken back, {} sessions; \
         every answer was that of its request",
        of(&counts.answered),
        of(&counts.unavailable),
        of(&counts.lists),
        of(&counts.refused),
        of(&counts.cancelled),
        of(&counts.sessions)
    );
    ensure!(of(&counts.answered) > 0, "nothing was answered");
    Ok(())
}

fn gateways(
    programs: &Programs,
    steady: &[BenchServer],
    restartable: &[RestartableBackend],
) -> anyhow::Result<Vec<Gateway>> {
    let mut backends: Vec<Backend> = Vec::new();
    for (name, fast) in ["both", "session", "stateless"].iter().zip(steady) {
        backends.push(Backend::http(*name, format!("http://{}/mcp", fast.address)));
    }
    for (number, backend) in restartable.iter().enumerate() {
        backends.push(Backend::http(format!("mortal{number}"), backend.url.clone()));
    }
    let limits = four_limits();
    let health = "operational: {failureHandling: {healthCheckInterval: 1s}}\n";
    let searched = "optimizer: {embeddingProvider: none}\n";
    let texts = [format!("{limits}{health}"), format!("{searched}{health}")];
    let mut gateways = Vec::new();
    for text in texts {
        let text = config(NamePolicy::Prefixed, &backends, &text)
            .replace("incomingAuth: {type: anonymous}", "incomingAuth: {type: local}");
        let gateway = programs.gateway(&text)?;
        lists::wait_for(&gateway.url, 40 * 5)?;
        gateways.push(gateway);
    }
    Ok(gateways)
}

/// Runs the phases and measures after each one. The last measurement is compared with the highest before it:
/// an allocator reaches its working size once, and a leak continues to grow.
fn run_phases(
    mut gateways: Vec<Gateway>,
    duration: Duration,
    counts: &Arc<CallCounts>,
) -> anyhow::Result<()> {
    let addresses =
        gateways.iter().map(|gateway| authority(&gateway.url)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut measured: Vec<Vec<ResourceUsage>> = Vec::new();
    for _ in 0..PHASES {
        run_callers(&addresses, duration / PHASES, counts, false)?;
        measured.push(measure(&mut gateways, &addresses, counts)?);
    }
    for (index, name) in ["limits", "call_tool"].iter().enumerate() {
        let own: Vec<ResourceUsage> = measured.iter().filter_map(|look| look.get(index).copied()).collect();
        println!("gateway with {name}: {own:?}");
        let (last, before) = own.split_last().context("there are looks")?;
        let most =
            before.iter().copied().reduce(ResourceUsage::max).context("there are looks before the last")?;
        last.check_growth(most).with_context(|| format!("the gateway with {name}"))?;
    }
    Ok(())
}

fn measure(
    gateways: &mut [Gateway],
    addresses: &[String],
    counts: &Arc<CallCounts>,
) -> anyhow::Result<Vec<ResourceUsage>> {
    let mut least: Vec<ResourceUsage> = Vec::new();
    for _ in 0..MEASUREMENTS {
        run_callers(addresses, SMALL_CALLS, counts, true)?;
        std::thread::sleep(SETTLE_TIME);
        let measured = gateways.iter_mut().map(|gateway| ResourceUsage::of(gateway.process.child().id()));
        let measured = measured.collect::<anyhow::Result<Vec<_>>>()?;
        least = match least.is_empty() {
            true => measured,
            false => least.into_iter().zip(measured).map(|(one, other)| one.min(other)).collect(),
        };
    }
    Ok(least)
}

/// Runs callers at every gateway for the duration `duration`; with `small`, without large responses. The first
/// wrong answer ends the run.
fn run_callers(
    addresses: &[String],
    duration: Duration,
    counts: &Arc<CallCounts>,
    small: bool,
) -> anyhow::Result<()> {
    let until = Instant::now() + duration;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut callers = tokio::task::JoinSet::new();
        for (index, address) in addresses.iter().enumerate() {
            for number in 0..CALLERS {
                let searched = index == 1;
                let mut caller =
                    Caller::new(address, number + index * CALLERS, (searched, small), Arc::clone(counts));
                callers.spawn(async move { caller.call_until(until).await });
            }
        }
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        Ok(())
    })
}

/// A backend that stops and restarts at the same address.
struct RestartableBackend {
    program: std::path::PathBuf,
    port: String,
    url: String,
    process: Process,
}

impl RestartableBackend {
    fn start(programs: &Programs) -> anyhow::Result<Self> {
        let program = programs.fixture.clone();
        let mut process = Process::start(&mut command(&program, "0"))?;
        let url = process.wait_for_url()?;
        let port = authority(&url)?.rsplit(':').next().unwrap_or_default().to_owned();
        Ok(Self { program, port, url, process })
    }

    /// Restarts the backend until `stop` is set. Returns how often it was killed.
    fn restart_until(mut self, stop: &AtomicBool) -> anyhow::Result<usize> {
        let mut restarts = 0;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(UPTIME);
            self.process.kill();
            restarts += 1;
            std::thread::sleep(DOWNTIME);
            self.process = Process::start(&mut command(&self.program, &self.port))?;
            if self.process.wait_for_url()? != self.url {
                bail!("a backend came back elsewhere");
            }
        }
        Ok(restarts)
    }
}

fn command(program: &std::path::Path, port: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["fast", "--tools", "40", "--port", port]);
    command
}
