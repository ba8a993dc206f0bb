//! Long runs of the fuzz targets under libFuzzer: it keeps each input that reaches new code, and changes it
//! further. The stable compiler inserts the counters. libFuzzer itself needs a C++ compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use vmcp_e2e::process;

use crate::{root, target};

/// How long a target runs in the group `fuzz`, in seconds.
const GROUP_SECONDS: u64 = 60;
/// What the compiler inserts: a counter at each branch, and the operands of comparisons.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// An input that takes longer is a failure.
const INPUT_SECONDS_MAX: u64 = 10;

/// Runs every target for a minute.
pub(crate) fn run_group() -> anyhow::Result<()> {
    run(None, GROUP_SECONDS)
}

/// Runs the target `name`, or each one if there is no name.
pub(crate) fn run(name: Option<&str>, seconds: u64) -> anyhow::Result<()> {
    let folder = target()?.join("fuzz");
    let seeds = folder.join("seeds");
    write_seeds(&seeds)?;
    let program = build(&folder)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&seeds)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    if let Some(name) = name {
        ensure!(names.iter().any(|one| one == name), "no target `{name}`; there are {}", names.join(", "));
        names = vec![name.to_owned()];
    }
    names.iter().try_for_each(|name| run_target(&program, &folder, name, seconds))
}

/// Writes the seeds of all targets, which only the crate of the targets knows.
fn write_seeds(seeds: &Path) -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--package", "vmcp-fuzz", "--bin", "write-seeds", "--"]);
    process::run(cargo.arg(seeds).current_dir(root())).map(drop)
}

/// Builds the program with counters, in a folder of its own. Returns its path.
fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    // With an explicit target, cargo does not pass the flags to build scripts and macros.
    let host = process::run(Command::new("rustc").args(["--print", "host-tuple"]).current_dir(root()))?;
    let host = host.trim();
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--release",
        "--package",
        "vmcp-fuzz",
        "--features",
        "coverage",
        "--bin",
        "coverage",
    ]);
    cargo.args(["--target", host, "--target-dir"]).arg(folder);
    cargo.env("RUSTFLAGS", INSTRUMENTATION).env("CARGO_PROFILE_RELEASE_LTO", "off");
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = cargo.current_dir(root()).status().context("cargo does not start")?;
    ensure!(status.success(), "the fuzz targets cannot be built; the reason is printed above");
    Ok(folder.join(host).join("release/coverage"))
}

fn run_target(program: &Path, folder: &Path, name: &str, seconds: u64) -> anyhow::Result<()> {
    println!("\n--- {name}");
    let (found, failures) = (folder.join("found").join(name), folder.join("failures"));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&failures)?;
    let seeds = folder.join("seeds");
    let mut command = Command::new(program);
    command.env("VMCP_FUZZ_TARGET", name).env("RUST_BACKTRACE", "0");
    command.arg(format!("-max_total_time={seconds}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-dict={}", seeds.join(format!("{name}.dict")).display()));
    command.arg(format!("-artifact_prefix={}/{name}-", failures.display()));
    command.args([
        "-max_len=65536",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
        "-print_funcs=0",
        "-verbosity=0",
    ]);
    let status = command.arg(&found).arg(seeds.join(name)).status();
    let status = status.with_context(|| program.display().to_string())?;
    ensure!(
        status.success(),
        "the target {name} fails; the input is in {}. Copy it to testing/fuzz/seeds/{name}, so that ./test \
         tries it, and repair the cause",
        failures.display()
    );
    Ok(())
}
