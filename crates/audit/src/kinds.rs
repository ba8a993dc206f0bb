//! The kinds of records.

/// The kind of record for a tool call.
pub const TOOL_CALL: &str = "mcp_tool_call";
/// The kind of record that reports how many records are missing at this point.
pub const RECORDS_LOST: &str = "vmcp_audit_lost";
/// The kind of record for a change of limits by an operator.
pub(crate) const LIMITS_CHANGED: &str = "vmcp_limits_changed";
/// All kinds of record that `audit.eventTypes` can select. [`RECORDS_LOST`] is not among them: it is always
/// written.
pub const RECORD_KINDS: [&str; 10] = [
    TOOL_CALL,
    "mcp_tools_list",
    "mcp_resources_list",
    "mcp_resource_templates_list",
    "mcp_resource_read",
    "mcp_prompts_list",
    "mcp_prompt_get",
    "mcp_completion",
    "mcp_task",
    LIMITS_CHANGED,
];
