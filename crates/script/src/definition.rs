//! The script tool as clients see it.

use serde_json::json;
use vmcp_domain::{EXECUTE_TOOL_SCRIPT, Tool, ToolHints};
use vmcp_json::Json;
use vmcp_runs::{annotation_floor, virtual_tool};
use vmcp_script_worker::Language;

use crate::policy::{Description, ScriptPolicy};
use crate::tools::ScriptTools;

/// The longest list of declarations or names in the description, in bytes.
const DESCRIBED_BYTES_MAX: usize = 12 << 10;

/// The most characters about a tool in a list of names.
const ABOUT_CHARS_MAX: usize = 80;

const PURPOSE: &str = "Runs a script that calls other tools and returns one value. Use it when a task needs several calls, or when results are large and only a part of them matters: what the script does not return costs you nothing. For a single call, call the tool itself.";

const JAVASCRIPT: &str = "The script is JavaScript, the body of an async function. `await tools.NAME({…})`, or `await callTool(\"NAME\", {…})`, returns the structured result of a tool, else its text, parsed if it is JSON; a tool that fails throws ToolError {message, tool, code, retryAfterMs, result}. Return the result with `return`. `Promise.all` calls tools in parallel; `console.log` adds notes to the answer; the members of `data` are constants. `findTools(query)` and `describeTool(name)` look up tools; `ask(question, schema)` asks the user; `progress(text)` reports; `emit(item)` adds a content item, such as the image of `await callToolRaw(name, args)`; `sleep(ms)` waits. There are no modules, files, network or timers.";

const STARLARK: &str = "The script is Starlark, a dialect of Python, and the body of a function. Each tool is a function: `search_issues(query=\"x\")`; characters of its name that an identifier does not have are `_`. `call_tool(\"exact-name\", query=\"x\")` works for all. A call returns the structured result of a tool, else a dict with `text`; a tool that fails ends the script. Return the result with `return`. `parallel([lambda: a(), lambda: b()])` calls tools at once and returns the results in order; `print` adds notes to the answer; the members of `data` are variables. There are no imports, classes, `while`, `try` or f-strings.";

/// A script as models should write it, for the schema.
const STARLARK_EXAMPLE: &str = "found = search_issues(query=query)\nopen = [issue for issue in found[\"issues\"] if issue[\"state\"] == \"open\"]\nreturn {\"count\": len(open), \"titles\": [issue[\"title\"] for issue in open]}";
const EXAMPLE: &str = "const found = await tools.search_issues({query: data.query});\nconst open = found.issues.filter((issue) => issue.state === \"open\");\nreturn {count: open.length, titles: open.map((issue) => issue.title)};";

/// The script tool for a caller with these tools.
pub(crate) fn script_tool(tools: &ScriptTools, policy: &ScriptPolicy) -> Option<Tool> {
    let floor = annotation_floor(tools.iter());
    define(&description(tools, policy), policy.language, &floor)
}

/// The script tool without a list of tools, for those who need its name only.
#[must_use]
pub fn plain_tool() -> Option<Tool> {
    define(PURPOSE, None, &ToolHints::default())
}

fn define(description: &str, language: Option<Language>, hints: &ToolHints) -> Option<Tool> {
    let example = if language == Some(Language::Starlark) { STARLARK_EXAMPLE } else { EXAMPLE };
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
                "script": {"type": "string", "description": "The script.", "examples": [example]},
                "data": {"type": "object", "description": "Values for the script. Long texts belong here, and not into the script."},
                "language": {"type": "string", "enum": ["javascript", "starlark"], "description": "The language of the script. Left out: found out."},
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
    let language = if policy.language == Some(Language::Starlark) { STARLARK } else { JAVASCRIPT };
    format!("{PURPOSE}\n\n{language} {bounds}\n\n{}", tools_text(tools, policy))
}

/// What the description says about the tools, never without a bound.
fn tools_text(tools: &ScriptTools, policy: &ScriptPolicy) -> String {
    let description = policy.description;
    if policy.language == Some(Language::Starlark) {
        return starlark_text(tools, description);
    }
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

/// The tools with the beginnings of their descriptions, as in ToolHive, or their number if that is too long.
fn starlark_text(tools: &ScriptTools, description: Description) -> String {
    let mut lines = "Tools:".to_owned();
    for tool in tools.iter() {
        let name = tool.name.as_str();
        let about =
            tool.description.as_deref().filter(|_| description == Description::Full).unwrap_or_default();
        let about: String = about.lines().next().unwrap_or_default().chars().take(ABOUT_CHARS_MAX).collect();
        let separator = if about.is_empty() { "" } else { ": " };
        lines.push_str(&format!("\n- {name}{separator}{about}"));
    }
    if description == Description::Search || lines.len() > DESCRIBED_BYTES_MAX {
        return format!("There are {} tools, which scripts call by their names.", tools.names().len());
    }
    lines
}
