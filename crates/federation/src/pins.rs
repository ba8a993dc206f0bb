//! Notices tools that change: a digest of what a model reads of each tool is recorded, and compared with what the
//! backend offers later. The operator may have changed and new tools held back until they are approved.
//!
//! The first inventory of a backend is recorded as it is. Inventories that depend on a caller's credential are not
//! compared, because they may differ for good reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use vmcp_domain::{BackendId, Inventory, OfferedTool};

use crate::catalogue::finding::Finding;
use crate::catalogue::tool_change::ToolChange;
use crate::policy::PinMode;

/// The members of a definition that a model reads, or that say what a call does.
const DIGESTED_MEMBERS: [&str; 5] = ["title", "description", "inputSchema", "outputSchema", "annotations"];

/// The digests of the tools of one backend, by their names at the backend, in hexadecimal digits.
pub type ToolDigests = BTreeMap<String, String>;

/// Keeps the recorded digests. It may read and write a file.
pub trait ToolRecords: Send + Sync {
    /// The recorded digests of a backend. `None` for a backend that was never recorded.
    fn load(&self, backend: &BackendId) -> Option<ToolDigests>;
    /// Adds digests to the record of a backend, or replaces them.
    fn add(&self, backend: &BackendId, tools: &ToolDigests);
}

/// The digests of the tools of an inventory.
#[must_use]
pub fn tool_digests(inventory: &Inventory) -> ToolDigests {
    inventory.tools.iter().map(|tool| (tool.name.to_string(), digest(tool))).collect()
}

fn digest(tool: &OfferedTool) -> String {
    let mut hash = Sha256::new();
    for name in DIGESTED_MEMBERS {
        match tool.definition.get(name) {
            None => hash.update("-;"),
            Some(json) => match json.decode::<Value>() {
                Ok(value) => add_value(&mut hash, &value),
                // Half a surrogate pair or deep nesting is no reason to overlook a change.
                Err(_) => hash.update(format!("r{};{}", json.as_str().len(), json.as_str())),
            },
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds a value so that neither the order of members nor the spelling matters: some servers write the members of an
/// object in another order each time.
fn add_value(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            hash.update(format!("o{};", sorted.len()));
            for (name, value) in sorted {
                hash.update(format!("{};{name}", name.len()));
                add_value(hash, value);
            }
        }
        Value::Array(items) => {
            hash.update(format!("a{};", items.len()));
            items.iter().for_each(|item| add_value(hash, item));
        }
        Value::String(text) => hash.update(format!("s{};{text}", text.len())),
        Value::Null | Value::Bool(_) | Value::Number(_) => hash.update(format!("v{value};")),
    }
}

/// How the tools of `offered` differ from the record, in the order of their names.
#[must_use]
pub fn tool_changes(recorded: &ToolDigests, offered: &ToolDigests) -> Vec<(String, ToolChange)> {
    let change = |(name, digest): (&String, &String)| match recorded.get(name) {
        None => Some((name.clone(), ToolChange::New)),
        Some(known) => (known != digest).then(|| (name.clone(), ToolChange::Changed)),
    };
    offered.iter().filter_map(change).collect()
}

/// The record with what the operator wants done about changes.
#[derive(Clone)]
pub struct ToolPins {
    mode: PinMode,
    records: Arc<dyn ToolRecords>,
    /// The changes that were noticed since the start, under [`PinMode::Warn`].
    noticed: Arc<Mutex<BTreeSet<Finding>>>,
}

impl fmt::Debug for ToolPins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolPins").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl ToolPins {
    /// Compares inventories with `records`.
    #[must_use]
    pub fn new(mode: PinMode, records: Arc<dyn ToolRecords>) -> Self {
        Self { mode, records, noticed: Arc::default() }
    }

    /// Compares an inventory with the record, and returns what may be offered of it, with the findings about the
    /// backend. `is_stale` means that an earlier process has read it, so it changes no record.
    pub(crate) fn review(
        &self,
        backend: &BackendId,
        mut inventory: Inventory,
        is_stale: bool,
    ) -> (Inventory, Vec<Finding>) {
        let offered = tool_digests(&inventory);
        let Some(recorded) = self.records.load(backend) else {
            if !is_stale && !offered.is_empty() {
                self.records.add(backend, &offered);
            }
            return (inventory, Vec::new());
        };
        let changes = tool_changes(&recorded, &offered);
        let is_held = self.mode == PinMode::Hold;
        let finding = |(tool, change): &(String, ToolChange)| Finding::ToolChanged {
            backend: backend.clone(),
            tool: tool.clone(),
            change: *change,
            is_held,
        };
        let findings: Vec<Finding> = changes.iter().map(finding).collect();
        match self.mode {
            PinMode::Hold => {
                let held: BTreeSet<&str> = changes.iter().map(|(tool, _)| tool.as_str()).collect();
                inventory.tools.retain(|tool| !held.contains(tool.name.as_str()));
                (inventory, findings)
            }
            PinMode::Warn if is_stale => (inventory, Vec::new()),
            PinMode::Warn => {
                if !changes.is_empty() {
                    self.records.add(backend, &offered);
                }
                let mut noticed = self.noticed.lock();
                noticed.extend(findings);
                let of_backend =
                    |one: &&Finding| matches!(one, Finding::ToolChanged { backend: of, .. } if of == backend);
                let all = noticed.iter().filter(of_backend).cloned().collect();
                (inventory, all)
            }
        }
    }
}

#[cfg(test)]
mod tests;
