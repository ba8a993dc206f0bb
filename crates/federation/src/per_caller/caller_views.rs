//! The views of callers on backends that use the callers' own credentials. A caller's catalogue is merged
//! from the shared listings and the caller's own.
//!
//! Callers of equal scope share a view, and views with equal listings share one catalogue, so a thousand
//! users who see the same tools cost one list. A view is created at its caller's first request. It is
//! refreshed when a backend announces changes, or at a request after the interval of health checks has
//! passed. The least recently used view is evicted when there are too many.

mod view;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;
use vmcp_domain::{
    BackendEvent, BackendId, CallContext, Caller, CallerScope, Error, Identity, Inventory, IsolationScope,
    ResourceUri, Secret, StartupWait, User,
};

use self::view::CallerView;
use crate::catalogue::{BackendListing, Catalogue};
use crate::health::timing::DISCOVERY_TIMEOUT;
use crate::state::FederationState;

/// The maximum number of views. Beyond it, the least recently used view is evicted.
const VIEWS_MAX: NonZeroUsize = NonZeroUsize::new(1000).unwrap();
/// The maximum number of identities in the table. At this number the table of identities is cleared.
const IDENTITIES_MAX: usize = 4096;
/// The callers that share a view: the scope at each backend with callers' credentials, in the order of
/// `backend_indices`. `None` for a backend that does not admit the caller.
type ViewKey = Vec<Option<CallerScope>>;

/// All views.
#[derive(Default)]
pub(crate) struct CallerViews {
    /// The indices of the backends that use the callers' own credentials.
    backend_indices: Arc<[usize]>,
    table: Mutex<Table>,
}

struct Table {
    views: LruCache<ViewKey, Arc<CallerView>>,
    /// The view of each identity, by the address of the identity. The entry holds the identity, so that its
    /// address is not used again.
    by_identity: HashMap<usize, KnownIdentity>,
}

impl Default for Table {
    fn default() -> Self {
        Self { views: LruCache::new(VIEWS_MAX), by_identity: HashMap::new() }
    }
}

