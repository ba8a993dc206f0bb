//! `cargo xtask ci`: every step a change must pass, each timed. The first failure ends the run,
//! except that the table of times is printed either way.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use vmcp_e2e::process;

use crate::{conformance, matrix, root, tidy};

type Step = (&'static str, fn() -> anyhow::Result<()>);

/// Cheap steps first, so that a slip is told early. The binaries are built before the tests that
/// start them, so that no test waits for a compiler.
const STEPS: [Step; 8] = [
    ("format", || cargo(&["fmt", "--all", "--", "--check"], &[])),
    ("tidy", tidy::run),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])),
    ("build", || cargo(&process::BUILD, &[])),
    ("test", || cargo(&["test", "--workspace", "--no-fail-fast"], &[])),
    ("doc", || cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])),
    ("conformance", || conformance::run(true)),
    ("matrix", || matrix::run(true)),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut times = String::new();
    let mut failed = None;
    for (name, step) in STEPS {
        println!("\n=== {name}");
        let start = Instant::now();
        let done = step();
        let verdict = if done.is_ok() { "ok" } else { "FAILED" };
        times.push_str(&format!("{name:<12} {:>7.1} s  {verdict}\n", start.elapsed().as_secs_f64()));
        if let Err(error) = done {
            failed = Some(error.context(format!("ci failed at: {name}")));
            break;
        }
    }
    println!("\n{times}");
    failed.map_or(Ok(()), Err)
}

fn cargo(words: &[&str], env: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command.args(words).envs(env.iter().copied()).current_dir(root());
    let status = command.status().context("cargo does not start")?;
    ensure!(status.success(), "`cargo {}` failed; what is wrong stands above", words.join(" "));
    Ok(())
}
