//! The state that all callers share: the backends, their listings, and the catalogue built from them. It also
//! passes changes on to listeners.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use vmcp_domain::{Backend, BackendId, Change, ChangeAudience, ChangeListener, Inventory, Tool, ToolName};

use crate::catalogue::caller_catalogues::{BuiltCatalogue, CallerCatalogues, ListingKey};
use crate::catalogue::finding::Finding;
use crate::catalogue::listed_names::ListedNames;
use crate::catalogue::{BackendListing, Catalogue};
use crate::health::circuit_breaker::CircuitBreaker;
use crate::health::health_checks::{CheckFailure, HealthChecks};
use crate::health::timing::DISCOVERY_COUNT_MAX;
use crate::pins::ToolPins;
use crate::policy::{AggregationPolicy, HealthPolicy};
use crate::subscriptions::SubscriptionTable;

/// The maximum number of findings, and of renamed tools, that one change of the catalogue writes to the log.
const FINDINGS_LOGGED_MAX: usize = 100;

/// The state of one federation. Indices into `backends` and `listings` follow the order of the configuration.
pub(crate) struct FederationState {
    pub(crate) policy: AggregationPolicy,
    /// The records of tools. `None` if none are kept.
    pins: Option<ToolPins>,
    pub(crate) health: HealthPolicy,
    pub(crate) backends: Vec<Arc<BackendEntry>>,
    pub(crate) backend_indices: HashMap<BackendId, usize>,
    pub(crate) listings: Mutex<Vec<Option<BackendListing>>>,
    pub(crate) catalogue: ArcSwap<Catalogue>,
    /// The catalogues of callers whose lists differ from the shared ones.
    pub(crate) caller_catalogues: CallerCatalogues,
    /// The names that any caller's catalogue has listed since the start, up to a maximum.
    pub(crate) listed_names: ListedNames,
    /// The subscriptions of clients to resources.
    pub(crate) subscriptions: SubscriptionTable,
    pub(crate) listeners: Mutex<Vec<Weak<dyn ChangeListener>>>,
    /// The number of backends with shared lists that have neither answered nor failed for the first time. It
    /// is set to 0 when the time-out of discovery has passed.
    pub(crate) undiscovered: watch::Sender<usize>,
    /// The backends among them of which no lists are known from an earlier process either, by index.
    pub(crate) unlisted: watch::Sender<BTreeSet<usize>>,
    /// True once `undiscovered` has been seen at 0. The count never increases, so later requests need not
    /// lock it.
    pub(crate) discovered: AtomicBool,
    /// The slots for concurrent inventory fetches.
    pub(crate) discovery_slots: Semaphore,
    pub(crate) started_at: Instant,
}

/// One backend with the signal that wakes its refresh worker, its circuit breaker and its health checks.
pub(crate) struct BackendEntry {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) refresh_signal: Notify,
    pub(crate) breaker: Option<CircuitBreaker>,
    /// The results of its health checks.
    pub(crate) checks: Mutex<HealthChecks>,
}

impl BackendEntry {
    /// Records the result of a health check that ended now. `None` means success.
    pub(crate) fn record_check(&self, failure: Option<CheckFailure>) {
        let mut checks = self.checks.lock();
        checks.record(failure, Instant::now());
    }
}

impl FederationState {
    /// The state before any backend has answered. `shared_indices` are the backends with shared lists.
    pub(crate) fn new(
        policy: AggregationPolicy,
        pins: Option<ToolPins>,
        health: HealthPolicy,
        backends: Vec<Arc<dyn Backend>>,
        shared_indices: BTreeSet<usize>,
    ) -> Self {
        let entry = |backend: Arc<dyn Backend>| {
            let breaker = health.breaker.map(|policy| CircuitBreaker::new(backend.id().clone(), policy));
            Arc::new(BackendEntry {
                backend,
                refresh_signal: Notify::new(),
                breaker,
                checks: Mutex::default(),
            })
        };
        let indices = backends.iter().enumerate().map(|(index, backend)| (backend.id().clone(), index));
        Self {
            policy,
            pins,
            health,
            backend_indices: indices.collect(),
            listings: Mutex::new(backends.iter().map(|_| None).collect()),
            backends: backends.into_iter().map(entry).collect(),
            catalogue: ArcSwap::from_pointee(Catalogue::default()),
            listeners: Mutex::default(),
            caller_catalogues: CallerCatalogues::default(),
            listed_names: ListedNames::default(),
            subscriptions: SubscriptionTable::default(),
            undiscovered: watch::Sender::new(shared_indices.len()),
            unlisted: watch::Sender::new(shared_indices),
            discovered: AtomicBool::new(false),
            discovery_slots: Semaphore::new(DISCOVERY_COUNT_MAX),
            started_at: Instant::now(),
        }
    }

