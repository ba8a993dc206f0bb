//! The output of `vmcp init`: a commented config to start with, without servers or made from an `mcpServers`
//! file or a Kubernetes manifest.

use std::path::Path;

use serde_json::{Map, Value};

use super::file::Backend;
use super::load::read_file;
use super::report::{Problem, Report};
use super::show::to_yaml;
use crate::import::imported_config::ImportedConfig;
use crate::import::manifest;
use crate::import::mcp_json::{Servers, parse};

const HEADER: &str = "\
# vmcp: one endpoint in front of many MCP servers.
# Check this file with `vmcp validate --config FILE`, see the effective values with `vmcp config show --config FILE`.
# ${NAME} in a text is replaced by the environment variable NAME; $${ is replaced by ${.

# The name clients see.
name: my-vmcp

# Where clients connect: http://127.0.0.1:4483/mcp
# listen:
#   host: 127.0.0.1
#   port: 4483
#   path: /mcp

# Who callers are. Left out or anonymous: every caller who reaches the port.
incomingAuth:
  type: anonymous

# How clashing names are resolved: auto (only clashing names get a prefix), prefix (all do),
# priority (the backend listed first keeps the name), manual (overrides must resolve every clash).
aggregation:
  conflictResolution: auto
  # tools:
  #   - workload: github
  #     filter: [create_issue, list_issues]
  #     overrides:
  #       create_issue:
  #         description: Opens an issue. Search for an existing one first.

# How long calls may take, and how backends are watched.
# operational:
#   timeouts:
#     default: 30s
#   failureHandling:
#     healthCheckInterval: 30s
#     unhealthyThreshold: 3
";

const EXAMPLES: &str = "
# The MCP servers behind this one. Replace the brackets by entries like these.
backends: []
  # A program that is started and uses standard input and output:
  # - name: files
  #   command: npx
  #   args: [-y, \"@modelcontextprotocol/server-filesystem\", /tmp]
  #   env:
  #     TOKEN: ${FILES_TOKEN}
  # A server reached over HTTP (transport: streamable-http or sse):
  # - name: github
  #   url: https://api.githubcopilot.com/mcp/
  #   transport: streamable-http
  #   headers:
  #     Authorization: Bearer ${GITHUB_TOKEN}
  #   timeout: 1m0s
";

/// A commented config without servers.
pub fn starter() -> String {
    format!("{HEADER}{EXAMPLES}")
}

/// A config with the content of the file at `path`: the servers of an `mcpServers` file, or of a Kubernetes
/// manifest with a `VirtualMCPServer` and the objects that it refers to. `server` chooses among several
/// virtual servers by name.
///
/// # Errors
/// If the file cannot be read, or has problems; the report has all of them.
pub fn starter_from(path: &Path, server: Option<&str>) -> Result<ImportedConfig, Report> {
    let file = path.display().to_string();
    let refused = |problems, warnings| Report { file: file.clone(), problems, warnings };
    let text = read_file(path).map_err(|problem| refused(vec![problem], Vec::new()))?;
    if manifest::is_manifest(&text) {
        return manifest::convert(&text, &file, server);
    }
    let (config, Servers { problems, warnings, .. }) = import_mcp_json(&text, &file);
    match config {
        Some(text) => Ok(ImportedConfig { text, remarks: warnings, blocking_problems: Vec::new() }),
        None => Err(refused(problems, warnings)),
    }
}

/// The config with the servers of an `mcpServers` text; `None` if there are problems, which are in
/// [`Servers`].
pub(super) fn import_mcp_json(text: &str, file: &str) -> (Option<String>, Servers) {
    let mut servers = parse(text, None);
    if !servers.problems.is_empty() {
        return (None, servers);
    }
    let backends: Vec<Value> = servers.backends.iter().filter_map(to_config_value).collect();
    let mut root = Map::new();
    root.insert("backends".to_owned(), Value::Array(backends));
    let yaml = match to_yaml(&Value::Object(root)) {
        Ok(yaml) => yaml,
        Err(error) => {
            servers.problems.push(Problem::new("", format!("cannot be written as YAML: {error}")));
            return (None, servers);
        }
    };
    let mut comment = String::from("\n# The MCP servers behind this one, carried over");
    if !file.is_empty() && !file.contains(['\n', '\r']) {
        comment.push_str(" from ");
        comment.push_str(file);
    }
    comment.push_str(
        ".\n# Values are copied unchanged. Put secrets into the environment and write ${NAME} instead.\n",
    );
    // Clients refuse other names, and their configuration has no place to rename tools.
    let strategy = "  conflictResolution: auto\n";
    let header = HEADER.replace(strategy, &format!("{strategy}  names: safe\n"));
    (Some(format!("{header}{comment}{yaml}")), servers)
}

/// The backend as a section of the config file, without keys that are empty or left out.
fn to_config_value(backend: &Backend) -> Option<Value> {
    let Ok(Value::Object(entries)) = serde_json::to_value(backend) else {
        return None;
    };
    let is_set = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    };
    Some(Value::Object(entries.into_iter().filter(|(_, value)| is_set(value)).collect()))
}
