//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that a program can check. Each failure names
//! the place and says what to do. Also a test, so that nobody has to remember it.

mod arrows;
mod lines;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use vmcp_e2e::process;

use crate::root;

/// A file of the tree that is text.
struct File {
    /// Its path below the root, with `/`.
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
    let mut failures = arrows::check(root)?;
    failures.extend(crates_are_named(root)?);
    failures.extend(lines::check(&files));
    Ok(failures)
}

/// Every file that is, or would be, under version control, if it is text.
fn files(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listed = process::run(&mut git).context("tidy needs the git checkout it stands in")?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A file that is gone from the folder but not yet from the index is none of our business,
        // and one that is not UTF-8 is no text.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

/// ARCHITECTURE.md is the map: a crate that is not on it cannot be found.
fn crates_are_named(root: &Path) -> anyhow::Result<Vec<String>> {
    let Ok(map) = std::fs::read_to_string(root.join("ARCHITECTURE.md")) else {
        return Ok(vec!["ARCHITECTURE.md is missing; write the map of the crates".to_owned()]);
    };
    let words: Vec<&str> = map.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
    let mut folders: Vec<PathBuf> = vec![root.join("xtask"), root.join("tests-e2e")];
    for folder in std::fs::read_dir(root.join("crates"))? {
        folders.push(folder?.path());
    }
    let names = folders.iter().filter_map(|folder| folder.file_name()?.to_str());
    let missing = names.filter(|name| !words.contains(name));
    Ok(missing
        .map(|name| format!("ARCHITECTURE.md does not name the crate `{name}`; say what it is for"))
        .collect())
}

#[cfg(test)]
mod tests;
