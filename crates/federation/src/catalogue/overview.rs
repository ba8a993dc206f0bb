//! The overview of the merged backends: joined instructions and the union of capabilities.

use std::collections::HashSet;

use vmcp_domain::{
    BackendId, Overview, Prompt, Resource, ResourceTemplate, RoutingTarget, TASKS_EXTENSION, Tool,
};
use vmcp_json::Json;

use crate::catalogue::Catalogue;
use crate::policy::AggregationPolicy;

/// The maximum length of the joined instructions, in bytes, without the note that they were cut. Models read
/// the instructions in every session.
const INSTRUCTIONS_BYTES_MAX: usize = 16 << 10;

/// An item of the catalogue, as it is advertised.
#[derive(Clone, Copy, Debug)]
pub enum CatalogueItem<'a> {
    /// A tool with its advertised name.
    Tool(&'a Tool),
    /// A resource with its URI.
    Resource(&'a Resource),
    /// A resource template with its text.
    Template(&'a ResourceTemplate),
    /// A prompt with its advertised name.
    Prompt(&'a Prompt),
}

/// Decides whether a caller may use an item.
pub type ItemFilter<'a> = &'a dyn Fn(CatalogueItem<'_>) -> bool;

/// Joins the instructions and capabilities of the available backends. With `filter`, a backend counts only
/// if it permits some visible item of the backend. Without it, a backend that has no items at all counts too.
pub(crate) fn overview(
    policy: &AggregationPolicy,
    catalogue: &Catalogue,
    filter: Option<ItemFilter<'_>>,
) -> Overview {
    let mut overview = Overview::default();
    let mut instructions = String::new();
    let visible = visible_backends(policy, catalogue, filter);
    for (backend, inventory) in &catalogue.available {
        let is_empty = inventory.tools.is_empty()
            && inventory.resources.is_empty()
            && inventory.templates.is_empty()
            && inventory.prompts.is_empty();
        let counts = visible.contains(backend) || (filter.is_none() && is_empty);
        if !counts {
            continue;
        }
        let capabilities = &inventory.capabilities;
        overview.completions |= capabilities.get("completions").is_some();
        overview.logging |= capabilities.get("logging").is_some();
        let subscribe = capabilities.get("resources").and_then(|json| json.members().ok());
        overview.subscriptions |= subscribe
            .and_then(|flags| flags.get("subscribe").map(|flag| *flag == Json::boolean(true)))
            .unwrap_or(false);
        overview.tasks |= capabilities
            .get("extensions")
            .and_then(|json| json.members().ok())
            .is_some_and(|named| named.get(TASKS_EXTENSION).is_some_and(Json::is_object));
        if let Some(text) = &inventory.instructions {
            if !instructions.is_empty() {
                instructions.push_str("\n\n");
            }
            instructions.push_str("# ");
            instructions.push_str(backend.as_str());
            instructions.push_str("\n\n");
            instructions.push_str(text.trim());
        }
    }
    truncate(&mut instructions);
    overview.instructions = (!instructions.is_empty()).then_some(instructions);
    overview
}

/// The backends of which some item is visible and permitted. `filter` is not called for further items of a
/// backend that is already found.
fn visible_backends<'c>(
    policy: &AggregationPolicy,
    catalogue: &'c Catalogue,
    filter: Option<ItemFilter<'_>>,
) -> HashSet<&'c BackendId> {
    let tools = catalogue.tools.iter().filter(|tool| {
        let RoutingTarget { backend, name } = &tool.target;
        policy.is_visible(backend, &policy.unprefixed_name(backend, name))
    });
    let tools = tools.map(|tool| (&tool.target.backend, CatalogueItem::Tool(tool)));
    let resources = catalogue.resources.iter().map(|one| (&one.backend, CatalogueItem::Resource(one)));
    let templates = catalogue.templates.iter().map(|one| (&one.backend, CatalogueItem::Template(one)));
    let prompts = catalogue.prompts.iter().map(|one| (&one.target.backend, CatalogueItem::Prompt(one)));
    let mut visible = HashSet::new();
    for (backend, item) in tools.chain(resources).chain(templates).chain(prompts) {
        if !visible.contains(backend) && filter.is_none_or(|filter| filter(item)) {
            visible.insert(backend);
        }
    }
    visible
}

fn truncate(text: &mut String) {
    if text.len() <= INSTRUCTIONS_BYTES_MAX {
        return;
    }
    let mut end = INSTRUCTIONS_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str("\n[instructions cut here]");
}