    /// Applies `update` to the listing of the backend at `backend_index`, publishes the new catalogue and
    /// notifies listeners of the lists that changed. `on_published` receives the backend's inventory before
    /// another listing can be updated.
    pub(crate) fn update_listing(
        &self,
        backend_index: usize,
        update: impl FnOnce(&mut Option<BackendListing>),
        on_published: impl FnOnce(Option<&Inventory>),
    ) {
        let changes = {
            // The lock is held while the catalogue is built, so that two workers cannot publish out of order.
            let mut parts = self.listings.lock();
            let Some(slot) = parts.get_mut(backend_index) else { return };
            update(slot);
            let known: Vec<BackendListing> = parts.iter().flatten().cloned().collect();
            let mut next = Catalogue::build(&self.policy, &known);
            let earlier = self.catalogue.load_full();
            let changes = next.reuse_unchanged(&earlier);
            self.listed_names.record(&next);
            log_findings(&next.findings, &earlier.findings);
            // While backends answer for the first time, names change without any client having seen them.
            if changes.contains(&Change::Tools) && self.is_discovered() {
                log_renamed_tools(&earlier.tools, &next.tools);
            }
            self.catalogue.store(Arc::new(next));
            on_published(parts.get(backend_index).and_then(Option::as_ref).map(|part| &*part.inventory));
            changes
        };
        for change in &changes {
            self.announce(change, ChangeAudience::Everyone);
        }
    }

    /// Compares an inventory with the records of its tools: what may be offered of it, and the findings. `is_stale`
    /// means that the records are not changed.
    pub(crate) fn review(
        &self,
        backend: &BackendId,
        inventory: Inventory,
        is_stale: bool,
    ) -> (Inventory, Vec<Finding>) {
        match &self.pins {
            Some(pins) => pins.review(backend, inventory, is_stale),
            None => (inventory, Vec::new()),
        }
    }

    /// Publishes the lists that an earlier process saved, until the backends answer.
    pub(crate) fn publish_saved_lists(&self) {
        let mut indices = self.unlisted.borrow().clone();
        let saved: Vec<_> = indices
            .iter()
            .filter_map(|index| Some((*index, self.backends.get(*index)?.backend.saved_inventory()?)))
            .collect();
        if saved.is_empty() {
            return;
        }
        let mut listings = self.listings.lock();
        for (index, inventory) in saved {
            indices.remove(&index);
            if let (Some(slot), Some(entry)) = (listings.get_mut(index), self.backends.get(index)) {
                let (inventory, pin_findings) = self.review(entry.backend.id(), inventory, true);
                *slot = Some(BackendListing {
                    backend: entry.backend.id().clone(),
                    inventory: Arc::new(inventory),
                    is_available: true,
                    pin_findings,
                    is_stale: true,
                });
            }
        }
        let known: Vec<BackendListing> = listings.iter().flatten().cloned().collect();
        let catalogue = Catalogue::build(&self.policy, &known);
        self.listed_names.record(&catalogue);
        self.catalogue.store(Arc::new(catalogue));
        self.unlisted.send_replace(indices);
    }

    /// Records that a backend has answered or failed for the first time.
    pub(crate) fn record_first_answer(&self, backend_index: usize) {
        self.unlisted.send_if_modified(|indices| indices.remove(&backend_index));
        self.undiscovered.send_modify(|count| *count = count.saturating_sub(1));
    }

    /// Ends discovery although backends are missing.
    pub(crate) fn end_discovery(&self) {
        self.unlisted.send_modify(BTreeSet::clear);
        self.undiscovered.send_replace(0);
    }

