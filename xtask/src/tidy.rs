//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that a program can check. Each failure names its location
//! and says what to do. The check also runs as a test.

mod cycles;
pub(crate) mod dependencies;
mod lines;
mod paths;
mod words;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use vmcp_e2e::process;

use crate::root;

/// A text file of the tree.
struct File {
    /// The path below the root, with `/` as separator.
    path: String,
    text: String,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let failures = failures(&root())?;
    if failures.is_empty() {
        println!("tidy: nothing to complain about");
        return Ok(());
    }
    bail!("tidy:\n{}", failures.join("\n"))
}

fn failures(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = files(root)?;
    let mut failures = dependencies::check(root)?;
    failures.extend(crates_are_named(root)?);
    failures.extend(lines::check(&files));
    failures.extend(paths::check(&files));
    failures.extend(words::check(&files));
    failures.extend(cycles::check_tree(&files));
    Ok(failures)
}

/// Returns every text file that is under version control or would be added.
fn files(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = process::run(&mut git).context("tidy needs the git checkout it stands in")?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A file that is deleted but still in the index is skipped, and so is one that is not UTF-8.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

/// Every crate must be named in ARCHITECTURE.md, so that readers find it.
fn crates_are_named(root: &Path) -> anyhow::Result<Vec<String>> {
    let Ok(map) = std::fs::read_to_string(root.join("ARCHITECTURE.md")) else {
        return Ok(vec!["ARCHITECTURE.md is missing; write the map of the crates".to_owned()]);
    };
    let words: Vec<&str> = map.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
    let mut folders: Vec<PathBuf> = vec![root.join("xtask")];
    for parent in ["crates", "testing"] {
        for folder in std::fs::read_dir(root.join(parent))? {
            folders.push(folder?.path());
        }
    }
    let names = folders.iter().filter_map(|folder| folder.file_name()?.to_str());
    let missing = names.filter(|name| !words.contains(name));
    Ok(missing
        .map(|name| format!("ARCHITECTURE.md does not name the crate `{name}`; say what it is for"))
        .collect())
}

#[cfg(test)]
mod tests;
