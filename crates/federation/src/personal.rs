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
    BackendEvent, BackendId, CallContext, Caller, CallerScope, Error, Identity, Inventory, ResourceUri,
    Scope, Secret, User,
};

use self::view::View;
use crate::catalogue::{Catalogue, Part};
use crate::refresh::FIRST_WAIT;
use crate::shared::Shared;

/// How many views are kept. The one used longest ago gives way.
const VIEWS_MAX: usize = 1000;
/// How many identities are remembered with their view.
const KNOWN_MAX: usize = 4096;
/// How many catalogues are remembered by their parts, and how many inventories of one backend.
const BUILDS_MAX: usize = 1000;
const INVENTORIES_MAX: usize = 16;

/// Which callers a view belongs to: the scope at each personal backend, `None` where it lets them not in.
type Key = Vec<Option<CallerScope>>;

/// Every view.
#[derive(Default)]
pub(crate) struct Personal {
    /// The places of the backends that tell callers apart.
    places: Vec<usize>,
    table: Mutex<Table>,
    builds: Mutex<Builds>,
}

#[derive(Default)]
struct Table {
    views: HashMap<Key, Arc<View>>,
    /// By the address of the identity, which is held so that no other can come to stand there.
    known: HashMap<usize, Known>,
    clock: u64,
}

struct Known {
    identity: Arc<Identity>,
    view: Option<Arc<View>>,
}

#[derive(Default)]
struct Builds {
    built: HashMap<Vec<BuildKey>, Built>,
    clock: u64,
    inventories: HashMap<usize, VecDeque<Arc<Inventory>>>,
}

/// One part of a catalogue. The inventory is told by its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BuildKey {
    place: usize,
    present: bool,
    inventory: usize,
}

