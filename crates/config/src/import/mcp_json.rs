//! Loads the `mcpServers` JSON of desktop clients (`servers` in VS Code) as backends. A key that only other
//! clients use is a warning; a known key of another client, such as `serverUrl`, is a problem with the right
//! key.

mod server_names;

use std::path::Path;

use jsonc_parser::ParseOptions;
use serde_json::{Map, Value};

use crate::convert::{self, Findings};
use crate::file::{Aggregation, Backend, BackendTransport, File, NameForm};
use crate::load::expand::{self, EnvLookup};
use crate::load::read_file;
use crate::load::tree::{self, NodeKind};
use crate::report::{Problem, ProblemCode, Report, is_consequence, item_path, join_path, nearest_name};
use crate::settings::{Overrides, Settings};
use crate::show::written::without_secrets;

/// JSON with comments and trailing commas, as VS Code allows them, and nothing else.
const JSON_WITH_COMMENTS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Loads the `mcpServers` JSON at `path`. All other settings have their defaults, so only clashing tool names
/// get a prefix.
///
/// # Errors
/// Every problem of the file, with the warnings about settings without effect.
pub fn load_mcp_json(path: &Path, env: EnvLookup<'_>, overrides: &Overrides) -> Result<Settings, Report> {
    let file = path.display().to_string();
    match read_file(path) {
        Ok(text) => load_text(&text, &file, env, overrides),
        Err(problem) => Err(Report { file, problems: vec![problem], warnings: Vec::new() }),
    }
}

/// Loads the text of an `mcpServers` file. `file` is the path that messages begin with.
pub(crate) fn load_text(
    text: &str,
    file: &str,
    env: EnvLookup<'_>,
    overrides: &Overrides,
) -> Result<Settings, Report> {
    let Servers { backends, paths, mut problems, mut warnings } = parse(text, Some(env));
    let report = |problems, warnings| Report { file: file.to_owned(), problems, warnings };
    if paths.is_empty() && !problems.is_empty() {
        return Err(report(problems, warnings));
    }
    let mut findings = Findings::new(env);
    let aggregation = Some(Aggregation { names: Some(NameForm::Safe), ..Aggregation::default() });
    let config = File { name: "vmcp".to_owned(), backends, aggregation, ..File::default() };
    let raw = File { backends: parse(text, None).backends, ..File::default() };
    let written = without_secrets(&config, &serde_json::to_value(raw).unwrap_or_default());
    let settings = convert::convert(config, overrides, &mut findings);
    let rename = |problem: Problem| Problem { path: server_path(&problem.path, &paths), ..problem };
    let problem_paths: Vec<String> = problems.iter().map(|problem| problem.path.clone()).collect();
    let more = findings.problems.into_iter().map(rename);
    problems.extend(more.filter(|problem| !is_consequence(&problem.path, &problem_paths)));
    warnings.extend(findings.warnings.into_iter().map(rename));
    match settings {
        Some(mut settings) if problems.is_empty() => {
            settings.warnings = warnings;
            settings.written = written;
            Ok(settings)
        }
        _ => Err(report(problems, warnings)),
    }
}

/// Translates a path of the config into one of the JSON: `backends[1].url` becomes `mcpServers.github.url`.
fn server_path(path: &str, paths: &[String]) -> String {
    let named = path.strip_prefix("backends[").and_then(|rest| {
        let (index, rest) = rest.split_once(']')?;
        let server = paths.get(index.parse::<usize>().ok()?)?;
        Some(format!("{server}{rest}"))
    });
    named.unwrap_or_else(|| path.to_owned())
}

/// The servers of an `mcpServers` file, as backends.
#[derive(Default)]
pub(crate) struct Servers {
    /// One backend for each server that is not disabled.
    pub(crate) backends: Vec<Backend>,
    /// The path of each backend in the JSON, by its index in `backends`.
    paths: Vec<String>,
    /// The reasons why the file is refused.
    pub(crate) problems: Vec<Problem>,
    /// Settings that have no effect, and renamed servers.
    pub(crate) warnings: Vec<Problem>,
}

