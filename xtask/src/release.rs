//! `cargo xtask release`: builds the gateway with profile-guided optimisation. First an instrumented binary
//! is built, then it serves calls on the routes of the bench, then the final binary is compiled with the
//! collected profile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use vmcp_e2e::process;

use crate::bench::bench_env::{BenchEnv, DIRECT, NGINX, Programs, Route};
use crate::bench::load::send;
use crate::bench::request::{ProtocolFamily, Request, Target};
use crate::target;

/// The tools that are called for the profile, each with the minimum length of its response body in bytes.
/// Small responses are more frequent than large ones.
const WORKLOAD: [(&str, usize); 4] =
    [("json_200", 120), ("sse_200", 120), ("json_10k", 10_000), ("sse_10k", 10_000)];
/// The numbers of connections of each call.
const CONNECTIONS: [usize; 2] = [1, 64];
/// The duration of each combination.
const DURATION: Duration = Duration::from_millis(700);
/// The message when the profile cannot be merged.
const PROFDATA_MISSING: &str =
    "llvm-profdata is needed: `rustup component add llvm-tools`, or on Debian the package llvm-19";

/// The path of the binary, below cargo's target directory.
pub(crate) fn output_path() -> anyhow::Result<PathBuf> {
    Ok(target()?.join("released/vmcp"))
}

/// Builds the optimised binary and prints its path.
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
    let output = output_path()?;
    std::fs::create_dir_all(output.parent().context("a folder")?)?;
    std::fs::copy(built, &output)?;
    println!("{} after {:.0} s", output.display(), begun.elapsed().as_secs_f64());
    Ok(())
}

/// Builds the gateway with an additional compiler flag. `--target` keeps the flag away from build scripts and
/// procedural macros.
fn build(flag: &str) -> anyhow::Result<PathBuf> {
    let host = host()?;
    let folder = target()?.join("guided");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--release", "-p", "vmcp-gateway", "--target", &host, "--target-dir"]);
    let built = command.arg(&folder).env("RUSTFLAGS", flag).status()?;
    ensure!(built.success(), "cargo build with {flag} failed");
    Ok(folder.join(host).join("release/vmcp"))
}

/// Calls on every route except the two that bypass the gateway, then shuts the gateways down cleanly, because
/// an instrumented process writes its profile when it exits.
fn run_workload(programs: &Programs, folder: &Path) -> anyhow::Result<()> {
    let env = BenchEnv::start(programs, folder)?;
    let routes = || env.routes.iter().filter(|route| ![DIRECT, NGINX].contains(&route.name));
    for route in routes() {
        for (tool, length_min) in WORKLOAD {
            for connections in CONNECTIONS {
                send(&route.target, &[route.call(tool, length_min)], connections, DURATION)?;
            }
        }
        if route.target.token.is_none() {
            let session = Target { family: ProtocolFamily::Sessions, ..route.target.clone() };
            send(&session, &[route.call("json_200", 120)], 8, DURATION)?;
        }
        send(&route.target, &[Request::list(None)], 8, DURATION)?;
    }
    env.routes.into_iter().try_for_each(Route::shut_down)
}

fn host() -> anyhow::Result<String> {
    let version_text = process::run(Command::new("rustc").arg("-vV"))?;
    let host = version_text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Merges the profiles. Only some versions of llvm-profdata read the format that this compiler writes, so all
/// available ones are tried: first the toolchain's own, then the installed ones, newest first.
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