/// A catalogue and what it was built of.
#[derive(Clone)]
struct Built {
    base: Arc<Catalogue>,
    /// Held so that no other inventory gets an address of the key.
    _inventories: Vec<Arc<Inventory>>,
    catalogue: Arc<Catalogue>,
    /// When it was asked for last, on the clock of [`Builds`].
    used: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Personal {
    /// Views over the backends at `places`.
    pub(crate) fn new(places: Vec<usize>) -> Self {
        Self { places, table: Mutex::default(), builds: Mutex::default() }
    }

    /// True when no backend tells callers apart.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// True when the backend at `place` tells callers apart.
    pub(crate) fn has(&self, place: usize) -> bool {
        self.places.contains(&place)
    }

    /// How many callers see the backend at `place` now.
    pub(crate) fn caller_count(&self, place: usize) -> usize {
        let Some(index) = self.places.iter().position(|one| *one == place) else { return 0 };
        let views: Vec<Arc<View>> = locked(&self.table).views.values().cloned().collect();
        let sees = |view: &&Arc<View>| locked(&view.state).slots.get(index).is_some_and(|slot| slot.present);
        views.iter().filter(sees).count()
    }

    /// The view of a caller, who has shown `token`. `None` for one whom none of these backends lets in.
    fn view(&self, shared: &Shared, ctx: &CallContext) -> Option<(Arc<View>, Secret)> {
        let (Caller::Known(identity), Some(token)) = (&ctx.caller, &ctx.token) else { return None };
        let address = Arc::as_ptr(identity).addr();
        let known = locked(&self.table).known.get(&address).map(|known| known.view.clone());
        let view = match known {
            Some(view) => view,
            None => {
                let key = self.key(shared, ctx);
                self.remember(identity, token, key)
            }
        };
        view.map(|view| (view, token.clone()))
    }

    fn key(&self, shared: &Shared, ctx: &CallContext) -> Key {
        let scope = |place: &usize| match shared.members.get(*place)?.backend.scope(ctx) {
            Ok(Scope::Caller(scope)) => Some(scope),
            Ok(Scope::Shared) | Err(_) => None,
        };
        self.places.iter().map(scope).collect()
    }

    fn remember(&self, identity: &Arc<Identity>, token: &Secret, key: Key) -> Option<Arc<View>> {
        let mut table = locked(&self.table);
        let view = key.iter().any(Option::is_some).then(|| {
            if let Some(view) = table.views.get(&key) {
                return view.clone();
            }
            if table.views.len() >= VIEWS_MAX {
                table.forget_oldest();
            }
            let view = View::new(User(identity.clone()), token.clone(), key.clone());
            table.views.insert(key, view.clone());
            view
        });
        if table.known.len() >= KNOWN_MAX {
            table.known.clear();
        }
        let known = Known { identity: identity.clone(), view: view.clone() };
        table.known.insert(Arc::as_ptr(&known.identity).addr(), known);
        view
    }

    /// The catalogue of a caller. Waits for backends that have neither answered this caller nor failed yet.
    pub(crate) async fn catalogue(&self, shared: &Arc<Shared>, ctx: &CallContext) -> Arc<Catalogue> {
        let Some((view, token)) = self.view(shared, ctx) else { return shared.catalogue() };
        let now = {
            let mut table = locked(&self.table);
            table.clock += 1;
            table.clock
        };
        {
            let mut state = locked(&view.state);
            state.token = token;
            state.used = now;
        }
        view.look_where_due(shared);
        if *view.unsettled.borrow() > 0 {
            let mut unsettled = view.unsettled.subscribe();
            // The sender lives in the view, so waiting cannot fail but by taking too long.
            let _ = timeout(FIRST_WAIT, unsettled.wait_for(|count| *count == 0)).await;
        }
        view.catalogue(shared).0
    }

    /// Why something that is not in a caller's catalogue may exist all the same: the backend that offers it to others, or
    /// of which nothing is known yet, could not be asked for this caller. `offers` looks into what a backend has offered.
    pub(crate) fn missing(
        &self,
        shared: &Shared,
        ctx: &CallContext,
        offers: impl Fn(&BackendId, &Inventory) -> bool,
    ) -> Option<Error> {
        let (view, _) = self.view(shared, ctx)?;
        let refused = |(index, place): (usize, &usize)| {
            let error = view.refused(index)?;
            let backend = shared.members.get(*place)?.backend.id();
            let builds = locked(&self.builds);
            let known = builds.inventories.get(place).filter(|known| !known.is_empty());
            known.is_none_or(|known| known.iter().any(|one| offers(backend, one))).then_some(error)
        };
        self.places.iter().enumerate().find_map(refused)
    }

    /// A backend told something on the line of one scope.
    pub(crate) fn heard(&self, shared: &Arc<Shared>, place: usize, scope: CallerScope, event: &BackendEvent) {
        let Some(index) = self.places.iter().position(|one| *one == place) else { return };
        let views: Vec<Arc<View>> = {
            let table = locked(&self.table);
            let concerned = table.views.values().filter(|view| view.key.get(index) == Some(&Some(scope)));
            concerned.cloned().collect()
        };
        for view in views {
            match event {
                BackendEvent::ResourceUpdated(uri) => {
                    view.resource_updated(shared, place, &ResourceUri::from(uri.as_str()));
                }
                BackendEvent::Connected
                | BackendEvent::ToolsChanged
                | BackendEvent::ResourcesChanged
                | BackendEvent::PromptsChanged => {
                    view.changed(shared, index, *event == BackendEvent::Connected)
                }
                BackendEvent::Lost => {}
            }
        }
    }

    /// The same inventory as another view's, where there is an equal one.
    pub(crate) fn share(&self, place: usize, inventory: Inventory) -> Arc<Inventory> {
        let mut builds = locked(&self.builds);
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
    pub(crate) fn catalogue_of(
        &self,
        shared: &Shared,
        own: Vec<(usize, Part)>,
        base: &Catalogue,
    ) -> Arc<Catalogue> {
        self.build(shared, own, Some(base)).catalogue
    }

    /// The parts of backends that a caller sees by its own credential. Waits for those that have not answered yet.
    pub(crate) async fn parts(&self, shared: &Arc<Shared>, ctx: &CallContext) -> Vec<(usize, Part)> {
        if self.is_empty() {
            return Vec::new();
        }
        self.catalogue(shared, ctx).await;
        self.view(shared, ctx).map_or_else(Vec::new, |(view, _)| view.parts(shared))
    }

    /// The catalogue of the shared parts and these, built unless some view has it already.
    fn build(&self, shared: &Shared, own: Vec<(usize, Part)>, earlier: Option<&Catalogue>) -> Built {
        let base = shared.catalogue();
        let key = own.iter().map(BuildKey::of).collect::<Vec<_>>();
        if let Some(built) = locked(&self.builds).find(&base, &key) {
            return built;
        }
        let mut catalogue = shared.merge(&own);
        let inventories = own.into_iter().map(|(_, part)| part.inventory).collect();
        if let Some(earlier) = earlier {
            catalogue.keep_unchanged(earlier);
        }
        let built = Built { base, _inventories: inventories, catalogue: Arc::new(catalogue), used: 0 };
        locked(&self.builds).keep(key, built.clone());
        built
    }
}

impl BuildKey {
    fn of((place, part): &(usize, Part)) -> Self {
        Self { place: *place, present: part.present, inventory: Arc::as_ptr(&part.inventory).addr() }
    }
}

impl Builds {
    fn find(&mut self, base: &Arc<Catalogue>, key: &[BuildKey]) -> Option<Built> {
        self.clock += 1;
        let built = self.built.get_mut(key).filter(|built| Arc::ptr_eq(&built.base, base))?;
        built.used = self.clock;
        Some(built.clone())
    }

    fn keep(&mut self, key: Vec<BuildKey>, mut built: Built) {
        self.built.retain(|_, kept| Arc::ptr_eq(&kept.base, &built.base));
        if self.built.len() >= BUILDS_MAX
            && let Some(oldest) =
                self.built.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone())
        {
            self.built.remove(&oldest);
        }
        built.used = self.clock;
        self.built.insert(key, built);
    }
}

impl Table {
    fn forget_oldest(&mut self) {
        let oldest = self.views.values().min_by_key(|view| locked(&view.state).used).cloned();
        if let Some(oldest) = oldest {
            self.views.remove(&oldest.key);
            self.known.retain(|_, known| !known.view.as_ref().is_some_and(|view| Arc::ptr_eq(view, &oldest)));
        }
    }
}

#[cfg(test)]
mod tests;
