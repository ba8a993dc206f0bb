//! The section `aggregation`: how the lists of all backends become one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NameRef;

/// How the tools of all backends become one list.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Aggregation {
    /// What happens when two backends have a tool of the same name. `prefix`: every tool gets the prefix of its
    /// backend; `priority`: the backend that is first in `priorityOrder` keeps the name; `manual`: the name is
    /// offered by no backend until overrides rename all but one; `auto`: only clashing names get a prefix. Left out:
    /// `auto`.
    pub(crate) conflict_resolution: Option<ConflictResolution>,
    /// Which names clients see. `safe`: letters, digits, `_` and `-` only, short enough that a client may put
    /// `mcp__NAME__` before them within 64 characters; other characters become `_`, a name that is too long or would
    /// equal another one ends in a hash, and the original is the title. Limits and policies name the safe names. Left
    /// out: `any`, and `safe` for an `mcpServers` file.
    pub(crate) names: Option<NameForm>,
    /// What happens when a tool differs from what was recorded of it: its title, description, schemas or annotations,
    /// or when a backend has a new tool. `warn`: it is logged and shown in `/status`; `hold`: the tool is also held back
    /// until `vmcp tools approve`. Left out: `warn`.
    pub(crate) pin_tools: Option<PinTools>,
    /// Whether a session keeps the first complete list of tools that it received, so that a client's prompt cache stays
    /// valid: `session` or `never`. New tools can be called by name and found by `find_tool`; withdrawn tools are
    /// refused. Clients without a session (2026-07-28) always get the list of now. Left out: `never`.
    pub(crate) freeze_lists: Option<FreezeLists>,
    /// The prefix format and the priority order for `conflictResolution`. Left out: the defaults of its keys.
    pub(crate) conflict_resolution_config: Option<ConflictResolutionConfig>,
    /// Filters and overrides for the tools of single backends, at most one entry for each backend. Needed by
    /// `conflictResolution: manual`. Left out: none.
    #[serde(default)]
    pub(crate) tools: Vec<WorkloadTools>,
    /// Hides every tool of every backend from clients. Left out: false.
    pub(crate) exclude_all_tools: Option<bool>,
    /// Whether the tools of backends without an entry in `tools` are visible: `allow` or `deny`. Left out: `allow`.
    pub(crate) default_tool_visibility: Option<ToolVisibility>,
}

/// How long a client gets the same list of tools.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FreezeLists {
    Never,
    Session,
}

/// What happens when a tool differs from its record.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PinTools {
    Warn,
    Hold,
}

/// Which names of tools and prompts clients see.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NameForm {
    Any,
    Safe,
}

/// What happens when two backends have a tool of the same name.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ConflictResolution {
    Prefix,
    Priority,
    Manual,
    Auto,
}

/// The prefix format and the priority order for `conflictResolution`.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConflictResolutionConfig {
    /// The prefix of tool names, in which `{workload}` is replaced by the name of the backend. A format without
    /// `{workload}` causes a warning if there are several backends, because their names still clash. Left out:
    /// `{workload}_`.
    pub(crate) prefix_format: Option<String>,
    /// The names of backends, the one with the highest precedence first. Required by `conflictResolution: priority`;
    /// without effect, with a warning, otherwise. A name that occurs twice is refused.
    #[serde(default)]
    pub(crate) priority_order: Vec<String>,
}

/// Whether tools are visible to clients.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ToolVisibility {
    Allow,
    Deny,
}

/// Filters and overrides for the tools of one backend.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WorkloadTools {
    /// The name of the backend. A name that no backend has causes a warning.
    pub(crate) workload: String,
    /// The name of an `MCPToolConfig` object of Kubernetes. Refused, because no Kubernetes objects are read; write
    /// `filter` and `overrides` instead.
    pub(crate) tool_config_ref: Option<NameRef>,
    /// The only tools that are visible, by their names after `overrides` and before any prefix. An empty list shows
    /// every tool, with a warning. Left out: every tool.
    pub(crate) filter: Option<Vec<String>>,
    /// New names, descriptions and annotations of tools, by the backend's own name of the tool. An entry that changes
    /// nothing is refused. Left out: none.
    #[serde(default)]
    pub(crate) overrides: BTreeMap<String, ToolOverride>,
    /// Hides all tools of this backend. Left out: false.
    pub(crate) exclude_all: Option<bool>,
}

/// The changes to one tool.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ToolOverride {
    /// The new name of the tool, before any prefix. Two tools of one backend with the same new name are refused.
    /// Left out: the backend's own name.
    pub(crate) name: Option<String>,
    /// The new description of the tool. Left out: the backend's own description.
    pub(crate) description: Option<String>,
    /// The new annotations of the tool. An annotation that is left out keeps the backend's value. Left out: the
    /// backend's own annotations.
    pub(crate) annotations: Option<ToolAnnotations>,
}

/// Annotations of a tool: hints about its behaviour (MCP `ToolAnnotations`).
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ToolAnnotations {
    /// A title for people. Left out: unchanged.
    pub(crate) title: Option<String>,
    /// The tool changes nothing in its environment (`readOnlyHint`). Left out: unchanged.
    pub(crate) read_only_hint: Option<bool>,
    /// The tool may delete or overwrite something (`destructiveHint`). Left out: unchanged.
    pub(crate) destructive_hint: Option<bool>,
    /// A repeated call with the same arguments has no further effect (`idempotentHint`). Left out: unchanged.
    pub(crate) idempotent_hint: Option<bool>,
    /// The tool reaches beyond its own server (`openWorldHint`). Left out: unchanged.
    pub(crate) open_world_hint: Option<bool>,
}
