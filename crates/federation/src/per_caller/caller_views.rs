//! What each caller sees of backends that tell callers apart: a catalogue of the shared parts and the caller's own.
//!
//! Callers of equal scope share a view, and views whose parts are equal share one catalogue, so a thousand users who see
//! the same tools cost one list. A view is made when its caller first asks, looked over when a backend tells of changes
//! or the interval of health checks has passed, and forgotten when others need the room.

mod view;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::timeout;
use vmcp_domain::{
    BackendEvent, BackendId, CallContext, Caller, CallerScope, Error, Identity, Inventory, IsolationScope,
    ResourceUri, Secret, User,
};

use self::view::CallerView;
use crate::catalogue::{BackendListing, Catalogue};
use crate::health::refresh::DISCOVERY_TIMEOUT;
use crate::state::FederationState;

/// How many views are kept. The one used longest ago gives way.
const VIEWS_MAX: usize = 1000;
/// How many identities are remembered with their view.
const IDENTITIES_MAX: usize = 4096;
/// How many catalogues are remembered by their parts, and how many inventories of one backend.
const CATALOGUES_MAX: usize = 1000;
const INVENTORIES_MAX: usize = 16;

/// Which callers a view belongs to: the scope at each personal backend, `None` where it lets them not in.
type ViewKey = Vec<Option<CallerScope>>;

/// Every view.
#[derive(Default)]
pub(crate) struct CallerViews {
    /// The places of the backends that tell callers apart.
    backend_indices: Vec<usize>,
    table: Mutex<Table>,
    catalogues: Mutex<CatalogueCache>,
}

#[derive(Default)]
struct Table {
    views: HashMap<ViewKey, Arc<CallerView>>,
    /// By the address of the identity, which is held so that no other can come to stand there.
    by_identity: HashMap<usize, KnownIdentity>,
    clock: u64,
}

struct KnownIdentity {
    identity: Arc<Identity>,
    view: Option<Arc<CallerView>>,
}

#[derive(Default)]
struct CatalogueCache {
    entries: HashMap<Vec<ListingKey>, BuiltCatalogue>,
    clock: u64,
    inventories: HashMap<usize, VecDeque<Arc<Inventory>>>,
}

/// One part of a catalogue. The inventory is told by its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ListingKey {
    backend_index: usize,
    is_available: bool,
    inventory: usize,
}

