//! Loads a YAML config in five steps: parse the text, build the tree, expand references to the environment,
//! check the shape, convert. Each step reports its problems and passes the rest on, so that one run finds
//! every problem.

pub(crate) mod check;
pub(crate) mod expand;
pub(crate) mod tree;
mod unknown_key;

use std::collections::BTreeMap;
use std::fs::File as Input;
use std::io::Read;
use std::path::Path;

use super::convert::{self, Findings};
use super::file::File;
use super::report::{Problem, ProblemCode, Report, is_consequence};
use super::settings::{Overrides, Settings};
use super::show::written::without_secrets;
use crate::file::schema::schema;
use crate::load::check::CheckResult;
use crate::load::expand::EnvLookup;
use crate::load::tree::{FILE_BYTES_MAX, Node, NodeKind};

/// Loads the YAML config at `path`.
///
/// # Errors
/// Every problem of the config, with the warnings about settings without effect.
pub fn load_file(path: &Path, env: EnvLookup<'_>, overrides: &Overrides) -> Result<Settings, Report> {
    let file = path.display().to_string();
    match read_file(path) {
        Ok(text) => {
            let loaded = load_text(&text, &file, env, overrides);
            let Some(problem) = find_auth_server_file(path) else { return loaded };
            let mut report = match loaded {
                Ok(settings) => Report { file, problems: Vec::new(), warnings: settings.warnings },
                Err(report) => report,
            };
            report.problems.push(problem);
            Err(report)
        }
        Err(problem) => Err(Report { file, problems: vec![problem], warnings: Vec::new() }),
    }
}

/// Reports the file of ToolHive's embedded authorization server beside the config. This build does not have
/// that server, and without it callers cannot log in.
fn find_auth_server_file(path: &Path) -> Option<Problem> {
    const AUTH_SERVER: &str = "authserver-config.yaml";
    let auth_server_path = path.with_file_name(AUTH_SERVER);
    if path.file_name().is_some_and(|name| name == AUTH_SERVER) || !auth_server_path.exists() {
        return None;
    }
    let message =
        format!("`{AUTH_SERVER}` lies beside it, and this build does not have an authorization server yet");
    Some(
        Problem::new("", message).with_code(ProblemCode::NotBuilt).with_hint(
            "write `incomingAuth` with the issuer that callers log in to, and move that file away",
        ),
    )
}

/// Reads a UTF-8 file of at most [`FILE_BYTES_MAX`] bytes, without its byte order mark.
pub(super) fn read_file(path: &Path) -> Result<String, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::new("", format!("cannot be read: {error}")).with_code(ProblemCode::File)
    };
    let mut bytes = Vec::new();
    // One byte more than the limit, to notice that a file is too large.
    let bound = FILE_BYTES_MAX as u64 + 1;
    Input::open(path).and_then(|input| input.take(bound).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("is larger than {FILE_BYTES_MAX} bytes");
        return Err(Problem::new("", message).with_code(ProblemCode::File));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| Problem::new("", "is not UTF-8 text").with_code(ProblemCode::File))?;
    // Editors on Windows write a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

/// Loads the text of a YAML config. `file` is the path that messages begin with.
///
/// # Errors
/// Every problem of the config, with the warnings about settings without effect.
pub fn load_text(
    text: &str,
    file: &str,
    env: EnvLookup<'_>,
    overrides: &Overrides,
) -> Result<Settings, Report> {
    let mut report = Report { file: file.to_owned(), ..Report::default() };
    let mut root = match tree::parse(text) {
        Ok(root) => root,
        Err(problem) => {
            report.problems.push(problem);
            return Err(report);
        }
    };
    if !matches!(root.kind, NodeKind::Map(_)) {
        let message = if matches!(root.kind, NodeKind::Null) {
            "the file is empty"
        } else {
            "the file must be a map, with keys such as `name` and `backends`"
        };
        report.problems.push(Problem::new("", message).with_code(ProblemCode::Syntax));
        return Err(report);
    }
    if let Some(problem) = find_client_file(&root) {
        report.problems.push(problem);
        return Err(report);
    }
    let raw = root.to_value();
    expand::expand_tree(&mut root, "", env, &mut report.problems);
    let CheckResult { value, problems, unknown_keys: unknown, lines, intended_paths } =
        check::check(&root, schema());
    report.problems.extend(problems);
    report.problems.extend(unknown);
    let settings = match serde_json::from_value::<File>(value) {
        Ok(file) => {
            let mut findings = Findings::new(env);
            let written = without_secrets(&file, &raw);
            let settings = convert::convert(file, overrides, &mut findings);
            add_findings(&mut report, findings, &lines, &intended_paths);
            settings.map(|settings| Settings { written, ..settings })
        }
        // The check leaves only values that fit the types, so this error is a gap in the check.
        Err(error) => {
            report.problems.push(Problem::new("", error.to_string()));
            None
        }
    };
    match settings {
        Some(mut settings) if report.problems.is_empty() => {
            settings.warnings = report.warnings;
            Ok(settings)
        }
        _ => Err(report),
    }
}

/// Reports the file of a client that was named as a config. Its keys would only be unknown here.
fn find_client_file(root: &Node) -> Option<Problem> {
    let NodeKind::Map(entries) = &root.kind else { return None };
    let is_config = entries.iter().any(|(key, _, _)| key == "backends" || key == "name");
    let (key, line, _) = entries.iter().find(|(key, _, _)| *key == "mcpServers").filter(|_| !is_config)?;
    let problem = Problem::new(key.clone(), "this is the file of a client, and not a configuration of vmcp");
    let problem = problem
        .with_code(ProblemCode::WrongFile)
        .with_hint("name it with `--mcp-json`, or convert it with `vmcp init --from`");
    Some(Problem { line: Some(*line), ..problem })
}

/// Adds the findings of the conversion to the report, with their lines. Findings that only follow from a
/// wrong shape are dropped.
fn add_findings(
    report: &mut Report,
    findings: Findings<'_>,
    lines: &BTreeMap<String, u64>,
    intended_paths: &[String],
) {
    let shape_paths: Vec<String> = report.problems.iter().map(|problem| problem.path.clone()).collect();
    let follows = |problem: &Problem| {
        intended_paths.contains(&problem.path) || is_consequence(&problem.path, &shape_paths)
    };
    let locate = |problem: Problem| Problem {
        line: problem.line.or_else(|| line_of(&problem.path, lines)),
        ..problem
    };
    let Findings { problems, warnings, .. } = findings;
    report.problems.extend(problems.into_iter().filter(|problem| !follows(problem)).map(locate));
    report.warnings.extend(warnings.into_iter().filter(|warning| !follows(warning)).map(locate));
    report.problems.sort_by_key(|problem| problem.line.unwrap_or_default());
    report.warnings.sort_by_key(|warning| warning.line.unwrap_or_default());
}

/// The line of the key at `path`, or of the nearest key around it.
fn line_of(path: &str, lines: &BTreeMap<String, u64>) -> Option<u64> {
    let mut path = path;
    loop {
        if let Some(line) = lines.get(path) {
            return Some(*line);
        }
        path = &path[..path.rfind(['.', '['])?];
    }
}
