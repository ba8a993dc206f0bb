//! What the whole offers besides its lists: joined instructions and the union of capabilities.

use vmcp_domain::{BackendId, Inventory, Json, Overview, TASKS_EXTENSION};

/// The longest joined instructions, in bytes. Instructions are read by models on every session.
const INSTRUCTIONS_BYTES_MAX: usize = 16 << 10;

/// Joins what backends say of themselves.
pub(crate) fn overview<'a>(parts: impl Iterator<Item = (&'a BackendId, &'a Inventory)>) -> Overview {
    let mut overview = Overview::default();
    let mut instructions = String::new();
    for (backend, inventory) in parts {
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