/// Reads the servers of a file. Without `env`, references to the environment stay as they are.
pub(crate) fn parse(text: &str, env: Option<EnvLookup<'_>>) -> Servers {
    let mut out = Servers::default();
    let root: Value = match jsonc_parser::parse_to_serde_value(text, &JSON_WITH_COMMENTS) {
        Ok(root) => root,
        Err(error) => {
            let message = format!("not valid JSON at column {}: {}", error.column_display(), error.kind());
            let problem = if is_yaml_config(text) {
                Problem::new("", "this is a configuration in YAML, and not the JSON file of a client")
                    .with_code(ProblemCode::WrongFile)
                    .with_hint("name it with `--config`")
            } else {
                Problem::new("", message).with_code(ProblemCode::Syntax)
            };
            out.problems.push(Problem { line: u64::try_from(error.line_display()).ok(), ..problem });
            return out;
        }
    };
    let found = ["mcpServers", "servers"].into_iter().find_map(|key| Some((key, root.get(key)?)));
    let Some((key, Value::Object(servers))) = found else {
        let mut problem = Problem::new("", "has no map `mcpServers` (or `servers`)");
        let keys = || root.as_object().into_iter().flat_map(Map::keys).map(String::as_str);
        let near = keys().find(|key| nearest_name(key, ["mcpServers"]).is_some());
        if let Some(other) = near.or_else(|| keys().find(|key| FOREIGN_LIST_KEYS.contains(key))) {
            problem =
                problem.with_hint(format!("`{other}` should be `mcpServers`, a map of servers by name"));
        }
        out.problems.push(problem);
        return out;
    };
    let mut names = server_names::AssignedNames::reserve(servers.keys());
    for (name, server) in servers {
        let mut reader = ServerReader { path: join_path(key, name), env, out: &mut out };
        if let Some(mut backend) = reader.read_server(name, server) {
            let path = reader.path;
            backend.name = names.assign(name);
            if backend.name != *name {
                let message = format!(
                    "is called `{}` here: clients refuse tool names that begin with it",
                    backend.name
                );
                out.warnings.push(Problem::new(&path, message).with_code(ProblemCode::Warning));
            }
            out.backends.push(backend);
            out.paths.push(path);
        }
    }
    out
}

/// True for text that is YAML with the keys of a config file.
fn is_yaml_config(text: &str) -> bool {
    let Ok(root) = tree::parse(text) else { return false };
    let NodeKind::Map(entries) = root.kind else { return false };
    entries.iter().any(|(key, _, _)| ["name", "backends", "groupRef"].contains(&key.as_str()))
}

/// The keys under which other clients have the map of servers.
const FOREIGN_LIST_KEYS: [&str; 5] =
    ["mcp", "context_servers", "amp.mcpServers", "mcp.servers", "extensions"];
/// Keys of a server in other clients, with the key that is used here.
const FOREIGN_MEMBER_NAMES: [(&str, &str); 6] = [
    ("serverUrl", "url"),
    ("httpUrl", "url"),
    ("uri", "url"),
    ("endpoint", "url"),
    ("cmd", "command"),
    ("environment", "env"),
];

/// True if a server is switched off, by any key that clients use for it.
fn is_disabled(entries: &Map<String, Value>) -> bool {
    let is = |key: &str, word: bool| match entries.get(key) {
        Some(Value::Bool(flag)) => *flag == word,
        Some(Value::String(text)) => text.parse() == Ok(word),
        Some(_) | None => false,
    };
    is("disabled", true) || ["enabled", "isActive", "active"].iter().any(|key| is(key, false))
}

struct ServerReader<'a, 'e> {
    path: String,
    env: Option<EnvLookup<'e>>,
    out: &'a mut Servers,
}

