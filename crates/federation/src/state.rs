//! What the seam, the workers and the backends' events share: the parts, the catalogue made of them, and who is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use vmcp_domain::{
    Backend, BackendEvent, BackendId, BackendListener, Change, ChangeAudience, ChangeListener,
    IsolationScope, ResourceUri,
};

use crate::catalogue::finding::Finding;
use crate::catalogue::listed_names::ListedNames;
use crate::catalogue::{BackendListing, Catalogue};
use crate::health::circuit_breaker::CircuitBreaker;
use crate::health::health_checks::{CheckFailure, HealthChecks};
use crate::per_caller::caller_lists::CallerLists;
use crate::per_caller::caller_views::CallerViews;
use crate::policy::{AggregationPolicy, HealthPolicy};
use crate::subscriptions::SubscriptionTable;

/// How many findings one change of the catalogue may write to the log.
const FINDINGS_LOGGED_MAX: usize = 100;

/// State that the seam, the workers and the backends' events share.
pub(crate) struct FederationState {
    pub(crate) weak_self: Weak<Self>,
    pub(crate) policy: AggregationPolicy,
    pub(crate) health: HealthPolicy,
    pub(crate) backends: Vec<Arc<BackendEntry>>,
    pub(crate) backend_indices: HashMap<BackendId, usize>,
    pub(crate) listings: Mutex<Vec<Option<BackendListing>>>,
    pub(crate) catalogue: ArcSwap<Catalogue>,
    /// What single callers see of backends that tell callers apart.
    pub(crate) caller_views: CallerViews,
    /// What single callers see otherwise than everyone.
    pub(crate) caller_lists: CallerLists,
    /// Every name that some caller has been offered since the start.
    pub(crate) listed_names: ListedNames,
    /// The resources that clients follow.
    pub(crate) subscriptions: SubscriptionTable,
    pub(crate) listeners: Mutex<Vec<Weak<dyn ChangeListener>>>,
    /// How many backends have not yet answered or failed for the first time.
    pub(crate) undiscovered: watch::Sender<usize>,
    /// Seen to be none. It never grows again.
    pub(crate) discovered: AtomicBool,
    /// How many backends are asked for their inventory at once.
    pub(crate) discovery_slots: Semaphore,
}

/// One backend and the signal that something about it changed.
pub(crate) struct BackendEntry {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) refresh_signal: Notify,
    pub(crate) breaker: Option<CircuitBreaker>,
    /// How the looks at its offer went.
    pub(crate) checks: Mutex<HealthChecks>,
}

impl BackendEntry {
    /// Takes note of how a look at its offer ended.
    pub(crate) fn record_check(&self, failure: Option<CheckFailure>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.record(failure, Instant::now());
    }
}

impl FederationState {
    /// Records what a backend offers now, or that it offers nothing any more, and publishes the new catalogue.
    pub(crate) fn update_listing(&self, place: usize, update: impl FnOnce(&mut Option<BackendListing>)) {
        let changes = {
            // Held while building, so that two workers cannot publish out of order.
            let mut parts = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(slot) = parts.get_mut(place) else { return };
            update(slot);
            let known: Vec<BackendListing> = parts.iter().flatten().cloned().collect();
            let mut next = Catalogue::build(&self.policy, &known);
            let earlier = self.catalogue.load_full();
            let changes = next.reuse_unchanged(&earlier);
            self.listed_names.record(&next);
            log_findings(&next.findings, &earlier.findings);
            self.catalogue.store(Arc::new(next));
            let inventory = parts.get(place).and_then(Option::as_ref).map(|part| &*part.inventory);
            self.caller_lists.drop_shared(place, inventory);
            changes
        };
        for change in &changes {
            self.announce(change, ChangeAudience::Everyone);
        }
    }

    /// True when every backend has answered or failed once.
    pub(crate) fn is_discovered(&self) -> bool {
        if self.discovered.load(Ordering::Acquire) {
            return true;
        }
        let settled = *self.undiscovered.borrow() == 0;
        if settled {
            self.discovered.store(true, Ordering::Release);
        }
        settled
    }

    /// What everyone sees.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// The catalogue of the parts that everyone sees and of `own`, which stand at places where everyone sees none.
    pub(crate) fn merge(&self, own: &[(usize, BackendListing)]) -> Catalogue {
        let mut parts = self.listings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (place, part) in own {
            if let Some(slot) = parts.get_mut(*place) {
                *slot = Some(part.clone());
            }
        }
        let known: Vec<BackendListing> = parts.into_iter().flatten().collect();
        let catalogue = Catalogue::build(&self.policy, &known);
        self.listed_names.record(&catalogue);
        catalogue
    }

    pub(crate) fn announce(&self, change: &Change, audience: ChangeAudience<'_>) {
        let listeners: Vec<Arc<dyn ChangeListener>> = {
            let mut watchers = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            watchers.retain(|watcher| watcher.strong_count() > 0);
            watchers.iter().filter_map(Weak::upgrade).collect()
        };
        for listener in listeners {
            listener.on_change(change, audience);
        }
    }
}

/// Says what there is to say that was not said `before`. Both are in order. One backend may give rise to as many
/// findings as it has tools, so the log names the first and counts the rest; the status page has them all.
fn log_findings(findings: &[Finding], before: &[Finding]) {
    let mut news = findings.iter().filter(|finding| before.binary_search(finding).is_err());
    for finding in news.by_ref().take(FINDINGS_LOGGED_MAX) {
        tracing::warn!(%finding, "catalogue");
    }
    let more = news.count();
    if more > 0 {
        tracing::warn!(more, "catalogue: there are more findings than are logged");
    }
}

impl Drop for FederationState {
    /// Lets the workers see that nobody is left to work for.
    fn drop(&mut self) {
        for member in &self.backends {
            member.refresh_signal.notify_one();
        }
    }
}

impl BackendListener for FederationState {
    fn on_event(&self, backend: &BackendId, scope: IsolationScope, event: BackendEvent) {
        let place = self.backend_indices.get(backend).copied();
        if let Some(place) = place.filter(|place| self.caller_views.contains(*place)) {
            // What the gateway sees on its own account concerns nobody.
            if let (IsolationScope::Caller(scope), Some(shared)) = (scope, self.weak_self.upgrade()) {
                self.caller_views.on_event(&shared, place, scope, &event);
            }
            return;
        }
        if let (IsolationScope::Caller(scope), Some(place)) = (scope, place) {
            if let Some(shared) = self.weak_self.upgrade() {
                self.caller_lists.on_event(&shared, place, scope, &event);
            }
            return;
        }
        if let BackendEvent::ResourceUpdated(uri) = event {
            // Only the backend that serves the resource, or a whole that it is a part of, may speak for it.
            let uri = ResourceUri::from(uri.as_str());
            let serves = self.catalogue.load().resource_backend(&uri) == Some(backend);
            if serves || place.is_some_and(|place| self.subscriptions.has_subscriber(place, scope, &uri)) {
                self.announce(&Change::Resource(uri), ChangeAudience::Everyone);
            }
            return;
        }
        if let Some(member) = place.and_then(|place| self.backends.get(place)) {
            member.refresh_signal.notify_one();
        }
    }
}
