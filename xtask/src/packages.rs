//! The slow group `packages`: tests what a user receives who takes the crates from a registry or installs the
//! binary from the tree.

use std::process::Command;

use anyhow::{Context as _, ensure};
use vmcp_e2e::process;

use crate::{root, target};

/// Packages every published crate and compiles it from its package alone.
pub(crate) fn dry_run() -> anyhow::Result<()> {
    // Packages are compiled without the workspace's profile, so artefacts of earlier builds cannot be reused.
    // A temporary target directory without debug information needs a tenth of the disk space.
    let folder = tempfile::Builder::new().prefix("packages-").tempdir_in(target()?)?;
    let mut cargo = Command::new("cargo");
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "false").env("CARGO_INCREMENTAL", "0");
    // A developer's working tree is seldom clean. CI runs on a fresh clone.
    cargo.args(["publish", "--workspace", "--dry-run", "--allow-dirty", "--locked", "--target-dir"]);
    cargo.arg(folder.path()).current_dir(root());
    let status = cargo.status().context("cargo does not start")?;
    ensure!(status.success(), "a crate cannot be published; the reason is printed above");
    Ok(())
}

/// Installs the binary into a temporary folder, as the README says, and runs its demo.
pub(crate) fn install() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--locked", "--path", "crates/gateway", "--root"]).arg(folder.path());
    let status = cargo.current_dir(root()).status().context("cargo does not start")?;
    ensure!(status.success(), "`cargo install --path crates/gateway` failed; the reason is printed above");
    let said =
        process::run(Command::new(folder.path().join("bin/vmcp")).args(["demo", "--once", "--port", "0"]))?;
    ensure!(said.contains("tools"), "the demo of the installed binary said:\n{said}");
    Ok(())
}