impl ServerReader<'_, '_> {
    fn read_server(&mut self, name: &str, server: &Value) -> Option<Backend> {
        let Value::Object(entries) = server else {
            self.problem("", "must be a map");
            return None;
        };
        if is_disabled(entries) {
            let warning = Problem::new(&self.path, "is disabled and left out");
            self.out.warnings.push(warning.with_code(ProblemCode::Warning));
            return None;
        }
        let mut backend = Backend { name: name.to_owned(), ..Backend::default() };
        // Some clients write every key that they know, with null for those without a value.
        for (key, value) in entries.iter().filter(|(_, value)| !value.is_null()) {
            match key.as_str() {
                "command" => backend.command = self.read_text(key, value),
                "args" => backend.args = self.read_list(key, value),
                "env" => backend.env = self.read_map(key, value),
                "cwd" => backend.cwd = self.read_text(key, value),
                "url" => backend.url = self.read_text(key, value),
                "headers" => backend.headers = self.read_map(key, value),
                "type" | "transport" => backend.transport = self.read_transport(key, value),
                "disabled" | "enabled" | "isActive" | "active" => {}
                _ => {
                    let path = join_path(&self.path, key);
                    let warning = Problem::new(path, "is not known here and has no effect");
                    if let Some((_, right)) = FOREIGN_MEMBER_NAMES.iter().find(|(other, _)| other == key) {
                        let rename_problem =
                            Problem::new(join_path(&self.path, key), "is another client's word");
                        self.out.problems.push(rename_problem.with_hint(format!("it should be `{right}`")));
                        continue;
                    }
                    let known = ["command", "args", "env", "cwd", "url", "headers", "type", "disabled"];
                    let warning = warning.with_code(ProblemCode::Warning);
                    self.out.warnings.push(warning.with_nearest(key, known));
                }
            }
        }
        Some(backend)
    }

    fn problem(&mut self, key: &str, message: &str) {
        let path = if key.is_empty() { self.path.clone() } else { format!("{}.{key}", self.path) };
        self.out.problems.push(Problem::new(path, message));
    }

    fn read_transport(&mut self, key: &str, value: &Value) -> Option<BackendTransport> {
        let word = value.as_str().map(|word| word.to_ascii_lowercase().replace(['-', '_'], ""));
        match word.as_deref() {
            Some("stdio" | "local") => Some(BackendTransport::Stdio),
            Some("sse") => Some(BackendTransport::Sse),
            Some("http" | "streamablehttp") => Some(BackendTransport::StreamableHttp),
            // `remote` is streamable HTTP or HTTP+SSE; the gateway finds out which when it connects.
            Some("remote") => None,
            _ => {
                self.problem(key, "must be one of `stdio`, `http`, `streamable-http`, `sse`");
                None
            }
        }
    }

    fn read_text(&mut self, key: &str, value: &Value) -> Option<String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null => return None,
            Value::Array(_) | Value::Object(_) => {
                self.problem(key, "must be a text");
                return None;
            }
        };
        let Some(env) = self.env else { return Some(text) };
        match expand::expand_text(&text, env) {
            Ok((text, _)) => Some(text),
            Err(error) => {
                let problem = error.to_problem(&format!("{}.{key}", self.path));
                self.out.problems.push(problem);
                Some(text)
            }
        }
    }

    fn read_list(&mut self, key: &str, value: &Value) -> Vec<String> {
        let Value::Array(values) = value else {
            self.problem(key, "must be a list");
            return Vec::new();
        };
        let texts = values.iter().enumerate();
        texts.filter_map(|(index, value)| self.read_text(&item_path(key, index), value)).collect()
    }

    fn read_map<M: FromIterator<(String, String)>>(&mut self, key: &str, value: &Value) -> M {
        let Value::Object(entries) = value else {
            self.problem(key, "must be a map");
            return M::from_iter([]);
        };
        let texts = entries.iter();
        texts
            .filter_map(|(name, value)| Some((name.clone(), self.read_text(&join_path(key, name), value)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
