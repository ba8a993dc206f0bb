//! One view: the listings of each backend for the callers of the view, their periodic refresh, and the
//! catalogue built from them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use vmcp_domain::{
    BackendId, CallContext, CallOrigin, Caller, Change, ChangeAudience, Error, Inventory, IsolationScope,
    ResourceUri, Secret, User,
};

use super::{ViewKey, lock};
use crate::catalogue::{BackendListing, Catalogue};
use crate::health::timing::REFRESH_SPACING_MIN;
use crate::state::FederationState;

/// The view of all callers with one [`ViewKey`].
pub(super) struct CallerView {
    user: User,
    pub(super) key: ViewKey,
    /// The indices of the backends of `key`.
    backend_indices: Arc<[usize]>,
    pub(super) state: Mutex<ViewState>,
    /// The number of its backends that have neither answered nor failed yet.
    pub(super) undiscovered: watch::Sender<usize>,
}

pub(super) struct ViewState {
    pub(super) token: Secret,
    pub(super) backends: Vec<BackendView>,
    catalogue: Option<Arc<Catalogue>>,
    /// The shared catalogue that `catalogue` was built over. `None` after one of the view's listings has
    /// changed.
    base: Option<Arc<Catalogue>>,
}

/// The listing of one backend in a view.
#[derive(Default)]
pub(super) struct BackendView {
    inventory: Option<Arc<Inventory>>,
    pub(super) is_available: bool,
    /// Why the last fetch failed. `None` after a successful one.
    last_error: Option<Error>,
    failures: u32,
    fetched_at: Option<Instant>,
    is_fetching: bool,
    /// True when the lists have changed since the start of the last fetch.
    is_stale: bool,
}

impl CallerView {
    pub(super) fn new(user: User, token: Secret, key: ViewKey, backend_indices: Arc<[usize]>) -> Arc<Self> {
        let slots = key.iter().map(|_| BackendView::default()).collect();
        let undiscovered = watch::Sender::new(key.iter().flatten().count());
        let state = ViewState { token, backends: slots, catalogue: None, base: None };
        Arc::new(Self { user, key, backend_indices, state: Mutex::new(state), undiscovered })
    }

    /// Starts a fetch from every backend without a fetch so far, and from those with the last fetch at least the
    /// interval of health checks ago.
    pub(super) fn fetch_due(self: &Arc<Self>, shared: &Arc<FederationState>) {
        let interval = shared.health.interval;
        for index in 0..self.key.len() {
            let due = lock(&self.state)
                .backends
                .get(index)
                .is_some_and(|slot| slot.fetched_at.is_none_or(|looked| looked.elapsed() >= interval));
            if due {
                self.start_fetch(shared, index);
            }
        }
    }

    pub(super) fn on_list_changed(
        self: &Arc<Self>,
        shared: &Arc<FederationState>,
        index: usize,
        is_connected: bool,
    ) {
        {
            let mut state = lock(&self.state);
            let Some(slot) = state.backends.get_mut(index) else { return };
            // The running fetch has opened this connection, so the event says nothing new.
            if is_connected && slot.is_fetching {
                return;
            }
            slot.is_stale = true;
        }
        self.start_fetch(shared, index);
    }

    pub(super) fn on_resource_updated(
        &self,
        shared: &Arc<FederationState>,
        backend_index: usize,
        uri: &ResourceUri,
    ) {
        let (catalogue, _) = self.catalogue(shared);
        let backend = shared.backends.get(backend_index).map(|member| member.backend.id());
        let scope = self.backend_indices.iter().position(|one| *one == backend_index);
        let scope =
            scope.and_then(|index| self.key.get(index).copied().flatten()).map(IsolationScope::Caller);
        let follows =
            scope.is_some_and(|scope| shared.subscriptions.has_subscriber(backend_index, scope, uri));
        if follows || catalogue.resource_backend(uri) == backend {
            shared.announce(&Change::Resource(uri.clone()), ChangeAudience::User(&self.user));
        }
    }

    /// Fetches the inventory of the backend at `index` on a new task, unless a fetch is in progress. A fetch
    /// during which the lists changed is repeated.
    fn start_fetch(self: &Arc<Self>, shared: &Arc<FederationState>, index: usize) {
        let has_scope = self.key.get(index).is_some_and(Option::is_some);
        let begins = has_scope
            && lock(&self.state)
                .backends
                .get_mut(index)
                .is_some_and(|slot| !std::mem::replace(&mut slot.is_fetching, true));
        if !begins {
            return;
        }
        let (view, federation) = (self.clone(), Arc::downgrade(shared));
        tokio::spawn(async move {
            loop {
                let Some(shared) = federation.upgrade() else { return };
                view.fetch_once(&shared, index).await;
                drop(shared);
                sleep(REFRESH_SPACING_MIN).await;
                let mut state = lock(&view.state);
                let Some(slot) = state.backends.get_mut(index) else { return };
                if !slot.is_stale {
                    slot.is_fetching = false;
                    return;
                }
            }
        });
    }

