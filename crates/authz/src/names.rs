//! Finds tools by name in lists that come whole, without walking through them for every call.

use std::sync::Arc;

use ahash::HashMap;
use arc_swap::ArcSwapOption;
use vmcp_domain::{ToolHints, ToolList, ToolName};

/// Where each tool stands in the list that was asked about last.
#[derive(Debug, Default)]
pub(crate) struct ToolNames(ArcSwapOption<(Arc<ToolList>, HashMap<ToolName, usize>)>);

impl ToolNames {
    /// The annotations of the tool called `name`, if `tools` has it.
    pub(crate) fn hints(&self, tools: &Arc<ToolList>, name: &ToolName) -> Option<ToolHints> {
        let known = self.0.load_full().filter(|known| Arc::ptr_eq(&known.0, tools));
        let known = known.unwrap_or_else(|| {
            let places = tools.iter().enumerate().map(|(place, tool)| (tool.name.clone(), place)).collect();
            let known = Arc::new((tools.clone(), places));
            self.0.store(Some(known.clone()));
            known
        });
        let place = known.1.get(name)?;
        tools.get(*place).map(|tool| tool.hints.clone())
    }
}
