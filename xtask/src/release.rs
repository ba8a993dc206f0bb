//! `cargo xtask release`: the gateway compiled with a profile of itself at work (profile-guided optimisation): first a
//! binary that counts, then calls by every road of the bench, then the binary that is laid out by what was counted.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use vmcp_e2e::process;

use crate::bench::ground::{BenchEnv, DIRECT, NGINX, Programs, Route};
use crate::bench::load::send;
use crate::bench::shot::{ProtocolFamily, Request, Target};
use crate::target;

/// What is called while counting, and the least its answers have: small answers more than large ones.
const WORKLOAD: [(&str, usize); 4] =
    [("json_200", 120), ("sse_200", 120), ("json_10k", 10_000), ("sse_10k", 10_000)];
/// With so many connections.
const CONNECTIONS: [usize; 2] = [1, 64];
/// For so long each.
const DURATION: Duration = Duration::from_millis(700);
/// What to say when the counts cannot be merged.
const PROFDATA_MISSING: &str =
    "llvm-profdata is needed: `rustup component add llvm-tools`, or on Debian the package llvm-19";

/// Where the binary is put, below cargo's own folder.
pub(crate) fn output_path() -> anyhow::Result<PathBuf> {
    Ok(target()?.join("released/vmcp"))
}

/// Builds it.
pub(crate) fn run() -> anyhow::Result<()> {
    let begun = Instant::now();
    ensure!(!profdata_programs()?.is_empty(), "{PROFDATA_MISSING}");
    let mut programs = Programs::build()?;
    let folder = tempfile::tempdir()?;
    let counted = folder.path().join("counted");
    programs.vmcp = build(&format!("-Cprofile-generate={}", counted.display()))?;
    run_workload(&programs, folder.path())?;
    let merged = folder.path().join("merged.profdata");
    merge(&counted, &merged)?;
    let built = build(&format!("-Cprofile-use={}", merged.display()))?;
    let place = output_path()?;
    std::fs::create_dir_all(place.parent().context("a folder")?)?;
    std::fs::copy(built, &place)?;
    println!("{} after {:.0} s", place.display(), begun.elapsed().as_secs_f64());
    Ok(())
}

/// Builds the gateway with one more flag of the compiler. With `--target`, so that programs that run while compiling,
/// and macros, are left as they are.
fn build(flag: &str) -> anyhow::Result<PathBuf> {
    let host = host()?;
    let folder = target()?.join("guided");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--release", "-p", "vmcp-gateway", "--target", &host, "--target-dir"]);
    let built = command.arg(&folder).env("RUSTFLAGS", flag).status()?;
    ensure!(built.success(), "cargo build with {flag} failed");
    Ok(folder.join(host).join("release/vmcp"))
}

/// Calls by every road but the two that lead past the gateway, and ends the gateways in good order: what they have
/// counted is written when they end.
fn run_workload(programs: &Programs, folder: &Path) -> anyhow::Result<()> {
    let ground = BenchEnv::start(programs, folder)?;
    let roads = || ground.routes.iter().filter(|road| ![DIRECT, NGINX].contains(&road.name));
    for road in roads() {
        for (tool, length_min) in WORKLOAD {
            for connections in CONNECTIONS {
                send(&road.target, &[road.call(tool, length_min)], connections, DURATION)?;
            }
        }
        if road.target.token.is_none() {
            let session = Target { family: ProtocolFamily::Sessions, ..road.target.clone() };
            send(&session, &[road.call("json_200", 120)], 8, DURATION)?;
        }
        send(&road.target, &[Request::list(None)], 8, DURATION)?;
    }
    ground.routes.into_iter().try_for_each(Route::shut_down)
}

fn host() -> anyhow::Result<String> {
    let said = process::run(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Merges the counts. Only some versions of the program for it know the form that this compiler writes, so each that is
/// there is tried: the toolchain's own, then those installed, the newest first.
fn merge(counted: &Path, merged: &Path) -> anyhow::Result<()> {
    let mut failures = String::new();
    for program in profdata_programs()? {
        match process::run(Command::new(&program).arg("merge").arg("-o").arg(merged).arg(counted)) {
            Ok(_) => return Ok(()),
            Err(error) => failures += &format!("\n{error}"),
        }
    }
    bail!("{PROFDATA_MISSING}{failures}")
}

fn profdata_programs() -> anyhow::Result<Vec<PathBuf>> {
    let root = process::run(Command::new("rustc").args(["--print", "sysroot"]))?;
    let own = Path::new(root.trim()).join("lib/rustlib").join(host()?).join("bin/llvm-profdata");
    let installed = (14..=40).rev().map(|version| PathBuf::from(format!("llvm-profdata-{version}")));
    let candidates = std::iter::once(own).chain(installed).chain([PathBuf::from("llvm-profdata")]);
    let works = |program: &PathBuf| {
        Command::new(program).arg("--help").output().is_ok_and(|output| output.status.success())
    };
    Ok(candidates.filter(works).collect())
}
