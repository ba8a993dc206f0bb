//! Lists that single callers see otherwise than everyone does, at backends that give callers connections of their own.
//! A caller sees the shared lists until the backend says on the caller's own connection that they have changed there,
//! and again once they are equal or the connection has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{sleep, timeout};
use vmcp_domain::{
    BackendEvent, CallContext, CallerScope, Change, ChangeAudience, Inventory, IsolationScope, ResourceUri,
};

use crate::catalogue::{BackendListing, Catalogue};
use crate::health::refresh::REFRESH_SPACING_MIN;
use crate::state::FederationState;

/// How many callers' own lists are kept. Further callers see the shared ones.
const LISTS_MAX: usize = 4096;

/// The lists of one caller at one backend.
type CallerListKey = (usize, CallerScope);

/// Every list that may differ.
#[derive(Default)]
pub(crate) struct CallerLists {
    /// The positions of the backends that give callers connections of their own.
    indices: Vec<usize>,
    table: Mutex<HashMap<CallerListKey, CallerList>>,
    /// How many of them differ, so that nobody need look where none does.
    differing: AtomicUsize,
}

struct CallerList {
    /// On behalf of the caller.
    ctx: CallContext,
    /// What the backend offers this caller, where that differs from what it offers everyone.
    inventory: Option<Arc<Inventory>>,
    is_fetching: bool,
    /// Something changed since the last look began.
    is_stale: bool,
}

impl CallerLists {
    pub(crate) fn new(indices: Vec<usize>) -> Self {
        Self { indices, ..Self::default() }
    }

    /// True when everyone sees the same.
    pub(crate) fn is_empty(&self) -> bool {
        self.differing.load(Ordering::Acquire) == 0
    }

    fn table(&self) -> MutexGuard<'_, HashMap<CallerListKey, CallerList>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this caller sees otherwise than everyone.
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
            Some((*index, BackendListing { backend: backend.id().clone(), inventory, is_available: true }))
        };
        self.indices.iter().filter_map(part).collect()
    }

    /// A backend told something on one caller's own connection.
    pub(crate) fn on_event(
        &self,
        shared: &Arc<FederationState>,
        index: usize,
        scope: CallerScope,
        event: &BackendEvent,
    ) {
        match event {
            BackendEvent::ToolsChanged | BackendEvent::ResourcesChanged | BackendEvent::PromptsChanged => {
                self.start_fetch(shared, (index, scope));
            }
            // What a new connection offers is not known to differ.
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

    /// Asks the backend on the caller's behalf, on a task of its own, unless that is being done.
    fn start_fetch(&self, shared: &Arc<FederationState>, key: CallerListKey) {
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
        let federation = Arc::downgrade(shared);
        tokio::spawn(async move {
            loop {
                let Some(shared) = federation.upgrade() else { return };
                fetch_once(&shared, key).await;
                drop(shared);
                sleep(REFRESH_SPACING_MIN).await;
                let Some(shared) = federation.upgrade() else { return };
                if !shared.caller_lists.has_more_to_fetch(key) {
                    return;
                }
            }
        });
    }

    /// True when something changed while the backend was asked.
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

    /// Takes what a caller's connection offers, and tells the caller what changed for it.
    fn store(&self, shared: &Arc<FederationState>, key: CallerListKey, inventory: Option<Arc<Inventory>>) {
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

    /// The caller's connection has ended: it sees the shared lists again.
    fn remove(&self, shared: &Arc<FederationState>, key: CallerListKey) {
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

    /// What everyone sees of a backend is this now. Callers who see the same are like everyone again.
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
}

async fn fetch_once(shared: &Arc<FederationState>, key: CallerListKey) {
    let (index, _) = key;
    let Some(member) = shared.backends.get(index) else { return };
    let ctx = {
        let mut table = shared.caller_lists.table();
        let Some(own) = table.get_mut(&key) else { return };
        own.is_stale = false;
        own.ctx.clone()
    };
    // The semaphore is never closed.
    let _permit = shared.discovery_slots.acquire().await;
    let Ok(Ok(inventory)) = timeout(shared.health.timeout, member.backend.fetch_inventory(&ctx)).await else {
        tracing::debug!(backend = %member.backend.id(), "a caller's own lists could not be read");
        return;
    };
    let is_shared = {
        let parts = shared.listings.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.get(index).and_then(Option::as_ref);
        part.is_some_and(|part| *part.inventory == inventory)
    };
    let inventory = (!is_shared).then(|| shared.caller_views.intern_inventory(index, inventory));
    shared.caller_lists.store(shared, key, inventory);
}

/// Tells the one caller.
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

impl FederationState {
    /// The catalogue of what everyone sees and of these parts of one caller.
    pub(crate) fn catalogue_with(&self, own: Vec<(usize, BackendListing)>) -> Arc<Catalogue> {
        let base = self.catalogue();
        if own.is_empty() { base } else { self.caller_views.catalogue_with(self, own, &base) }
    }
}

#[cfg(test)]
mod tests;
