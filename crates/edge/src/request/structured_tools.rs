//! Which tools promise structured results. The names are derived once for each tool list.

use std::collections::HashMap;
use std::sync::Arc;

use vmcp_domain::{DerivedCache, Tool, ToolList, ToolName};

/// For each tool of each list, whether it has an `outputSchema`.
#[derive(Debug, Default)]
pub(crate) struct StructuredTools(DerivedCache<ToolList, HashMap<ToolName, bool>>);

impl StructuredTools {
    /// True if the list has the tool, without an `outputSchema`.
    pub(crate) fn has_no_output_schema(&self, tools: &Arc<ToolList>, name: &ToolName) -> bool {
        let derive = || tools.iter().map(|tool| (tool.name.clone(), has_output_schema(tool))).collect();
        self.0.with(tools, derive, |structured| structured.get(name) == Some(&false))
    }
}

fn has_output_schema(tool: &Tool) -> bool {
    tool.definition.get("outputSchema").is_some()
}
