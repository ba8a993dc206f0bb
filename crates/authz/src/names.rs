//! Finds tools by name in lists that come whole, without walking through them for every call.

use std::sync::Arc;

use ahash::HashMap;
use vmcp_domain::{PerList, ToolHints, ToolList, ToolName};

/// Where each tool stands in the lists that were asked about.
#[derive(Debug, Default)]
pub(crate) struct ToolNames(PerList<ToolList, HashMap<ToolName, usize>>);

impl ToolNames {
    /// The annotations of the tool called `name`, if `tools` has it.
    pub(crate) fn hints(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<ToolHints> {
        let places = || tools.iter().enumerate().map(|(place, tool)| (tool.name.clone(), place)).collect();
        let place = self.0.get(tools, places).get(name).copied()?;
        tools.get(place).map(|tool| tool.hints.clone())
    }
}
