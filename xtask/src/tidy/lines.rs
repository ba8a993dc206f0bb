//! Rules for the lines of a file and for its length.

use super::File;

/// The maximum length of a Rust file in lines. Longer files must be split.
const LINES_MAX: usize = 400;

/// Names that do not describe the content of a module or type.
const VAGUE_NAMES: [&str; 7] = ["common", "helper", "helpers", "manager", "misc", "util", "utils"];
const VAGUE_SUFFIXES: [&str; 3] = ["Helper", "Manager", "Utils"];

/// Marks of unfinished work. They are written in pieces, so that this file passes its own check.
const UNFINISHED: [&str; 4] =
    [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("FIX", "ME"), concat!("X", "XX")];

/// Paths that exist on one machine only.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Hosts of package registries. The choice of a registry belongs to the user's configuration.
const REGISTRIES: [&str; 5] = [
    concat!("registry.npm", "js.org"),
    concat!("py", "pi.org"),
    concat!("files.python", "hosted.org"),
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
];

pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut failures = Vec::new();
    for file in files {
        // Recorded data is not edited, and cargo itself writes the registry's host into the lock file.
        if file.path == "Cargo.lock" || file.path.starts_with("testing/e2e/catalogues/") {
            continue;
        }
        check_any_file(file, &mut failures);
        if file.path.ends_with(".rs") {
            check_rust_file(file, &mut failures);
        }
    }
    failures
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn check_any_file(file: &File, failures: &mut Vec<String>) {
    for (number, line) in (1..).zip(file.text.lines()) {
        let at = format!("{}:{number}", file.path);
        if MACHINE_PATHS.iter().any(|path| is_standalone(line, path)) {
            failures.push(format!("{at}: a path of one machine; derive it, or take it as an argument"));
        }
        if REGISTRIES.iter().any(|host| line.contains(host)) {
            failures
                .push(format!("{at}: the host of a registry; leave the choice to the user's configuration"));
        }
    }
}

/// Whether `path` occurs in the line as an absolute path and not as the end of a longer one.
fn is_standalone(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        let before = line.get(..start).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/}".contains(c))
    })
}

fn check_rust_file(file: &File, failures: &mut Vec<String>) {
    let path = &file.path;
    let lines: Vec<&str> = file.text.lines().collect();
    if !path.ends_with("tests.rs") && !file.text.starts_with("//!") {
        failures.push(format!("{path}: no file opens with code; say in `//!` what it answers for"));
    }
    if !is_test(path) && lines.len() > LINES_MAX {
        failures.push(format!(
            "{path}: {} lines, at most {LINES_MAX}; split it by what it answers for",
            lines.len()
        ));
    }
    if let Some(name) =
        path.split('/').map(|part| part.trim_end_matches(".rs")).find(|part| VAGUE_NAMES.contains(part))
    {
        failures.push(format!("{path}: `{name}` names nothing; name the module after what it does"));
    }
    for (number, line) in (1..).zip(&lines) {
        if let Some(mark) = UNFINISHED.iter().find(|mark| line.contains(**mark)) {
            failures
                .push(format!("{path}:{number}: {mark} marks unfinished work; finish it, or open an issue"));
        }
        if let Some(name) = declared(line).filter(|name| is_empty_name(name)) {
            failures.push(format!("{path}:{number}: `{name}` names nothing; name it after what it does"));
        }
    }
    if !is_test(path) && !path.starts_with("testing/testkit/") {
        gateways(path, &lines, failures);
    }
}

fn is_empty_name(name: &str) -> bool {
    VAGUE_NAMES.contains(&name) || VAGUE_SUFFIXES.iter().any(|ending| name.ends_with(ending))
}

/// Returns the name of a module or type that a line declares.
fn declared(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
    let kind = words.next()?;
    matches!(kind, "mod" | "struct" | "enum" | "trait" | "type").then(|| words.next())?.map(|name| {
        let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(name.len());
        name.get(..end).unwrap_or(name)
    })
}

/// Every implementation of `Gateway` must be explicit about every method, also about methods that are added
/// later.
fn gateways(path: &str, lines: &[&str], failures: &mut Vec<String>) {
    for (number, line) in (1..).zip(lines) {
        let line = line.trim_start();
        let implements =
            line.starts_with("impl") && (line.contains(" Gateway for ") || line.contains("::Gateway for "));
        if !implements {
            continue;
        }
        let attributes = lines.iter().take(number - 1).rev().take_while(|line| {
            let line = line.trim_start();
            line.starts_with("#[") || line.starts_with("//")
        });
        let denies = |line: &str| line.contains("deny(") && line.contains("missing_trait_methods");
        if !attributes.into_iter().any(|line| denies(line)) {
            failures.push(format!(
                "{path}:{number}: put #[deny(clippy::missing_trait_methods)] on this implementation, so that a \
                 new method of a trait cannot bypass it"
            ));
        }
    }
}