    /// True when discovery has ended: every backend with shared lists has answered or failed once, or the
    /// time-out has passed.
    pub(crate) fn is_discovered(&self) -> bool {
        if self.discovered.load(Ordering::Acquire) {
            return true;
        }
        let discovered = *self.undiscovered.borrow() == 0;
        if discovered {
            self.discovered.store(true, Ordering::Release);
        }
        discovered
    }

    /// The shared catalogue, for callers without lists of their own.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// Builds a catalogue from the shared listings and one caller's `own`. A listing in `own` replaces the
    /// shared one at the same index.
    pub(crate) fn merge(&self, own: &[(usize, BackendListing)]) -> Catalogue {
        let mut parts = self.listings.lock().clone();
        for (backend_index, part) in own {
            if let Some(slot) = parts.get_mut(*backend_index) {
                *slot = Some(part.clone());
            }
        }
        let known: Vec<BackendListing> = parts.into_iter().flatten().collect();
        let catalogue = Catalogue::build(&self.policy, &known);
        self.listed_names.record(&catalogue);
        catalogue
    }

    /// The shared catalogue with the listings in `own` of one caller.
    pub(crate) fn catalogue_with(&self, own: Vec<(usize, BackendListing)>) -> Arc<Catalogue> {
        let base = self.catalogue();
        if own.is_empty() { base } else { self.build_catalogue(own, Some(&base)).catalogue }
    }

    /// Returns the cached catalogue of the shared listings and `own`, or builds it. Lists that are equal to
    /// those of `earlier` are the same `Arc`.
    pub(crate) fn build_catalogue(
        &self,
        own: Vec<(usize, BackendListing)>,
        earlier: Option<&Catalogue>,
    ) -> BuiltCatalogue {
        let base = self.catalogue();
        let key = own.iter().map(ListingKey::new).collect::<Vec<_>>();
        if let Some(built) = self.caller_catalogues.find(&base, &key) {
            return built;
        }
        let mut catalogue = self.merge(&own);
        let inventories = own.into_iter().map(|(_, part)| part.inventory).collect();
        if let Some(earlier) = earlier {
            catalogue.reuse_unchanged(earlier);
        }
        let built = BuiltCatalogue { base, _inventories: inventories, catalogue: Arc::new(catalogue) };
        self.caller_catalogues.insert(key, built.clone());
        built
    }

    pub(crate) fn announce(&self, change: &Change, audience: ChangeAudience<'_>) {
        let listeners: Vec<Arc<dyn ChangeListener>> = {
            let mut watchers = self.listeners.lock();
            watchers.retain(|watcher| watcher.strong_count() > 0);
            watchers.iter().filter_map(Weak::upgrade).collect()
        };
        for listener in listeners {
            listener.on_change(change, audience);
        }
    }
}

/// Logs the findings that are not among those of `before`. Both slices are sorted. One backend can cause as
/// many findings as it has tools, so the log contains only the first [`FINDINGS_LOGGED_MAX`] and the number
/// of the others. The status page shows all.
fn log_findings(findings: &[Finding], before: &[Finding]) {
    let mut new_findings = findings.iter().filter(|finding| before.binary_search(finding).is_err());
    for finding in new_findings.by_ref().take(FINDINGS_LOGGED_MAX) {
        tracing::warn!(%finding, code = finding.code(), "catalogue");
    }
    let more = new_findings.count();
    if more > 0 {
        tracing::warn!(more, "catalogue: there are more findings than are logged");
    }
}

/// Logs the tools that clients knew under another name. Policies and limits name tools, so an operator must be
/// able to see such a change.
fn log_renamed_tools(before: &[Tool], now: &[Tool]) {
    let names: HashMap<_, &ToolName> = before.iter().map(|tool| (&tool.target, &tool.name)).collect();
    let renamed = now.iter().filter_map(|tool| {
        let before = names.get(&tool.target).filter(|name| **name != &tool.name)?;
        Some((before, tool))
    });
    for (before, tool) in renamed.take(FINDINGS_LOGGED_MAX) {
        tracing::warn!(
            backend = %tool.target.backend,
            tool = %tool.name,
            former_name = %before,
            "a tool has a new name, because the tools of other backends have changed"
        );
    }
}
