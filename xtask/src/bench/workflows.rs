//! `cargo xtask bench workflow`: the cost of workflows over the calls that their steps make. First within one process,
//! where tools answer at once; then through a gateway with four limits, where each step is an HTTP exchange with a
//! backend that answers in microseconds.

use std::time::Duration;

use vmcp_e2e::gateway::{NamePolicy, config};

use super::bench_env::{BenchServer, Programs, authority, four_limits};
use super::cargo;
use super::load::{self, Sample};
use super::request::{ProtocolFamily, Request, Target};
use super::rounds::{Rounds, interleave};

/// The tool that the steps call.
const TOOL: &str = "json_200";
/// The steps of the long workflow.
const STEPS: u32 = 10;
/// The numbers of connections.
const CONNECTIONS: [usize; 2] = [1, 64];

/// Measures both, and prints the tables.
pub(super) fn run() -> anyhow::Result<()> {
    cargo(&["bench", "--quiet", "-p", "vmcp-workflow", "--bench", "runs"])?;
    let programs = Programs::build()?;
    let backend = BenchServer::start(&programs, 1, "both")?;
    let bounds = "workflows: {maxRunning: 1000, maxRunningPerCaller: 1000}";
    let workflows = format!("{bounds}\ncompositeTools:\n{}{}", workflow("one", 1), workflow("ten", STEPS));
    let text = config(NamePolicy::Unchanged, &backend.backends(1), &format!("{}{workflows}", four_limits()))
        .replace("incomingAuth: {type: anonymous}", "incomingAuth: {type: local}");
    let gateway = programs.gateway(&text)?;
    let direct = Target::new(&backend.address, ProtocolFamily::Stateless);
    let through = Target::new(&authority(&gateway.url)?, ProtocolFamily::Stateless);
    let contenders = [
        ("backend, one call", &direct, TOOL),
        ("gateway, one call", &through, TOOL),
        ("workflow of one step", &through, "one"),
        ("workflow of ten steps", &through, "ten"),
    ];
    let names = contenders.map(|(name, ..)| name);
    println!("\n| connections | {} | a step more |", names.join(" | "));
    println!("| --- | --- | --- | --- | --- | --- |");
    for connections in CONNECTIONS {
        let rounds = Rounds { count: 7, duration: Duration::from_millis(500) }.for_connections(connections);
        let series = interleave(&names, rounds, |index| {
            let (_, target, tool) = contenders[index];
            load::send(target, &[Request::call(tool, "gateway", 100)], connections, rounds.duration)
        })?;
        let time = |sample: &Sample| time_per_call(sample, connections);
        let [call, through, one, ten] = [0, 1, 2, 3].map(|index| series[index].median(time));
        let step = (ten - one) / f64::from(STEPS - 1);
        println!(
            "| {connections} | {call:.0} µs | {through:.0} µs | {one:.0} µs | {ten:.0} µs | {step:.0} µs |"
        );
    }
    Ok(())
}

/// The time of a call in microseconds: its latency alone on a connection, and its share of the machine when many
/// connections keep the machine busy.
fn time_per_call(sample: &Sample, connections: usize) -> f64 {
    if connections == 1 { sample.median_us } else { 1e6 / sample.rate }
}

/// A workflow of steps that call the tool one after the other.
fn workflow(name: &str, steps: u32) -> String {
    let step = |index: u32| {
        let after = if index == 0 { String::new() } else { format!(", dependsOn: [s{}]", index - 1) };
        format!(
            "      - {{id: s{index}, tool: {TOOL}, arguments: {{word: \"{{{{.params.word}}}}\"}}{after}}}\n"
        )
    };
    let steps: String = (0..steps).map(step).collect();
    format!("  - name: {name}\n    description: A bench.\n    steps:\n{steps}")
}
