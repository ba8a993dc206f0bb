//! Finds a tool of a list by name, without a linear search for every call.

use std::sync::Arc;

use ahash::HashMap;
use vmcp_domain::{BackendId, DerivedCache, ToolHints, ToolList, ToolName};

/// The index of each tool in the lists that were searched, by name.
#[derive(Debug, Default)]
pub(crate) struct ToolIndex(DerivedCache<ToolList, HashMap<ToolName, usize>>);

impl ToolIndex {
    /// The backend and the annotations of the tool called `name`; `None` if `tools` does not contain it.
    pub(crate) fn find(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<(BackendId, ToolHints)> {
        let places = || tools.iter().enumerate().map(|(place, tool)| (tool.name.clone(), place)).collect();
        let place = self.0.get_or_derive(tools, places).get(name).copied()?;
        tools.get(place).map(|tool| (tool.target.backend.clone(), tool.hints.clone()))
    }
}
