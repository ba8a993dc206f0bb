//! One view: its part of each backend, looked over now and then, and the catalogue that comes of it.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use vmcp_domain::{
    BackendId, CallContext, CallOrigin, Caller, Change, ChangeAudience, Error, Inventory, IsolationScope,
    ResourceUri, Secret, User,
};

use super::{ViewKey, lock};
use crate::catalogue::{BackendListing, Catalogue};
use crate::health::refresh::REFRESH_SPACING_MIN;
use crate::state::FederationState;

/// What some callers see.
pub(super) struct CallerView {
    user: User,
    pub(super) key: ViewKey,
    pub(super) state: Mutex<ViewState>,
    /// How many of its backends have neither answered nor failed yet.
    pub(super) undiscovered: watch::Sender<usize>,
}

pub(super) struct ViewState {
    pub(super) token: Secret,
    pub(super) backends: Vec<BackendView>,
    catalogue: Option<Arc<Catalogue>>,
    /// The shared catalogue that it was built over, as long as no part has changed since.
    base: Option<Arc<Catalogue>>,
    pub(super) last_used: u64,
}

/// One backend's part of a view.
#[derive(Default)]
pub(super) struct BackendView {
    inventory: Option<Arc<Inventory>>,
    pub(super) is_available: bool,
    /// Why the last look brought nothing.
    last_error: Option<Error>,
    failures: u32,
    fetched_at: Option<Instant>,
    is_fetching: bool,
    /// Something changed since the last look began.
    is_stale: bool,
}

impl CallerView {
    pub(super) fn new(user: User, token: Secret, key: ViewKey) -> Arc<Self> {
        let slots = key.iter().map(|_| BackendView::default()).collect();
        let unsettled = watch::Sender::new(key.iter().flatten().count());
        let state = ViewState { token, backends: slots, catalogue: None, base: None, last_used: 0 };
        Arc::new(Self { user, key, state: Mutex::new(state), undiscovered: unsettled })
    }

    /// Begins to ask every backend that has not been asked for as long as health checks are apart.
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
            // A line that was made in order to look says nothing new.
            if is_connected && slot.is_fetching {
                return;
            }
            slot.is_stale = true;
        }
        self.start_fetch(shared, index);
    }

    pub(super) fn on_resource_updated(&self, shared: &Arc<FederationState>, place: usize, uri: &ResourceUri) {
        let (catalogue, _) = self.catalogue(shared);
        let backend = shared.backends.get(place).map(|member| member.backend.id());
        let scope = shared.caller_views.backend_indices.iter().position(|one| *one == place);
        let scope =
            scope.and_then(|index| self.key.get(index).copied().flatten()).map(IsolationScope::Caller);
        let follows = scope.is_some_and(|scope| shared.subscriptions.has_subscriber(place, scope, uri));
        if follows || catalogue.resource_backend(uri) == backend {
            shared.announce(&Change::Resource(uri.clone()), ChangeAudience::User(&self.user));
        }
    }

    /// Asks one backend, on a task of its own, unless that is being done.
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
        let Some(place) = shared.caller_views.backend_indices.get(index).copied() else { return };
        let Some(member) = shared.backends.get(place) else { return };
        let mut ctx = CallContext::bare(Caller::Known(Arc::clone(&self.user.0)), CallOrigin::Gateway);
        let is_first = {
            let mut state = lock(&self.state);
            ctx.token = Some(state.token.clone());
            let Some(slot) = state.backends.get_mut(index) else { return };
            slot.is_stale = false;
            slot.fetched_at.is_none()
        };
        let asking = member.backend.fetch_inventory(&ctx);
        // The first look waits as long as connecting may take; later ones are health checks.
        let taken = if is_first {
            asking.await
        } else {
            timeout(shared.health.timeout, asking).await.unwrap_or(Err(Error::DeadlineExceeded))
        };
        let inventory = taken.map(|inventory| shared.caller_views.intern_inventory(place, inventory));
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

    /// Why the caller sees nothing of the backend at `index`, if it could not be asked.
    pub(super) fn last_error(&self, index: usize) -> Option<Error> {
        let state = lock(&self.state);
        state.backends.get(index).filter(|slot| !slot.is_available).and_then(|slot| slot.last_error.clone())
    }

    /// Its part of each backend that has answered.
    pub(super) fn listings(&self, shared: &FederationState) -> Vec<(usize, BackendListing)> {
        lock(&self.state).listings(shared)
    }

    /// The catalogue as it is now, and what changed since it was last asked for.
    pub(super) fn catalogue(&self, shared: &FederationState) -> (Arc<Catalogue>, Vec<Change>) {
        let base = shared.catalogue();
        let mut state = lock(&self.state);
        if let (Some(catalogue), Some(over)) = (&state.catalogue, &state.base)
            && Arc::ptr_eq(over, &base)
        {
            return (catalogue.clone(), Vec::new());
        }
        let own = state.listings(shared);
        if own.is_empty() {
            return (base, Vec::new());
        }
        let earlier = state.catalogue.clone();
        let built = shared.caller_views.build_catalogue(shared, own, earlier.as_deref());
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
    fn listings(&self, shared: &FederationState) -> Vec<(usize, BackendListing)> {
        let parts =
            self.backends.iter().zip(&shared.caller_views.backend_indices).filter_map(|(slot, place)| {
                let backend = shared.backends.get(*place)?.backend.id().clone();
                let part = BackendListing {
                    backend,
                    inventory: slot.inventory.clone()?,
                    is_available: slot.is_available,
                };
                Some((*place, part))
            });
        parts.collect()
    }
}

impl BackendView {
    /// Takes what a look has brought.
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
            // Whom the backend does not let in any more sees nothing of it from now on.
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