struct KnownIdentity {
    identity: Arc<Identity>,
    view: Option<Arc<CallerView>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl CallerViews {
    /// Creates an empty table for the backends with the indices `backend_indices`.
    pub(crate) fn new(backend_indices: Vec<usize>) -> Self {
        Self { backend_indices: backend_indices.into(), table: Mutex::default() }
    }

    /// True when no backend uses the callers' own credentials.
    pub(crate) fn is_empty(&self) -> bool {
        self.backend_indices.is_empty()
    }

    /// True when the backend at index `backend_index` uses the callers' own credentials.
    pub(crate) fn contains(&self, backend_index: usize) -> bool {
        self.backend_indices.contains(&backend_index)
    }

    /// The number of views in which the backend at index `backend_index` is available.
    pub(crate) fn caller_count(&self, backend_index: usize) -> usize {
        let Some(index) = self.backend_indices.iter().position(|one| *one == backend_index) else { return 0 };
        let views: Vec<Arc<CallerView>> =
            lock(&self.table).views.iter().map(|(_, view)| view.clone()).collect();
        let sees = |view: &&Arc<CallerView>| {
            lock(&view.state).backends.get(index).is_some_and(|slot| slot.is_available)
        };
        views.iter().filter(sees).count()
    }

    /// The view of a caller and the caller's token. `None` without an identity or a token, or when none of
    /// these backends admits the caller.
    fn view(&self, shared: &FederationState, ctx: &CallContext) -> Option<(Arc<CallerView>, Secret)> {
        let (Caller::Known(identity), Some(token)) = (&ctx.caller, &ctx.token) else { return None };
        let address = Arc::as_ptr(identity).addr();
        let known = lock(&self.table).by_identity.get(&address).map(|known| known.view.clone());
        let view = match known {
            Some(view) => view,
            None => {
                let key = self.view_key(shared, ctx);
                self.insert_view(identity, token, key)
            }
        };
        view.map(|view| (view, token.clone()))
    }

    fn view_key(&self, shared: &FederationState, ctx: &CallContext) -> ViewKey {
        let scope = |backend_index: &usize| match shared.backends.get(*backend_index)?.backend.scope(ctx) {
            Ok(IsolationScope::Caller(scope)) => Some(scope),
            Ok(IsolationScope::Shared) | Err(_) => None,
        };
        self.backend_indices.iter().map(scope).collect()
    }

    fn insert_view(&self, identity: &Arc<Identity>, token: &Secret, key: ViewKey) -> Option<Arc<CallerView>> {
        let mut table = lock(&self.table);
        let view = key.iter().any(Option::is_some).then(|| {
            if let Some(view) = table.views.get(&key) {
                return view.clone();
            }
            let view = CallerView::new(
                User(identity.clone()),
                token.clone(),
                key.clone(),
                Arc::clone(&self.backend_indices),
            );
            table.insert(key, view.clone());
            view
        });
        if table.by_identity.len() >= IDENTITIES_MAX {
            table.by_identity.clear();
        }
        let known = KnownIdentity { identity: identity.clone(), view: view.clone() };
        table.by_identity.insert(Arc::as_ptr(&known.identity).addr(), known);
        view
    }

    /// The catalogue of a caller. Waits for backends that have neither answered this caller nor failed yet: at
    /// most [`DISCOVERY_TIMEOUT`], or for a list as long as the policy says.
    pub(crate) async fn catalogue(&self, shared: &Arc<FederationState>, ctx: &CallContext) -> Arc<Catalogue> {
        let Some((view, token)) = self.view(shared, ctx) else { return shared.catalogue() };
        lock(&self.table).views.promote(&view.key);
        lock(&view.state).token = token;
        view.fetch_due(shared);
        if *view.undiscovered.borrow() > 0 {
            let mut undiscovered = view.undiscovered.subscribe();
            // The sender lives in the view, so only the time-out can end the wait early.
            let limit = match ctx.startup_wait {
                StartupWait::Brief => shared.health.startup_wait,
                StartupWait::Complete
                | StartupWait::Tool(_)
                | StartupWait::Prompt(_)
                | StartupWait::Resource(_) => DISCOVERY_TIMEOUT,
            };
            let _ = timeout(limit, undiscovered.wait_for(|count| *count == 0)).await;
        }
        view.catalogue(shared).0
    }

    /// The error for an item that is not in a caller's catalogue although it may exist. It is the error of a
    /// backend that could not be listed for this caller and that offers the item to other callers, or of
    /// which no inventory is known. `offers` checks an inventory for the item.
    pub(crate) fn missing_error(
        &self,
        shared: &FederationState,
        ctx: &CallContext,
        offers: impl Fn(&BackendId, &Inventory) -> bool,
    ) -> Option<Error> {
        let (view, _) = self.view(shared, ctx)?;
        let refused = |(index, backend_index): (usize, &usize)| {
            let error = view.last_error(index)?;
            let backend = shared.backends.get(*backend_index)?.backend.id();
            let may_offer = |inventory: &Inventory| offers(backend, inventory);
            shared.caller_catalogues.may_offer(*backend_index, may_offer).then_some(error)
        };
        self.backend_indices.iter().enumerate().find_map(refused)
    }

    /// Handles an event that arrived on the connection of one scope.
    pub(crate) fn on_event(
        &self,
        shared: &Arc<FederationState>,
        backend_index: usize,
        scope: CallerScope,
        event: &BackendEvent,
    ) {
        let Some(index) = self.backend_indices.iter().position(|one| *one == backend_index) else { return };
        let views: Vec<Arc<CallerView>> = {
            let table = lock(&self.table);
            let views = table.views.iter().map(|(_, view)| view);
            views.filter(|view| view.key.get(index) == Some(&Some(scope))).cloned().collect()
        };
        for view in views {
            match event {
                BackendEvent::ResourceUpdated(uri) => {
                    view.on_resource_updated(shared, backend_index, &ResourceUri::from(uri.as_str()));
                }
                BackendEvent::Connected
                | BackendEvent::ToolsChanged
                | BackendEvent::ResourcesChanged
                | BackendEvent::PromptsChanged => {
                    view.on_list_changed(shared, index, *event == BackendEvent::Connected)
                }
                BackendEvent::Disconnected => {}
            }
        }
    }

    /// The caller's listings of backends that use its own credential. Waits like [`Self::catalogue`] for
    /// backends that have not answered yet.
    pub(crate) async fn listings_for(
        &self,
        shared: &Arc<FederationState>,
        ctx: &CallContext,
    ) -> Vec<(usize, BackendListing)> {
        if self.is_empty() {
            return Vec::new();
        }
        self.catalogue(shared, ctx).await;
        self.view(shared, ctx).map_or_else(Vec::new, |(view, _)| view.listings(shared))
    }
}

impl Table {
    /// Inserts a view, and removes the identities of the view that is evicted for it.
    fn insert(&mut self, key: ViewKey, view: Arc<CallerView>) {
        if let Some((_, evicted)) = self.views.push(key, view) {
            self.by_identity
                .retain(|_, known| !known.view.as_ref().is_some_and(|view| Arc::ptr_eq(view, &evicted)));
        }
    }
}

#[cfg(test)]
mod tests;
