//! `cargo xtask bench calls`: the cost of the gateway against direct calls to the backend and against nginx,
//! in one run.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::ensure;
use vmcp_e2e::process;

use super::calls::{self, Plan};
use super::rounds::Rounds;
use super::{chart, growth, lists, nginx};
use crate::bench::bench_env::{BenchEnv, Programs};
use crate::bench::{benchmark_page, idle_and_start};

/// Options of the suite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BenchOptions {
    /// Fewer cells and shorter rounds.
    pub(crate) quick: bool,
    /// Writes the page and its charts.
    pub(crate) write: bool,
    /// Also measures the binary of `cargo xtask release`.
    pub(crate) released: bool,
}

impl BenchOptions {
    /// The options as arguments of the command line.
    pub(crate) fn to_args(self, task: &'static str) -> Vec<&'static str> {
        let flags = [("--quick", self.quick), ("--write", self.write), ("--released", self.released)];
        let flags = flags.into_iter().filter_map(|(word, stands)| stands.then_some(word));
        [task].into_iter().chain(flags).collect()
    }
}

/// Measures everything and prints the results.
pub(crate) fn run(options: BenchOptions) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut programs = Programs::build()?;
    if options.released {
        let output = crate::release::output_path()?;
        ensure!(output.exists(), "{} is not there: cargo xtask release builds it", output.display());
        programs.released = Some(output);
    }
    let folder = tempfile::tempdir()?;
    let plan = measurement_plan(options.quick);
    let env = BenchEnv::start(&programs, folder.path())?;
    let cells = calls::measure(&env, &plan)?;
    drop(env);
    let short_rounds = Rounds { count: if options.quick { 2 } else { 5 }, ..plan.rounds };
    let protocol_table = calls::compare_protocols(&programs, short_rounds, 8)?;
    let sets: &[(usize, usize)] = if options.quick { &[(10, 1), (10_000, 10)] } else { &lists::SETS };
    let lists = lists::measure(&programs, sets, short_rounds, folder.path())?;
    let growth = growth::measure(&programs, short_rounds, options.quick)?;
    let mut targets = String::from("| what | target | measured |\n| --- | --- | --- |\n");
    targets += &calls::verdicts(&cells);
    if let Some(ratio) = lists.worst_ratio {
        let _ = writeln!(targets, "| `tools/list` of 10,000 tools, bytes to nginx's | ≥ 0.50 | {ratio:.2} |");
    }
    targets += &idle_and_start::measure(&programs)?;
    let text = format!(
        "{}\n\n{targets}\n![Calls per second](benchmarks/calls.svg)\n{}\n\
         Both protocol families, answers of 200 bytes, 8 connections:\n\n{protocol_table}\n\
         `tools/list`, every page in turn, 8 connections, the same bytes from files by nginx:\n\n{}\n\
         Cost as it grows, answers of 200 bytes, 8 connections, time per call:\n\n{}\n![Growth](benchmarks/growth.svg)\n",
        environment_summary(&plan.rounds)?,
        calls::tables(&cells),
        lists.table,
        growth.table,
    );
    println!("{text}");
    eprintln!("took {:.0} s", begun.elapsed().as_secs_f64());
    if options.write {
        let charts = [
            ("calls.svg", calls::drawing(&cells)),
            ("growth.svg", chart::lines("Time per call in microseconds", &growth.lines)),
        ];
        benchmark_page::write(&crate::root(), "calls", &text, &charts)?;
    }
    Ok(())
}

fn measurement_plan(quick: bool) -> Plan {
    if quick {
        let rounds = Rounds { count: 3, duration: Duration::from_millis(150) };
        return Plan { connections: &[1, 8, 64], tools: calls::TOOLS.split_at(3).0, rounds };
    }
    let rounds = Rounds { count: 5, duration: Duration::from_millis(300) };
    Plan { connections: &[1, 8, 64, 256], tools: &calls::TOOLS, rounds }
}

/// Describes the machine and the versions of the measured programs.
fn environment_summary(rounds: &Rounds) -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?.get();
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(':')).map_or("unknown", |(_, name)| name.trim());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = process::run(std::process::Command::new("rustc").arg("--version"))?;
    let rustc = rustc.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let alone = rounds.for_connections(1);
    Ok(format!(
        "{cores} cores ({model}), Linux {}, Rust {rustc}, nginx {}, Redis {}. {} rounds of {} ms for each figure, at 1 connection \
         {} of {} ms, in turns; figures are medians, ± is half the distance between the extremes, ratios are medians of those within a round.",
        kernel.trim(),
        nginx::version()?,
        nginx::version_of("redis-server")?,
        rounds.count,
        rounds.duration.as_millis(),
        alone.count,
        alone.duration.as_millis()
    ))
}
