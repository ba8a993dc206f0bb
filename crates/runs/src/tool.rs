//! A tool of the gateway itself.

use vmcp_domain::{ProtocolVersion, RoutingTarget, Tool, ToolOverride};
use vmcp_json::Json;
use vmcp_wire::definitions;

/// The tool that a definition describes. `None` for what is no definition of a tool.
#[must_use]
pub fn virtual_tool(definition: &Json) -> Option<Tool> {
    let read = definitions::read_tool(definition, ProtocolVersion::V2026_07_28).ok()?.item;
    Some(Tool {
        contested_name: None,
        name: read.name.as_str().into(),
        target: RoutingTarget::for_virtual(read.name),
        description: read.description,
        hints: read.hints,
        definition: read.definition,
        overrides: ToolOverride::default(),
    })
}
