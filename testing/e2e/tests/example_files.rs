//! The configurations in `examples/` are accepted by the binary, with no more than their heads say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use vmcp_e2e::process::binary;

/// A password, key or token that no rule refuses.
const SECRET: &str = "0123456789abcdef0123";

fn examples(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(examples(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The variables that the comment at the head of a file asks for, one a line after three spaces, without optional ones.
fn environment(text: &str, secret_file: &Path) -> BTreeMap<String, String> {
    let head = text.lines().map_while(|line| line.strip_prefix('#'));
    let needed = head.filter_map(|line| line.strip_prefix("   ")).filter(|line| !line.contains(" optional:"));
    let names = needed.filter_map(|line| line.split_whitespace().next());
    let is_variable =
        |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let value = |name: &str| {
        if name.ends_with("_FILE") { secret_file.display().to_string() } else { SECRET.to_owned() }
    };
    names.filter(is_variable).map(|name| (name.to_owned(), value(name))).collect()
}

#[test]
fn every_example_is_accepted_with_what_its_head_says() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let scratch = tempfile::tempdir()?;
    let secret_file = scratch.path().join("secret");
    std::fs::write(&secret_file, SECRET)?;
    let files = examples(&folder)?;
    ensure!(files.len() >= 15, "{} examples were found in {}", files.len(), folder.display());
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.starts_with('#'), "{}: says at its head what it is for", file.display());
        let mut command = Command::new(binary("vmcp")?);
        command.args(["validate", "--config"]).arg(&file);
        // Files that show keys without effect have warnings on purpose.
        if file.file_stem().is_none_or(|name| name != "without-effect") {
            command.arg("--strict");
        }
        command
            .env_clear()
            .env("HOME", scratch.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(environment(&text, &secret_file));
        let output = command.output().context("vmcp does not start")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} is refused:\n{said}", file.display());
    }
    Ok(())
}