    async fn fetch_once(&self, shared: &Arc<FederationState>, index: usize) {
        let Some(backend_index) = self.backend_indices.get(index).copied() else { return };
        let Some(member) = shared.backends.get(backend_index) else { return };
        let mut ctx = CallContext::bare(Caller::Known(Arc::clone(&self.user.0)), CallOrigin::Gateway);
        let is_first = {
            let mut state = lock(&self.state);
            ctx.token = Some(state.token.clone());
            let Some(slot) = state.backends.get_mut(index) else { return };
            slot.is_stale = false;
            slot.fetched_at.is_none()
        };
        let fetching = member.backend.fetch_inventory(&ctx);
        // The first fetch may take as long as connecting takes. Later fetches are health checks with their
        // own time-out.
        let fetched = if is_first {
            fetching.await
        } else {
            timeout(shared.health.timeout, fetching).await.unwrap_or(Err(Error::DeadlineExceeded))
        };
        let inventory =
            fetched.map(|inventory| shared.caller_catalogues.intern_inventory(backend_index, inventory));
        {
            let mut state = lock(&self.state);
            let Some(slot) = state.backends.get_mut(index) else { return };
            slot.record_fetch(inventory, shared.health.unhealthy_threshold, member.backend.id());
            state.base = None;
        }
        let (_, changes) = self.catalogue(shared);
        if is_first {
            self.undiscovered.send_modify(|count| *count = count.saturating_sub(1));
        } else {
            for change in &changes {
                shared.announce(change, ChangeAudience::User(&self.user));
            }
        }
    }

    /// The error of the last fetch from the backend at `index`, if the backend is not available in this view.
    pub(super) fn last_error(&self, index: usize) -> Option<Error> {
        let state = lock(&self.state);
        state.backends.get(index).filter(|slot| !slot.is_available).and_then(|slot| slot.last_error.clone())
    }

    /// The listing of each backend that has answered, with the backend's index.
    pub(super) fn listings(&self, shared: &FederationState) -> Vec<(usize, BackendListing)> {
        lock(&self.state).listings(shared, &self.backend_indices)
    }

    /// The current catalogue, and the lists that changed since the previous call.
    pub(super) fn catalogue(&self, shared: &FederationState) -> (Arc<Catalogue>, Vec<Change>) {
        let base = shared.catalogue();
        let mut state = lock(&self.state);
        if let (Some(catalogue), Some(over)) = (&state.catalogue, &state.base)
            && Arc::ptr_eq(over, &base)
        {
            return (catalogue.clone(), Vec::new());
        }
        let own = state.listings(shared, &self.backend_indices);
        if own.is_empty() {
            return (base, Vec::new());
        }
        let earlier = state.catalogue.clone();
        let built = shared.build_catalogue(own, earlier.as_deref());
        let changes = match &earlier {
            Some(earlier) if !Arc::ptr_eq(earlier, &built.catalogue) => {
                built.catalogue.changes_since(earlier)
            }
            Some(_) | None => Vec::new(),
        };
        state.base = Some(built.base);
        state.catalogue = Some(built.catalogue.clone());
        (built.catalogue, changes)
    }
}

impl ViewState {
    fn listings(&self, shared: &FederationState, backend_indices: &[usize]) -> Vec<(usize, BackendListing)> {
        let parts = self.backends.iter().zip(backend_indices).filter_map(|(slot, backend_index)| {
            let backend = shared.backends.get(*backend_index)?.backend.id().clone();
            let part = BackendListing {
                backend,
                inventory: slot.inventory.clone()?,
                is_available: slot.is_available,
                pin_findings: Vec::new(),
                is_stale: false,
            };
            Some((*backend_index, part))
        });
        parts.collect()
    }
}

impl BackendView {
    /// Records the result of a fetch.
    fn record_fetch(
        &mut self,
        inventory: Result<Arc<Inventory>, Error>,
        unhealthy_threshold: u32,
        backend: &BackendId,
    ) {
        self.fetched_at = Some(Instant::now());
        match inventory {
            Ok(inventory) => {
                (self.inventory, self.is_available, self.failures) = (Some(inventory), true, 0);
                self.last_error = None;
            }
            // A backend that denies the caller is removed from the view at once, without the threshold.
            Err(Error::Denied) => {
                (self.is_available, self.failures) = (false, 0);
                self.last_error = Some(Error::Denied);
            }
            Err(error) => {
                let cause = error.cause().map_or("", |cause| cause.for_log());
                tracing::debug!(%backend, error = %error, cause, "backend not listed for a caller");
                self.failures = self.failures.saturating_add(1);
                if self.failures >= unhealthy_threshold {
                    self.is_available = false;
                }
                let cause = error.cause().cloned().unwrap_or_default();
                self.last_error =
                    Some(Error::BackendUnavailable { backend: backend.clone(), cause, was_read: false });
            }
        }
    }
}
