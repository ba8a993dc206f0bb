//! The lists of single callers that differ from the shared ones, at backends that give callers their own
//! connections. A caller sees the shared lists until the backend announces a change on the caller's own
//! connection. The caller sees the shared lists again when its own become equal to them or when its
//! connection has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::{sleep, timeout};
use vmcp_domain::{
    BackendEvent, CallContext, CallerScope, Change, ChangeAudience, Inventory, IsolationScope, ResourceUri,
};

use crate::catalogue::BackendListing;
use crate::health::timing::REFRESH_SPACING_MIN;
use crate::state::FederationState;

/// The maximum number of lists, each of one caller at one backend. Further callers see the shared lists.
const LISTS_MAX: usize = 4096;

/// The index of a backend and the scope of a caller.
type CallerListKey = (usize, CallerScope);

/// The callers' own lists at all backends.
#[derive(Default)]
pub(crate) struct CallerLists {
    /// The indices of the backends that give callers their own connections.
    indices: Vec<usize>,
    table: Mutex<HashMap<CallerListKey, CallerList>>,
    /// The number of entries with an inventory that differs from the shared one. At 0, requests need not lock
    /// `table`.
    differing: AtomicUsize,
}

struct CallerList {
    /// The context for requests on behalf of the caller.
    ctx: CallContext,
    /// The backend's inventory for this caller. `None` while it is not known to differ from the shared one.
    inventory: Option<Arc<Inventory>>,
    is_fetching: bool,
    /// True when the lists have changed since the start of the last fetch.
    is_stale: bool,
}

impl CallerLists {
    pub(crate) fn new(indices: Vec<usize>) -> Arc<Self> {
        Arc::new(Self { indices, ..Self::default() })
    }

    /// True when all callers see the shared lists.
    pub(crate) fn is_empty(&self) -> bool {
        self.differing.load(Ordering::Acquire) == 0
    }

