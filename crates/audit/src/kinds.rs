//! The kinds of records.

/// The kind of record for a tool call.
pub const TOOL_CALL: &str = "mcp_tool_call";
/// The kind of record that reports how many records are missing at this point.
pub const RECORDS_LOST: &str = "vmcp_audit_lost";
/// The kind of record for a change of limits by an operator.
pub(crate) const LIMITS_CHANGED: &str = "vmcp_limits_changed";
/// The kinds of records for the runs of workflows, with ToolHive's names.
pub(crate) const WORKFLOW_STARTED: &str = "vmcp_workflow_started";
pub(crate) const WORKFLOW_COMPLETED: &str = "vmcp_workflow_completed";
pub(crate) const WORKFLOW_FAILED: &str = "vmcp_workflow_failed";
pub(crate) const WORKFLOW_TIMED_OUT: &str = "vmcp_workflow_timed_out";
pub(crate) const STEP_STARTED: &str = "vmcp_workflow_step_started";
pub(crate) const STEP_COMPLETED: &str = "vmcp_workflow_step_completed";
pub(crate) const STEP_FAILED: &str = "vmcp_workflow_step_failed";
pub(crate) const STEP_SKIPPED: &str = "vmcp_workflow_step_skipped";
/// The kinds of records for the runs of scripts.
pub(crate) const SCRIPT_STARTED: &str = "vmcp_script_started";
pub(crate) const SCRIPT_COMPLETED: &str = "vmcp_script_completed";
pub(crate) const SCRIPT_FAILED: &str = "vmcp_script_failed";
pub(crate) const SCRIPT_TIMED_OUT: &str = "vmcp_script_timed_out";
/// All kinds of record that `audit.eventTypes` can select. [`RECORDS_LOST`] is not among them: it is always
/// written.
pub const RECORD_KINDS: [&str; 22] = [
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
    WORKFLOW_STARTED,
    WORKFLOW_COMPLETED,
    WORKFLOW_FAILED,
    WORKFLOW_TIMED_OUT,
    STEP_STARTED,
    STEP_COMPLETED,
    STEP_FAILED,
    STEP_SKIPPED,
    SCRIPT_STARTED,
    SCRIPT_COMPLETED,
    SCRIPT_FAILED,
    SCRIPT_TIMED_OUT,
];
