//! `cargo xtask soak`: mixed calls in both eras through two gateways for some minutes, while backends die and come back.
//! Every answer is held against its request, and the gateways may grow in nothing: memory, files, threads.

mod calls;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::process::Process;

use self::calls::Caller;
use crate::bench::ground::{BenchServer, Programs, authority, four_limits};
use crate::bench::rest::resident_bytes;
use crate::bench::shot::ProtocolFamily;
use crate::bench::{lists, run_released};

/// Callers at each gateway.
const CALLERS: usize = 8;
/// In how many parts, each of which ends with a look at the gateways.
const PHASES: u32 = 4;
/// How long the gateways have to themselves before they are looked at: kept connections have been closed by then.
const SETTLE_TIME: Duration = Duration::from_secs(6);
/// How often they are looked at, each time after some small calls. An allocator gives back what it has too much of when
/// it is used, not when it rests, so the least of the looks counts.
const MEASUREMENTS: usize = 3;
const SMALL_CALLS: Duration = Duration::from_secs(2);
/// How long a mortal backend lives, and is gone.
const UPTIME: Duration = Duration::from_millis(2_500);
const DOWNTIME: Duration = Duration::from_millis(1_200);
/// How much memory may differ between two looks, whatever is resident: what allocators keep is not given back at once.
const MEMORY_SLACK: u64 = 6 << 20;
/// The same as a share of what was resident first: one part in so many.
const MEMORY_SHARE: u64 = 10;
/// How many files more or less may be open: a backend may be on its way back.
const FILES_SLACK: usize = 16;

/// What was done, over all callers.
#[derive(Debug, Default)]
pub(crate) struct CallCounts {
    pub(crate) answered: AtomicU64,
    /// Errors that say that a backend is away.
    pub(crate) unavailable: AtomicU64,
    pub(crate) lists: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) sessions: AtomicU64,
}

/// What a gateway takes.
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

    /// Fails if there is more now than there was.
    fn check_growth(self, before: Self) -> anyhow::Result<()> {
        let memory_max = before.memory + (before.memory / MEMORY_SHARE).max(MEMORY_SLACK);
        ensure!(self.memory <= memory_max, "resident memory grew: {before:?}, then {self:?}");
        ensure!(self.files <= before.files + FILES_SLACK, "open files grew: {before:?}, then {self:?}");
        ensure!(self.threads <= before.threads, "threads grew: {before:?}, then {self:?}");
        Ok(())
    }
}

/// Soaks for so many minutes and prints what was done.
pub(crate) fn run(minutes: u64) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        return run_released(&["soak", "--minutes", &minutes.to_string()]);
    }
    let programs = Programs::build()?;
    let lasting = Duration::from_secs(minutes * 60);
    let steady = [
        BenchServer::start(&programs, 40, "both")?,
        BenchServer::start(&programs, 40, ProtocolFamily::Sessions.date())?,
        BenchServer::start(&programs, 40, ProtocolFamily::Stateless.date())?,
    ];
    let mortals = [RestartableBackend::start(&programs)?, RestartableBackend::start(&programs)?];
    let gateways = gateways(&programs, &steady, &mortals)?;
    let account = Arc::new(CallCounts::default());
    let stop = Arc::new(AtomicBool::new(false));
    let fates: Vec<_> = mortals
        .into_iter()
        .map(|mortal| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || mortal.restart_until(&stop))
        })
        .collect();
    let outcome = run_phases(gateways, lasting, &account);
    stop.store(true, Ordering::Relaxed);
    for fate in fates {
        let deaths = fate.join().map_err(|_| anyhow::anyhow!("a mortal's keeper panicked"))??;
        println!("a backend died {deaths} times");
    }
    outcome?;
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{} calls answered, {} while their backend was away, {} lists, {} refused as they should be, {} taken back, {} sessions; \
         every answer was that of its request",
        of(&account.answered),
        of(&account.unavailable),
        of(&account.lists),
        of(&account.refused),
        of(&account.cancelled),
        of(&account.sessions)
    );
    ensure!(of(&account.answered) > 0, "nothing was answered");
    Ok(())
}

fn gateways(
    programs: &Programs,
    steady: &[BenchServer],
    mortals: &[RestartableBackend],
) -> anyhow::Result<Vec<Gateway>> {
    let mut backends: Vec<Backend> = Vec::new();
    for (name, fast) in ["both", "session", "stateless"].iter().zip(steady) {
        backends.push(Backend::http(*name, format!("http://{}/mcp", fast.address)));
    }
    for (number, mortal) in mortals.iter().enumerate() {
        backends.push(Backend::http(format!("mortal{number}"), mortal.url.clone()));
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

/// So many parts, with a look after each. What is there after the last is held against the most of those before: an
/// allocator reaches what it keeps once, and what leaks grows on.
fn run_phases(
    mut gateways: Vec<Gateway>,
    lasting: Duration,
    account: &Arc<CallCounts>,
) -> anyhow::Result<()> {
    let addresses =
        gateways.iter().map(|gateway| authority(&gateway.url)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut seen: Vec<Vec<ResourceUsage>> = Vec::new();
    for _ in 0..PHASES {
        run_callers(&addresses, lasting / PHASES, account, false)?;
        seen.push(measure(&mut gateways, &addresses, account)?);
    }
    for (place, name) in ["limits", "call_tool"].iter().enumerate() {
        let own: Vec<ResourceUsage> = seen.iter().filter_map(|look| look.get(place).copied()).collect();
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
    account: &Arc<CallCounts>,
) -> anyhow::Result<Vec<ResourceUsage>> {
    let mut least: Vec<ResourceUsage> = Vec::new();
    for _ in 0..MEASUREMENTS {
        run_callers(addresses, SMALL_CALLS, account, true)?;
        std::thread::sleep(SETTLE_TIME);
        let seen = gateways.iter_mut().map(|gateway| ResourceUsage::of(gateway.process.child().id()));
        let seen = seen.collect::<anyhow::Result<Vec<_>>>()?;
        least = match least.is_empty() {
            true => seen,
            false => least.into_iter().zip(seen).map(|(one, other)| one.min(other)).collect(),
        };
    }
    Ok(least)
}

/// Calls at every gateway for so long, `small` ones alone if wanted. The first wrong answer ends it.
fn run_callers(
    addresses: &[String],
    lasting: Duration,
    account: &Arc<CallCounts>,
    small: bool,
) -> anyhow::Result<()> {
    let until = Instant::now() + lasting;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut callers = tokio::task::JoinSet::new();
        for (place, address) in addresses.iter().enumerate() {
            for number in 0..CALLERS {
                let searched = place == 1;
                let mut caller =
                    Caller::new(address, number + place * CALLERS, (searched, small), Arc::clone(account));
                callers.spawn(async move { caller.call_until(until).await });
            }
        }
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        Ok(())
    })
}

/// A backend that dies and comes back at the same address.
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

    /// Gives how often it died.
    fn restart_until(mut self, stop: &AtomicBool) -> anyhow::Result<usize> {
        let mut deaths = 0;
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(UPTIME);
            self.process.kill();
            deaths += 1;
            std::thread::sleep(DOWNTIME);
            self.process = Process::start(&mut command(&self.program, &self.port))?;
            if self.process.wait_for_url()? != self.url {
                bail!("a backend came back elsewhere");
            }
        }
        Ok(deaths)
    }
}

fn command(program: &std::path::Path, port: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["fast", "--tools", "40", "--port", port]);
    command
}
