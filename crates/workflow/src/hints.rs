//! The annotations of a workflow: at least as careful as those of the tools that it calls.

use vmcp_domain::{Tool, ToolHints};

/// The annotations that follow from the tools. What a tool does not say counts as the worst.
pub(crate) fn floor<'a>(tools: impl Iterator<Item = &'a Tool> + Clone) -> ToolHints {
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

/// The annotations that clients see.
///
/// # Errors
/// The name of an annotation that the operator declares safer than the tools are.
pub(crate) fn combined(declared: &ToolHints, floor: &ToolHints) -> Result<ToolHints, &'static str> {
    let is_safer = [
        ("readOnlyHint", declared.read_only == Some(true) && floor.read_only != Some(true)),
        ("destructiveHint", declared.destructive == Some(false) && floor.destructive != Some(false)),
        ("idempotentHint", declared.idempotent == Some(true)),
        ("openWorldHint", declared.open_world == Some(false) && floor.open_world != Some(false)),
    ];
    if let Some((name, _)) = is_safer.iter().find(|(_, is_safer)| *is_safer) {
        return Err(name);
    }
    Ok(ToolHints {
        title: declared.title.clone(),
        read_only: declared.read_only.or(floor.read_only),
        destructive: declared.destructive.or(floor.destructive),
        idempotent: declared.idempotent.or(floor.idempotent),
        open_world: declared.open_world.or(floor.open_world),
    })
}
