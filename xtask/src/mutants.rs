//! Changes the limiter's code in one place at a time, and demands that a unit test fails for each change. Survivors that are
//! equivalent to the original are listed in `.cargo/mutants.toml`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, ensure};
use vmcp_e2e::cache;

use crate::{ci, root, target};

/// In how many parts the group of tests is cut, so that one takes a quarter of an hour on two cores.
const PARTS: usize = 8;
/// What cargo-mutants ends with when a changed program did not end, which is noticed as well as a failure.
const ONLY_TIMEOUTS: i32 = 3;

/// Tries the part that the checked-out commit chooses.
pub(crate) fn run_part_of_commit() -> anyhow::Result<()> {
    let part = format!("{}/{PARTS}", ci::part_of_commit(&ci::head()?, PARTS)?);
    println!("This commit's part of the changes: {part}");
    run(Some(&part), None)
}

/// Tries the changes of one part out of several, as `1/24`, or of one file; all without either.
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
    // A change is named by its file first. `--file` would add to those of the configuration.
    command.args(file.iter().flat_map(|file| ["--re", file]));
    // A change is built in seconds only where the rest is kept, which CI turns off for what is built once.
    let status = command.env("PATH", path()?).env("CARGO_INCREMENTAL", "1").current_dir(root()).status();
    let status = status.context("cargo does not start")?;
    ensure!(
        status.success() || status.code() == Some(ONLY_TIMEOUTS),
        "no unit test fails for some changes; they are listed above and in {}",
        output.display()
    );
    Ok(())
}

/// The programs are installed for this chore alone: it takes minutes to compile them.
fn install() -> anyhow::Result<()> {
    let status = Command::new("bash").args(["test", "--install", "mutants"]).current_dir(root()).status();
    let status = status.context("bash does not start")?;
    ensure!(status.success(), "cargo-mutants cannot be installed; the reason is printed above");
    Ok(())
}

/// Cargo finds its own commands there.
fn path() -> anyhow::Result<OsString> {
    let mut folders = vec![
        cache::installed("cargo", "mutants")?.join("bin"),
        cache::installed("cargo", "nextest")?.join("bin"),
    ];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    Ok(std::env::join_paths(folders)?)
}
