//! The annotations of a tool that calls others: at least as careful as theirs.

use vmcp_domain::{Tool, ToolHints};

/// The annotations that follow from the tools. What a tool does not say counts as the worst.
pub fn annotation_floor<'a>(tools: impl Iterator<Item = &'a Tool> + Clone) -> ToolHints {
    ToolHints {
        title: None,
        read_only: Some(tools.clone().all(|tool| tool.hints.read_only == Some(true))),
        destructive: Some(
            tools
                .clone()
                .any(|tool| tool.hints.read_only != Some(true) && tool.hints.destructive != Some(false)),
        ),
        // A second run may act again, whatever the tools say of their calls.
        idempotent: None,
        open_world: Some(tools.clone().any(|tool| tool.hints.open_world != Some(false))),
    }
}
