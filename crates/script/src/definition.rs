//! The script tool as clients see it.

use serde_json::json;
use vmcp_domain::{EXECUTE_TOOL_SCRIPT, Tool, ToolHints};
use vmcp_json::Json;
use vmcp_runs::{annotation_floor, virtual_tool};

use crate::policy::{Description, ScriptPolicy};
use crate::tools::ScriptTools;

/// The longest list of declarations or names in the description, in bytes.
const DESCRIBED_BYTES_MAX: usize = 12 << 10;

const PURPOSE: &str = "Runs a script that calls other tools and returns one value. Use it when a task needs several calls, or when results are large and only a part of them matters: what the script does not return costs you nothing. For a single call, call the tool itself.";

const LANGUAGE: &str = "The script is JavaScript, the body of an async function. `await tools.NAME({…})`, or `await callTool(\"NAME\", {…})`, returns the structured result of a tool, else its text, parsed if it is JSON; a tool that fails throws ToolError {message, tool, code, retryAfterMs, result}. Return the result with `return`. `Promise.all` calls tools in parallel; `console.log` adds notes to the answer; the members of `data` are constants. `findTools(query)` and `describeTool(name)` look up tools; `ask(question, schema)` asks the user; `progress(text)` reports; `emit(item)` adds a content item, such as the image of `await callToolRaw(name, args)`; `sleep(ms)` waits. There are no modules, files, network or timers.";

/// A script as models should write it, for the schema.
const EXAMPLE: &str = "const found = await tools.search_issues({query: data.query});\nconst open = found.issues.filter((issue) => issue.state === \"open\");\nreturn {count: open.length, titles: open.map((issue) => issue.title)};";

/// The script tool for a caller with these tools.
pub(crate) fn script_tool(tools: &ScriptTools, policy: &ScriptPolicy) -> Option<Tool> {
    let floor = annotation_floor(tools.iter());
    define(&description(tools, policy), &floor)
}

/// The script tool without a list of tools, for those who need its name only.
#[must_use]
pub fn plain_tool() -> Option<Tool> {
    define(PURPOSE, &ToolHints::default())
}

fn define(description: &str, hints: &ToolHints) -> Option<Tool> {
    let mut annotations = json!({
        "title": "Run a script",
        "readOnlyHint": hints.read_only,
        "destructiveHint": hints.destructive,
        "openWorldHint": hints.open_world,
    });
    if let Some(members) = annotations.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    let definition = json!({
        "name": EXECUTE_TOOL_SCRIPT,
        "title": "Run a script",
        "description": description,
        "inputSchema": {
            "type": "object",
            "properties": {
                "script": {"type": "string", "description": "The script.", "examples": [EXAMPLE]},
                "data": {"type": "object", "description": "Values for the script. Long texts belong here, and not into the script."},
                "language": {"type": "string", "enum": ["javascript"], "description": "The language of the script. Left out: found out."},
                "budget": {
                    "type": "object",
                    "additionalProperties": {"type": "integer", "minimum": 1},
                    "description": "Calls to reserve before the script starts, by tool: {\"send_mail\": 20}. If limits do not allow all of them, nothing runs and nothing is spent.",
                },
                "check": {"type": "boolean", "description": "Only checks that the script compiles, and that its tools exist. Nothing runs."},
            },
            "required": ["script"],
        },
        "annotations": annotations,
    });
    virtual_tool(&Json::encode(&definition).ok()?)
}

fn description(tools: &ScriptTools, policy: &ScriptPolicy) -> String {
    let bounds = format!(
        "A run may make {} calls ({} at once) and take {} s.",
        policy.calls_max,
        policy.parallel_calls_max,
        policy.timeout.as_secs()
    );
    format!("{PURPOSE}\n\n{LANGUAGE} {bounds}\n\n{}", tools_text(tools, policy.description))
}

/// What the description says about the tools, never without a bound.
fn tools_text(tools: &ScriptTools, description: Description) -> String {
    if description == Description::Full {
        let declarations = tools.declarations();
        for text in [&declarations.documented, &declarations.plain] {
            if text.len() <= DESCRIBED_BYTES_MAX {
                return text.clone();
            }
        }
    }
    if matches!(description, Description::Full | Description::Names) {
        let names = tools.names().join(", ");
        if names.len() <= DESCRIBED_BYTES_MAX {
            return format!("Tools (look up their arguments with `describeTool`): {names}");
        }
    }
    format!("There are {} tools; find them with `findTools`.", tools.names().len())
}
