//! The annotations of a workflow.

use vmcp_domain::ToolHints;

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
