//! Examples at the end of the help texts.

pub(crate) const VMCP: &str = "\
Examples:
  vmcp demo                                 try it with built-in servers
  vmcp init -o vmcp.yaml                    write a configuration to start from
  vmcp serve                                serve ./vmcp.yaml at http://127.0.0.1:4483/mcp
  vmcp stdio --mcp-json ~/.cursor/mcp.json  serve the servers of a client's file to a client
  vmcp doctor                               check everything, when something does not work

Without --config and --mcp-json, commands read the file that VMCP_CONFIG names, ./vmcp.yaml, or
vmcp/vmcp.yaml in XDG_CONFIG_HOME or ~/.config.";

pub(crate) const SERVE: &str = "\
Examples:
  vmcp serve -c vmcp.yaml
  vmcp serve --port 0                       take any free port
  vmcp serve --mcp-json ~/.claude.json      serve the servers of a client's file";

pub(crate) const STDIO: &str = "\
Example, in the file of a client:
  {\"mcpServers\": {\"vmcp\": {\"command\": \"vmcp\", \"args\": [\"stdio\", \"-c\", \"/home/me/vmcp.yaml\"]}}}";

pub(crate) const VALIDATE: &str = "\
Examples:
  vmcp validate -c vmcp.yaml --strict       refuse warnings too, for a check before a roll-out
  vmcp validate --mcp-json mcp.json
  vmcp validate --format json               for programs";

pub(crate) const INIT: &str = "\
Examples:
  vmcp init -o vmcp.yaml
  vmcp init --from ~/.cursor/mcp.json -o vmcp.yaml
  vmcp init --from manifests.yaml --server team-tools -o vmcp.yaml";

pub(crate) const SCRIPT: &str = "\
Examples:
  vmcp script run count.js --data '{\"days\": 90}'
  vmcp script run count.js --check          does it compile, and do its tools exist?
  echo 'return Object.keys(tools)' | vmcp script run -
  vmcp script types > tools.d.ts            declarations for an editor";

pub(crate) const TOOLS: &str = "\
Examples:
  vmcp tools                                a table, shortened to the width of the terminal
  vmcp tools --all --json
  vmcp tools approve --dry-run              which tools differ from what was approved
  vmcp tools approve github/create_issue";

pub(crate) const FIND: &str = "\
Example:
  vmcp find \"create an issue in a repository\"";

pub(crate) const CALL: &str = "\
Examples:
  vmcp call files_read_file '{\"path\": \"/tmp/a.txt\"}'
  vmcp call time_get_current_time '{\"timezone\": \"Europe/Berlin\"}' --json";

pub(crate) const WORKFLOW: &str = "\
Examples:
  vmcp workflow check --strict              do workflows fit their tools and limits?
  vmcp workflow plan close_stale            steps, tools, and what a run is charged
  vmcp workflow run close_stale '{\"repository\": \"a/b\"}'
  vmcp workflow run close_stale '{\"repository\": \"a/b\"}' --mock steps.json --answer ask=decline

A member of the file of --mock is the result of a step: a text, an object, or a result of `tools/call` with
`content`, `structuredContent` or `isError`. A list has the results of several calls. The answer to a question
is {\"action\": \"accept\", \"content\": {}}.";

pub(crate) const DOCTOR: &str = "\
The report has no secrets of the configuration: variables and headers are named without values, arguments are
counted, long parts of paths are left out. It quotes the last line that a failing server wrote: read it before you
pass it on. The command starts the servers of the configuration and ends them again.

Examples:
  vmcp doctor
  vmcp doctor -c vmcp.yaml --json > report.json";

pub(crate) const LIMITS: &str = "\
Examples:
  vmcp limits explain                       which rules apply to which tool
  vmcp limits check github_create_issue --user ann
  vmcp limits grant github_create_issue --user ann --tokens 10";

pub(crate) const EXPLAIN: &str = "\
Examples:
  vmcp explain                              list all codes
  vmcp explain server-login";
