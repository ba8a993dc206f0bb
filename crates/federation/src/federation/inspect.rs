//! What operators see of the federation.

use std::sync::Arc;

use tokio::time::Instant;
use vmcp_domain::BackendId;

use super::Federation;
use crate::catalogue::BackendListing;
use crate::catalogue::finding::Finding;
use crate::catalogue::listed_names::NameKind;
use crate::health::report::BackendReport;
use crate::pins::{ToolDigests, tool_digests};
use crate::state::BackendEntry;

impl Federation {
    /// The state of every backend, in the order of the configuration.
    #[must_use]
    pub fn reports(&self) -> Vec<BackendReport> {
        let parts = self.state.listings.lock();
        let report =
            |(backend_index, (member, part)): (usize, (&Arc<BackendEntry>, &Option<BackendListing>))| {
                let views = &self.views.caller_views;
                let caller_count = views.contains(backend_index).then(|| views.caller_count(backend_index));
                let inventory = part.as_ref().map(|part| &part.inventory);
                BackendReport {
                    id: member.backend.id().clone(),
                    status: member.backend.status(),
                    is_stale: part.as_ref().is_some_and(|part| part.is_stale),
                    is_listed: caller_count.is_some_and(|count| count > 0)
                        || part.as_ref().is_some_and(|part| part.is_available),
                    tool_count: inventory.map_or(0, |inventory| inventory.tools.len()),
                    resource_count: inventory
                        .map_or(0, |inventory| inventory.resources.len() + inventory.templates.len()),
                    prompt_count: inventory.map_or(0, |inventory| inventory.prompts.len()),
                    caller_count,
                    list_failures: inventory
                        .map_or_else(Vec::new, |inventory| inventory.list_failures.clone()),
                    checks: member.checks.lock().clone(),
                    circuit: member.breaker.as_ref().map(|breaker| breaker.report(Instant::now())),
                }
            };
        self.state.backends.iter().zip(parts.iter()).enumerate().map(report).collect()
    }

    /// The digests of the tools of each backend with shared lists that has answered.
    #[must_use]
    pub fn tool_digests(&self) -> Vec<(BackendId, ToolDigests)> {
        let listings = self.state.listings.lock();
        let answered = listings.iter().flatten().filter(|part| part.is_available && !part.is_stale);
        answered.map(|part| (part.backend.clone(), tool_digests(&part.inventory))).collect()
    }

    /// The findings about the shared catalogue as it is now, sorted.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.state.catalogue.load().findings.clone()
    }

    /// True when a catalogue of some caller has listed this name since the start. Only the first 10,000 names
    /// of each kind are remembered.
    #[must_use]
    pub fn has_listed(&self, kind: NameKind, name: &str) -> bool {
        self.state.listed_names.contains(kind, name)
    }
}
