//! What the seam, the workers and the backends' events share: the parts, the catalogue made of them, and who is told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use vmcp_domain::{
    Audience, Backend, BackendEvent, BackendId, BackendListener, Change, ChangeListener, ResourceUri, Scope,
};

use crate::breaker::Breaker;
use crate::catalogue::{Catalogue, Part};
use crate::checks::{Checks, LookFailure};
use crate::finding::Finding;
use crate::follow::Follows;
use crate::listed::ListedNames;
use crate::own_lists::OwnLists;
use crate::personal::Personal;
use crate::policy::{AggregationPolicy, HealthPolicy};

/// How many findings one change of the catalogue may write to the log.
const FINDINGS_LOGGED_MAX: usize = 100;

/// State that the seam, the workers and the backends' events share.
pub(crate) struct Shared {
    pub(crate) this: Weak<Self>,
    pub(crate) policy: AggregationPolicy,
    pub(crate) health: HealthPolicy,
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) places: HashMap<BackendId, usize>,
    pub(crate) parts: Mutex<Vec<Option<Part>>>,
    pub(crate) catalogue: ArcSwap<Catalogue>,
    /// What single callers see of backends that tell callers apart.
    pub(crate) personal: Personal,
    /// What single callers see otherwise than everyone.
    pub(crate) own_lists: OwnLists,
    /// Every name that some caller has been offered since the start.
    pub(crate) listed: ListedNames,
    /// The resources that clients follow.
    pub(crate) follows: Follows,
    pub(crate) watchers: Mutex<Vec<Weak<dyn ChangeListener>>>,
    /// How many backends have not yet answered or failed for the first time.
    pub(crate) unsettled: watch::Sender<usize>,
    /// Seen to be none. It never grows again.
    pub(crate) settled: AtomicBool,
    /// How many backends are asked for their inventory at once.
    pub(crate) discoveries: Semaphore,
}

/// One backend and the signal that something about it changed.
pub(crate) struct Member {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) wake: Notify,
    pub(crate) breaker: Option<Breaker>,
    /// How the looks at its offer went.
    pub(crate) checks: Mutex<Checks>,
}

impl Member {
    /// Takes note of how a look at its offer ended.
    pub(crate) fn checked(&self, failure: Option<LookFailure>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.record(failure, Instant::now());
    }
}

impl Shared {
    /// Records what a backend offers now, or that it offers nothing any more, and publishes the new catalogue.
    pub(crate) fn record(&self, place: usize, update: impl FnOnce(&mut Option<Part>)) {
        let changes = {
            // Held while building, so that two workers cannot publish out of order.
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(slot) = parts.get_mut(place) else { return };
            update(slot);
            let known: Vec<Part> = parts.iter().flatten().cloned().collect();
            let mut next = Catalogue::build(&self.policy, &known);
            let earlier = self.catalogue.load_full();
            let changes = next.keep_unchanged(&earlier);
            self.listed.learn(&next);
            report(&next.findings, &earlier.findings);
            self.catalogue.store(Arc::new(next));
            let inventory = parts.get(place).and_then(Option::as_ref).map(|part| &*part.inventory);
            self.own_lists.settle(place, inventory);
            changes
        };
        for change in &changes {
            self.announce(change, Audience::Everyone);
        }
    }

    /// True when every backend has answered or failed once.
    pub(crate) fn is_settled(&self) -> bool {
        if self.settled.load(Ordering::Acquire) {
            return true;
        }
        let settled = *self.unsettled.borrow() == 0;
        if settled {
            self.settled.store(true, Ordering::Release);
        }
        settled
    }

    /// What everyone sees.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// The catalogue of the parts that everyone sees and of `own`, which stand at places where everyone sees none.
    pub(crate) fn merge(&self, own: &[(usize, Part)]) -> Catalogue {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (place, part) in own {
            if let Some(slot) = parts.get_mut(*place) {
                *slot = Some(part.clone());
            }
        }
        let known: Vec<Part> = parts.into_iter().flatten().collect();
        let catalogue = Catalogue::build(&self.policy, &known);
        self.listed.learn(&catalogue);
        catalogue
    }

    pub(crate) fn announce(&self, change: &Change, audience: Audience<'_>) {
        let listeners: Vec<Arc<dyn ChangeListener>> = {
            let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
            watchers.retain(|watcher| watcher.strong_count() > 0);
            watchers.iter().filter_map(Weak::upgrade).collect()
        };
        for listener in listeners {
            listener.changed(change, audience);
        }
    }
}

/// Says what there is to say that was not said `before`. Both are in order. One backend may give rise to as many
/// findings as it has tools, so the log names the first and counts the rest; the status page has them all.
fn report(findings: &[Finding], before: &[Finding]) {
    let mut news = findings.iter().filter(|finding| before.binary_search(finding).is_err());
    for finding in news.by_ref().take(FINDINGS_LOGGED_MAX) {
        tracing::warn!(%finding, "catalogue");
    }
    let more = news.count();
    if more > 0 {
        tracing::warn!(more, "catalogue: there are more findings than are logged");
    }
}

impl Drop for Shared {
    /// Lets the workers see that nobody is left to work for.
    fn drop(&mut self) {
        for member in &self.members {
            member.wake.notify_one();
        }
    }
}

impl BackendListener for Shared {
    fn heard(&self, backend: &BackendId, scope: Scope, event: BackendEvent) {
        let place = self.places.get(backend).copied();
        if let Some(place) = place.filter(|place| self.personal.has(*place)) {
            // What the gateway sees on its own account concerns nobody.
            if let (Scope::Caller(scope), Some(shared)) = (scope, self.this.upgrade()) {
                self.personal.heard(&shared, place, scope, &event);
            }
            return;
        }
        if let (Scope::Caller(scope), Some(place)) = (scope, place) {
            if let Some(shared) = self.this.upgrade() {
                self.own_lists.heard(&shared, place, scope, &event);
            }
            return;
        }
        if let BackendEvent::ResourceUpdated(uri) = event {
            // Only the backend that serves the resource, or a whole that it is a part of, may speak for it.
            let uri = ResourceUri::from(uri.as_str());
            let serves = self.catalogue.load().resource_backend(&uri) == Some(backend);
            if serves || place.is_some_and(|place| self.follows.cover(place, scope, &uri)) {
                self.announce(&Change::Resource(uri), Audience::Everyone);
            }
            return;
        }
        if let Some(member) = place.and_then(|place| self.members.get(place)) {
            member.wake.notify_one();
        }
    }
}
