//! Mutation tests of the limiter: changes its code, one change at a time, and requires that a unit test fails
//! for each change. Changes that are equivalent to the original are listed in `.cargo/mutants.toml`.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};
use vmcp_e2e::cache;

use crate::{ci, root, target};

/// Into how many parts the changes are divided. One part takes a quarter of an hour on two cores.
const PARTS: usize = 8;
/// The exit code of cargo-mutants if a test run timed out. A changed program that does not end counts as
/// detected. The code is the same if other changes were missed.
const TIMED_OUT: i32 = 3;

/// Tries the part that the checked-out commit selects.
pub(crate) fn run_part_of_commit() -> anyhow::Result<()> {
    let part = format!("{}/{PARTS}", ci::part_of_commit(&ci::head()?, PARTS)?);
    println!("This commit's part of the changes: {part}");
    run(Some(&part), None)
}

/// Tries the changes of one part out of several, for example `1/24`, or of one file. Without both, tries all
/// changes.
pub(crate) fn run(part: Option<&str>, file: Option<&str>) -> anyhow::Result<()> {
    install()?;
    let output = target()?.join("mutants-report");
    let mut command = Command::new("cargo");
    command.args([
        "mutants",
        "--package",
        "vmcp-ratelimit",
        "--copy-vcs",
        "false",
        "--jobs",
        "2",
        "--output",
    ]);
    command.arg(&output).args(part.iter().flat_map(|part| ["--shard", part]));
    // The name of a change begins with its file. `--file` would add files to those of the configuration, not
    // restrict them.
    command.args(file.iter().flat_map(|file| ["--re", file]));
    // Only an incremental build takes seconds for a change. CI disables incremental compilation for
    // everything else.
    let status = command.env("PATH", path()?).env("CARGO_INCREMENTAL", "1").current_dir(root()).status();
    let status = status.context("cargo does not start")?;
    let report = output.join("mutants.out/missed.txt");
    let missed = fs::read_to_string(&report).with_context(|| format!("no {}", report.display()))?;
    ensure!(missed.is_empty(), "no unit test fails for some changes:\n{missed}");
    ensure!(
        status.success() || status.code() == Some(TIMED_OUT),
        "cargo-mutants failed; the reason is printed above"
    );
    Ok(())
}

/// Installs the programs. `./test` does not install them by default, because compiling them takes minutes.
fn install() -> anyhow::Result<()> {
    let status = Command::new("bash").args(["test", "--install", "mutants"]).current_dir(root()).status();
    let status = status.context("bash does not start")?;
    ensure!(status.success(), "cargo-mutants cannot be installed; the reason is printed above");
    Ok(())
}

/// Returns `PATH` with the folders of the programs, in which cargo finds its subcommands.
fn path() -> anyhow::Result<OsString> {
    let mut folders = vec![
        cache::installed("cargo", "mutants")?.join("bin"),
        cache::installed("cargo", "nextest")?.join("bin"),
    ];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    Ok(std::env::join_paths(folders)?)
}