/// A catalogue and what it was built of.
#[derive(Clone)]
struct BuiltCatalogue {
    base: Arc<Catalogue>,
    /// Held so that no other inventory gets an address of the key.
    _inventories: Vec<Arc<Inventory>>,
    catalogue: Arc<Catalogue>,
    /// When it was asked for last, on the clock of [`CatalogueCache`].
    last_used: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CallerViews {
    /// Views over the backends at `places`.
    pub(crate) fn new(places: Vec<usize>) -> Self {
        Self { backend_indices: places, table: Mutex::default(), catalogues: Mutex::default() }
    }

    /// True when no backend tells callers apart.
    pub(crate) fn is_empty(&self) -> bool {
        self.backend_indices.is_empty()
    }

    /// True when the backend at `place` tells callers apart.
    pub(crate) fn contains(&self, place: usize) -> bool {
        self.backend_indices.contains(&place)
    }

    /// How many callers see the backend at `place` now.
    pub(crate) fn caller_count(&self, place: usize) -> usize {
        let Some(index) = self.backend_indices.iter().position(|one| *one == place) else { return 0 };
        let views: Vec<Arc<CallerView>> = lock(&self.table).views.values().cloned().collect();
        let sees = |view: &&Arc<CallerView>| {
            lock(&view.state).backends.get(index).is_some_and(|slot| slot.is_available)
        };
        views.iter().filter(sees).count()
    }

    /// The view of a caller, who has shown `token`. `None` for one whom none of these backends lets in.
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
        let scope = |place: &usize| match shared.backends.get(*place)?.backend.scope(ctx) {
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
            if table.views.len() >= VIEWS_MAX {
                table.evict_oldest();
            }
            let view = CallerView::new(User(identity.clone()), token.clone(), key.clone());
            table.views.insert(key, view.clone());
            view
        });
        if table.by_identity.len() >= IDENTITIES_MAX {
            table.by_identity.clear();
        }
        let known = KnownIdentity { identity: identity.clone(), view: view.clone() };
        table.by_identity.insert(Arc::as_ptr(&known.identity).addr(), known);
        view
    }

    /// The catalogue of a caller. Waits for backends that have neither answered this caller nor failed yet.
    pub(crate) async fn catalogue(&self, shared: &Arc<FederationState>, ctx: &CallContext) -> Arc<Catalogue> {
        let Some((view, token)) = self.view(shared, ctx) else { return shared.catalogue() };
        let now = {
            let mut table = lock(&self.table);
            table.clock += 1;
            table.clock
        };
        {
            let mut state = lock(&view.state);
            state.token = token;
            state.last_used = now;
        }
        view.fetch_due(shared);
        if *view.undiscovered.borrow() > 0 {
            let mut unsettled = view.undiscovered.subscribe();
            // The sender lives in the view, so waiting cannot fail but by taking too long.
            let _ = timeout(DISCOVERY_TIMEOUT, unsettled.wait_for(|count| *count == 0)).await;
        }
        view.catalogue(shared).0
    }

    /// Why something that is not in a caller's catalogue may exist all the same: the backend that offers it to others, or
    /// of which nothing is known yet, could not be asked for this caller. `offers` looks into what a backend has offered.
    pub(crate) fn missing_error(
        &self,
        shared: &FederationState,
        ctx: &CallContext,
        offers: impl Fn(&BackendId, &Inventory) -> bool,
    ) -> Option<Error> {
        let (view, _) = self.view(shared, ctx)?;
        let refused = |(index, place): (usize, &usize)| {
            let error = view.last_error(index)?;
            let backend = shared.backends.get(*place)?.backend.id();
            let builds = lock(&self.catalogues);
            let known = builds.inventories.get(place).filter(|known| !known.is_empty());
            known.is_none_or(|known| known.iter().any(|one| offers(backend, one))).then_some(error)
        };
        self.backend_indices.iter().enumerate().find_map(refused)
    }

    /// A backend told something on the line of one scope.
    pub(crate) fn on_event(
        &self,
        shared: &Arc<FederationState>,
        place: usize,
        scope: CallerScope,
        event: &BackendEvent,
    ) {
        let Some(index) = self.backend_indices.iter().position(|one| *one == place) else { return };
        let views: Vec<Arc<CallerView>> = {
            let table = lock(&self.table);
            let concerned = table.views.values().filter(|view| view.key.get(index) == Some(&Some(scope)));
            concerned.cloned().collect()
        };
        for view in views {
            match event {
                BackendEvent::ResourceUpdated(uri) => {
                    view.on_resource_updated(shared, place, &ResourceUri::from(uri.as_str()));
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

    /// The same inventory as another view's, where there is an equal one.
    pub(crate) fn intern_inventory(&self, place: usize, inventory: Inventory) -> Arc<Inventory> {
        let mut builds = lock(&self.catalogues);
        let kept = builds.inventories.entry(place).or_default();
        if let Some(equal) = kept.iter().find(|kept| ***kept == inventory) {
            return equal.clone();
        }
        let inventory = Arc::new(inventory);
        if kept.len() >= INVENTORIES_MAX {
            kept.pop_front();
        }
        kept.push_back(inventory.clone());
        inventory
    }

    /// The catalogue of what everyone sees and of `own`.
    pub(crate) fn catalogue_with(
        &self,
        shared: &FederationState,
        own: Vec<(usize, BackendListing)>,
        base: &Catalogue,
    ) -> Arc<Catalogue> {
        self.build_catalogue(shared, own, Some(base)).catalogue
    }

    /// The parts of backends that a caller sees by its own credential. Waits for those that have not answered yet.
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

    /// The catalogue of the shared parts and these, built unless some view has it already.
    fn build_catalogue(
        &self,
        shared: &FederationState,
        own: Vec<(usize, BackendListing)>,
        earlier: Option<&Catalogue>,
    ) -> BuiltCatalogue {
        let base = shared.catalogue();
        let key = own.iter().map(ListingKey::new).collect::<Vec<_>>();
        if let Some(built) = lock(&self.catalogues).find(&base, &key) {
            return built;
        }
        let mut catalogue = shared.merge(&own);
        let inventories = own.into_iter().map(|(_, part)| part.inventory).collect();
        if let Some(earlier) = earlier {
            catalogue.reuse_unchanged(earlier);
        }
        let built =
            BuiltCatalogue { base, _inventories: inventories, catalogue: Arc::new(catalogue), last_used: 0 };
        lock(&self.catalogues).insert(key, built.clone());
        built
    }
}

impl ListingKey {
    fn new((place, part): &(usize, BackendListing)) -> Self {
        Self {
            backend_index: *place,
            is_available: part.is_available,
            inventory: Arc::as_ptr(&part.inventory).addr(),
        }
    }
}

impl CatalogueCache {
    fn find(&mut self, base: &Arc<Catalogue>, key: &[ListingKey]) -> Option<BuiltCatalogue> {
        self.clock += 1;
        let built = self.entries.get_mut(key).filter(|built| Arc::ptr_eq(&built.base, base))?;
        built.last_used = self.clock;
        Some(built.clone())
    }

    fn insert(&mut self, key: Vec<ListingKey>, mut built: BuiltCatalogue) {
        self.entries.retain(|_, kept| Arc::ptr_eq(&kept.base, &built.base));
        if self.entries.len() >= CATALOGUES_MAX
            && let Some(oldest) =
                self.entries.iter().min_by_key(|(_, kept)| kept.last_used).map(|(key, _)| key.clone())
        {
            self.entries.remove(&oldest);
        }
        built.last_used = self.clock;
        self.entries.insert(key, built);
    }
}

impl Table {
    fn evict_oldest(&mut self) {
        let oldest = self.views.values().min_by_key(|view| lock(&view.state).last_used).cloned();
        if let Some(oldest) = oldest {
            self.views.remove(&oldest.key);
            self.by_identity
                .retain(|_, known| !known.view.as_ref().is_some_and(|view| Arc::ptr_eq(view, &oldest)));
        }
    }
}

#[cfg(test)]
mod tests;
