//! `cargo xtask reference DIRECTORY`: checks every configuration of a virtual MCP server in a checkout of
//! ToolHive with `vmcp validate`, and every manifest of one with `vmcp init --from`. Writes
//! docs/reference-configurations.md. The inputs are not copied into the tree.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use vmcp_e2e::process;

use crate::root;

const TABLE: &str = "docs/reference-configurations.md";
const HEAD: &str = "# Configurations of the reference

Every whole configuration of a virtual MCP server in ToolHive's repository (YAML files, blocks in Markdown, texts in Go tests), as
`vmcp validate` takes it: accepted, or the first sentence that refuses it. Written by `cargo xtask reference DIRECTORY`, where
DIRECTORY is a checkout. Variables that a file names are set. Files that its own tests expect to be refused are among them.

Most name a `groupRef` and no `backends`: ToolHive looks the servers of a group up, and this build does not. The last column is the
same file with one backend listed.

";
const MANIFESTS: &str = "
## Manifests

Every text there with a `VirtualMCPServer` object, as `vmcp init --from` takes it: carried over, with what it says of the rest, or
the first sentence that refuses it. Most are parts of a whole: they name objects that other files hold. The last column is what
`vmcp validate` says of the file that is written, where the manifest has a server of the group.

| Place | Carried over | The file |
| --- | --- | --- |
";

/// Root keys that identify a configuration of a virtual MCP server.
const ROOT_KEYS: [&str; 5] =
    ["groupRef:", "incomingAuth:", "outgoingAuth:", "aggregation:", "compositeTools:"];

/// Appended to texts that have no backends, so that the rest can be checked.
const BACKENDS: &str = "backends: [{name: placeholder, url: 'http://127.0.0.1:8080/mcp'}]\n";

/// A text that looks like a configuration or a manifest, with its file and its first line.
struct FoundText {
    file: String,
    line: usize,
    text: String,
}

pub(crate) fn run(directory: &Path) -> anyhow::Result<()> {
    let found = find_texts(directory, is_configuration)?;
    ensure!(!found.is_empty(), "{} holds no configuration", directory.display());
    let mut table = format!("{HEAD}| Place | As it is | With a backend |\n| --- | --- | --- |\n");
    let (mut accepted, mut accepted_with) = (0, 0);
    for FoundText { file, line, text } in &found {
        let verdict = validate(text)?;
        let verdict_with_backend =
            if has_backends(text) { verdict.clone() } else { validate(&format!("{text}\n{BACKENDS}"))? };
        accepted += usize::from(verdict.starts_with("accepted"));
        accepted_with += usize::from(verdict_with_backend.starts_with("accepted"));
        writeln!(table, "| {file}:{line} | {verdict} | {verdict_with_backend} |")?;
    }
    let sum =
        format!("{accepted} of {} are accepted as they are, {accepted_with} with a backend", found.len());
    writeln!(table, "\n{sum}.")?;
    let (rows, carried, all) = manifests(directory)?;
    table.push_str(MANIFESTS);
    table.push_str(&rows);
    writeln!(table, "\n{carried} of {all} are carried over.")?;
    std::fs::write(root().join(TABLE), &table)?;
    println!("{TABLE} is written: {sum}");
    Ok(())
}

/// Finds the texts below a folder for which `is_meant` is true, sorted by file and line.
fn find_texts(directory: &Path, is_meant: fn(&str) -> bool) -> anyhow::Result<Vec<FoundText>> {
    let mut found = Vec::new();
    collect(directory, directory, is_meant, &mut found)?;
    found.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    Ok(found)
}

/// Returns the rows of the table of manifests, how many were imported, and how many there are.
fn manifests(directory: &Path) -> anyhow::Result<(String, usize, usize)> {
    let found = find_texts(directory, is_manifest)?;
    let (mut rows, mut carried) = (String::new(), 0);
    for FoundText { file, line, text } in &found {
        let (verdict, written) = import_manifest(text)?;
        carried += usize::from(written.is_some());
        let written = written
            .map(|text| if has_backends(&text) { validate(&text) } else { Ok("no server".to_owned()) });
        writeln!(rows, "| {file}:{line} | {verdict} | {} |", written.transpose()?.unwrap_or_default())?;
    }
    Ok((rows, carried, found.len()))
}

/// Returns the result that `vmcp init` reports for a manifest, and the file that it writes, if it writes one.
fn import_manifest(text: &str) -> anyhow::Result<(String, Option<String>)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("manifest.yaml");
    std::fs::write(&file, text)?;
    let mut command = Command::new(process::binary("vmcp")?);
    let output = command.args(["init", "--from"]).arg(&file).output()?;
    let (stderr, written) = (String::from_utf8(output.stderr)?, String::from_utf8(output.stdout)?);
    let sentence = |line: &str| {
        let line = line.trim_start_matches("vmcp: ").replace(&*file.to_string_lossy(), "");
        let line = line.trim_start_matches([':', ' ']).trim_start_matches(|c: char| c.is_ascii_digit());
        line.trim_start_matches([':', ' ']).replace('|', " ")
    };
    if written.is_empty() {
        return Ok((sentence(stderr.lines().next().unwrap_or_default()), None));
    }
    let warnings = stderr.lines().filter(|line| line.contains(": warning: ")).count();
    let count = format!("yes, {warnings} warning{}", if warnings == 1 { "" } else { "s" });
    Ok((if warnings == 0 { "yes".to_owned() } else { count }, Some(written)))
}

