//! The catalogues that single callers see, and the inventories that they are built from. Callers with equal
//! listings share one catalogue.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use vmcp_domain::Inventory;

use crate::catalogue::{BackendListing, Catalogue};

/// The maximum number of cached catalogues. Beyond it, the least recently used one is evicted.
const CATALOGUES_MAX: NonZeroUsize = NonZeroUsize::new(1000).unwrap();
/// The maximum number of cached inventories for one backend. Beyond it, the oldest one is removed.
const INVENTORIES_MAX: usize = 16;

/// The catalogues and inventories in use, up to a maximum.
#[derive(Default)]
pub(crate) struct CallerCatalogues(Mutex<CatalogueCache>);

struct CatalogueCache {
    entries: LruCache<Vec<ListingKey>, BuiltCatalogue>,
    inventories: HashMap<usize, VecDeque<Arc<Inventory>>>,
}

impl Default for CatalogueCache {
    fn default() -> Self {
        Self { entries: LruCache::new(CATALOGUES_MAX), inventories: HashMap::new() }
    }
}

/// One listing of a catalogue. The address of the inventory identifies it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListingKey {
    backend_index: usize,
    is_available: bool,
    inventory: usize,
}

/// A catalogue and what it was built from.
#[derive(Clone)]
pub(crate) struct BuiltCatalogue {
    pub(crate) base: Arc<Catalogue>,
    /// Holds the inventories, so that no other inventory gets an address in the key.
    pub(crate) _inventories: Vec<Arc<Inventory>>,
    pub(crate) catalogue: Arc<Catalogue>,
}

impl CallerCatalogues {
    /// Returns a cached inventory of the backend that is equal to `inventory`, or else caches this one. Of
    /// each backend, the newest [`INVENTORIES_MAX`] are cached.
    pub(crate) fn intern_inventory(&self, backend_index: usize, inventory: Inventory) -> Arc<Inventory> {
        let mut cache = self.0.lock();
        let cached = cache.inventories.entry(backend_index).or_default();
        if let Some(equal) = cached.iter().find(|cached| ***cached == inventory) {
            return equal.clone();
        }
        let inventory = Arc::new(inventory);
        if cached.len() >= INVENTORIES_MAX {
            cached.pop_front();
        }
        cached.push_back(inventory.clone());
        inventory
    }

    /// Whether an item may be at this backend: some cached inventory offers it, or none is known.
    pub(crate) fn may_offer(&self, backend_index: usize, offers: impl Fn(&Inventory) -> bool) -> bool {
        let cache = self.0.lock();
        let known = cache.inventories.get(&backend_index).filter(|known| !known.is_empty());
        known.is_none_or(|known| known.iter().any(|inventory| offers(inventory)))
    }

    /// The cached catalogue of these listings over `base`.
    pub(crate) fn find(&self, base: &Arc<Catalogue>, key: &[ListingKey]) -> Option<BuiltCatalogue> {
        self.0.lock().find(base, key)
    }

    pub(crate) fn insert(&self, key: Vec<ListingKey>, built: BuiltCatalogue) {
        self.0.lock().insert(key, built);
    }
}

impl ListingKey {
    pub(crate) fn new((backend_index, part): &(usize, BackendListing)) -> Self {
        Self {
            backend_index: *backend_index,
            is_available: part.is_available,
            inventory: Arc::as_ptr(&part.inventory).addr(),
        }
    }
}

impl CatalogueCache {
    fn find(&mut self, base: &Arc<Catalogue>, key: &[ListingKey]) -> Option<BuiltCatalogue> {
        self.entries.get(key).filter(|built| Arc::ptr_eq(&built.base, base)).cloned()
    }

    fn insert(&mut self, key: Vec<ListingKey>, built: BuiltCatalogue) {
        self.entries.retain(|_, cached| Arc::ptr_eq(&cached.base, &built.base));
        self.entries.put(key, built);
    }
}