    fn table(&self) -> MutexGuard<'_, HashMap<CallerListKey, CallerList>> {
        self.table.lock()
    }

    /// The listings of this caller that differ from the shared ones, each with the index of its backend.
    pub(crate) fn listings_for(
        &self,
        shared: &FederationState,
        ctx: &CallContext,
    ) -> Vec<(usize, BackendListing)> {
        if self.is_empty() {
            return Vec::new();
        }
        let part = |index: &usize| {
            let backend = &shared.backends.get(*index)?.backend;
            let Ok(IsolationScope::Caller(scope)) = backend.scope(ctx) else { return None };
            let inventory = self.table().get(&(*index, scope))?.inventory.clone()?;
            Some((
                *index,
                BackendListing {
                    backend: backend.id().clone(),
                    inventory,
                    is_available: true,
                    pin_findings: Vec::new(),
                    is_stale: false,
                },
            ))
        };
        self.indices.iter().filter_map(part).collect()
    }

    /// Handles an event that arrived on one caller's own connection.
    pub(crate) fn on_event(
        self: &Arc<Self>,
        shared: &Arc<FederationState>,
        index: usize,
        scope: CallerScope,
        event: &BackendEvent,
    ) {
        match event {
            BackendEvent::ToolsChanged | BackendEvent::ResourcesChanged | BackendEvent::PromptsChanged => {
                self.start_fetch(shared, (index, scope));
            }
            // The lists on a new connection are not known to differ, so the caller sees the shared ones.
            BackendEvent::Connected | BackendEvent::Disconnected => self.remove(shared, (index, scope)),
            BackendEvent::ResourceUpdated(uri) => {
                let uri = ResourceUri::from(uri.as_str());
                let backend = shared.backends.get(index).map(|member| &member.backend);
                if shared.subscriptions.has_subscriber(index, IsolationScope::Caller(scope), &uri)
                    && let Some(ctx) = backend.and_then(|backend| backend.context_for(scope))
                {
                    announce(shared, &ctx, &[Change::Resource(uri)]);
                }
            }
        }
    }

    /// Fetches the caller's inventory on a new task. If a fetch is in progress, marks it as stale so that it
    /// is repeated.
    fn start_fetch(self: &Arc<Self>, shared: &Arc<FederationState>, key: CallerListKey) {
        let Some(ctx) = shared.backends.get(key.0).and_then(|member| member.backend.context_for(key.1))
        else {
            return;
        };
        {
            let mut table = self.table();
            if table.len() >= LISTS_MAX && !table.contains_key(&key) {
                tracing::warn!("too many callers' own lists differ; a caller sees the shared ones");
                return;
            }
            let own = table.entry(key).or_insert_with(|| CallerList {
                ctx,
                inventory: None,
                is_fetching: false,
                is_stale: false,
            });
            if std::mem::replace(&mut own.is_fetching, true) {
                own.is_stale = true;
                return;
            }
        }
        let (lists, state) = (Arc::downgrade(self), Arc::downgrade(shared));
        tokio::spawn(async move {
            loop {
                let (Some(current), Some(shared)) = (lists.upgrade(), state.upgrade()) else { return };
                current.fetch_once(&shared, key).await;
                drop((current, shared));
                sleep(REFRESH_SPACING_MIN).await;
                if !lists.upgrade().is_some_and(|lists| lists.has_more_to_fetch(key)) {
                    return;
                }
            }
        });
    }

    /// True when the lists have changed during the last fetch. Otherwise marks the fetch as ended and removes
    /// an entry without an inventory.
    fn has_more_to_fetch(&self, key: CallerListKey) -> bool {
        let mut table = self.table();
        let Some(own) = table.get_mut(&key) else { return false };
        if own.is_stale {
            return true;
        }
        own.is_fetching = false;
        if own.inventory.is_none() {
            table.remove(&key);
        }
        false
    }

    /// Stores the caller's inventory (`None` if it equals the shared one) and notifies the caller of the
    /// lists that changed.
    fn store(&self, shared: &FederationState, key: CallerListKey, inventory: Option<Arc<Inventory>>) {
        let Some(ctx) = self.table().get(&key).map(|own| own.ctx.clone()) else { return };
        let before = shared.catalogue_with(self.listings_for(shared, &ctx));
        {
            let mut table = self.table();
            let Some(own) = table.get_mut(&key) else { return };
            let had = std::mem::replace(&mut own.inventory, inventory).is_some();
            self.update_differing(had, own.inventory.is_some());
        }
        let after = shared.catalogue_with(self.listings_for(shared, &ctx));
        announce(shared, &ctx, &after.changes_since(&before));
    }

    /// Removes the caller's lists at a backend because its connection has ended or is new, and notifies the
    /// caller of the lists that changed.
    fn remove(&self, shared: &FederationState, key: CallerListKey) {
        let Some(ctx) = self.table().get(&key).map(|own| own.ctx.clone()) else { return };
        let before = shared.catalogue_with(self.listings_for(shared, &ctx));
        {
            let mut table = self.table();
            let differed = table.remove(&key).is_some_and(|own| own.inventory.is_some());
            self.update_differing(differed, false);
        }
        let after = shared.catalogue_with(self.listings_for(shared, &ctx));
        announce(shared, &ctx, &after.changes_since(&before));
    }

    /// Drops the inventories that are equal to `inventory`, the new shared one of the backend at `index`.
    /// Their callers see the shared lists again.
    pub(crate) fn drop_shared(&self, index: usize, inventory: Option<&Inventory>) {
        if self.is_empty() {
            return;
        }
        for ((_, _), own) in self.table().iter_mut().filter(|((of, _), _)| *of == index) {
            if own.inventory.as_deref().is_some_and(|own| Some(own) == inventory) {
                own.inventory = None;
                self.update_differing(true, false);
            }
        }
    }

    fn update_differing(&self, had: bool, has: bool) {
        match (had, has) {
            (false, true) => drop(self.differing.fetch_add(1, Ordering::AcqRel)),
            (true, false) => drop(self.differing.fetch_sub(1, Ordering::AcqRel)),
            (true, true) | (false, false) => {}
        }
    }

    async fn fetch_once(&self, shared: &FederationState, key: CallerListKey) {
        let (index, _) = key;
        let Some(member) = shared.backends.get(index) else { return };
        let ctx = {
            let mut table = self.table();
            let Some(own) = table.get_mut(&key) else { return };
            own.is_stale = false;
            own.ctx.clone()
        };
        // `acquire` cannot fail, because the semaphore is never closed.
        let _permit = shared.discovery_slots.acquire().await;
        let Ok(Ok(inventory)) = timeout(shared.health.timeout, member.backend.fetch_inventory(&ctx)).await
        else {
            tracing::debug!(backend = %member.backend.id(), "a caller's own lists could not be read");
            return;
        };
        let (inventory, _) = shared.review(member.backend.id(), inventory, true);
        let is_shared = {
            let parts = shared.listings.lock();
            let part = parts.get(index).and_then(Option::as_ref);
            part.is_some_and(|part| *part.inventory == inventory)
        };
        let inventory = (!is_shared).then(|| shared.caller_catalogues.intern_inventory(index, inventory));
        self.store(shared, key, inventory);
    }
}

/// Notifies one caller of changes: its client if that is known, else its user.
fn announce(shared: &FederationState, ctx: &CallContext, changes: &[Change]) {
    let (client, user) = (ctx.client.client_key(), ctx.caller.user());
    for change in changes {
        match (&client, &user) {
            (Some(client), _) => shared.announce(change, ChangeAudience::Client(client)),
            (None, Some(user)) => shared.announce(change, ChangeAudience::User(user)),
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests;