fn has_backends(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("backends:") && !line.ends_with("[]"))
}

fn collect(
    top: &Path,
    folder: &Path,
    is_meant: fn(&str) -> bool,
    found: &mut Vec<FoundText>,
) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for path in entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<PathBuf>>>()? {
        if path.is_symlink() || path.ends_with(".git") {
            continue;
        }
        if path.is_dir() {
            collect(top, &path, is_meant, found)?;
            continue;
        }
        let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
        // A file that is unreadable or not UTF-8 is not a configuration.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let texts = match path.extension().and_then(|end| end.to_str()) {
            Some("yaml" | "yml") => vec![(1, text)],
            Some("md") => texts_between(&text, "```yaml\n", "```"),
            Some("go") => texts_between(&text, "`", "`"),
            _ => continue,
        };
        let texts = texts.into_iter().filter(|(_, text)| is_meant(text));
        found.extend(texts.map(|(line, text)| FoundText { file: name.clone(), line, text }));
    }
    Ok(())
}

/// Returns the texts between two markers, each with the line on which it begins.
fn texts_between(text: &str, begin: &str, end: &str) -> Vec<(usize, String)> {
    let (mut found, mut position) = (Vec::new(), 0);
    while let Some(start) = text.get(position..).and_then(|rest| rest.find(begin)) {
        let start = position + start + begin.len();
        let Some(length) = text.get(start..).and_then(|rest| rest.find(end)) else { break };
        let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
        found.push((line, text.get(start..start + length).unwrap_or_default().to_owned()));
        position = start + length + end.len();
    }
    found
}

/// Whether a text is a configuration: it has a name and one of [`ROOT_KEYS`] at its root, and is not a
/// Kubernetes object.
fn is_configuration(text: &str) -> bool {
    let has = |key: &str| text.lines().any(|line| line.starts_with(key));
    has("name:") && ROOT_KEYS.into_iter().any(has) && !has("kind:") && !has("apiVersion:")
}

/// Whether a text is a manifest of a virtual server. Templates of charts and fragments without `spec` are
/// not.
fn is_manifest(text: &str) -> bool {
    let has = |key: &str| text.lines().any(|line| line.trim_end() == key);
    has("kind: VirtualMCPServer")
        && text.lines().any(|line| line.starts_with("spec:"))
        && !text.contains(".Values")
}

/// Returns the result that `vmcp validate` reports for a text.
fn validate(text: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, text)?;
    let mut command = Command::new(process::binary("vmcp")?);
    command.args(["validate", "--format", "json", "--config"]).arg(&file);
    for variable in variables(text) {
        command.env(variable, "a-value-for-the-check");
    }
    // An imported file also names variables inside of texts, as `${NAME}`.
    for variable in text.split("${").skip(1).filter_map(|rest| rest.split_once('}')) {
        command.env(variable.0, "a-value-for-the-check");
    }
    let answer: Value =
        serde_json::from_slice(&command.output()?.stdout).context("validate gives no JSON")?;
    let warnings = answer["warnings"].as_array().map_or(0, Vec::len);
    Ok(match answer["errors"].as_array().and_then(|errors| errors.first()) {
        None if warnings == 0 => "accepted".to_owned(),
        None => format!("accepted, {warnings} warning{}", if warnings == 1 { "" } else { "s" }),
        Some(error) => {
            let text = |key: &str| error[key].as_str().unwrap_or_default().replace(['|', '\n'], " ");
            match &*text("path") {
                "" => text("message"),
                path => format!("`{path}`: {}", text("message")),
            }
        }
    })
}

/// The environment variables that a configuration names in keys that end with `Env`.
fn variables(text: &str) -> BTreeSet<String> {
    let named = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        let value = value.split('#').next()?.trim().trim_matches(['"', '\'']);
        (key.trim().ends_with("Env") && !value.is_empty()).then(|| value.to_owned())
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_configurations_are_told_from_other_texts() {
        for (text, expected) in [
            ("name: a\ngroupRef: b\n", true),
            ("apiVersion: v1\nkind: VirtualMCPServer\nname: a\ngroupRef: b\n", false),
            ("incomingAuth:\n  type: oidc\n", false),
            ("spec:\n  name: a\n  groupRef: b\n", false),
        ] {
            assert_eq!(is_configuration(text), expected, "{text}");
        }
        assert_eq!(texts_between("x\n`a`\n`b\nc`", "`", "`"), [(2, "a".to_owned()), (3, "b\nc".to_owned())]);
        assert_eq!(variables("a:\n  clientSecretEnv: \"X_Y\" # why\n"), BTreeSet::from(["X_Y".to_owned()]));
    }
}
