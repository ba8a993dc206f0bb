//! Caches between requests: the resolved principal of each caller, and the list views that callers may see.
//!
//! An unchanged list seen by an unchanged caller is the same `Arc`. Callers who may see the same items share
//! one view. Every entry can be evicted and computed again, so the bounds cost time and never change a
//! decision.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use lru::LruCache;
use parking_lot::Mutex;
use vmcp_domain::{Caller, Prompt, Resource, ResourceTemplate, Tool};

use crate::policy::AuthzPolicy;
use crate::principal::Principal;

/// Maximum number of cached callers. The least recently used caller is evicted first.
pub(crate) const CALLER_COUNT_MAX: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Maximum number of different views that are cached for one list.
const VIEW_COUNT_MAX: usize = 1024;
/// Maximum number of lists of one kind that are cached. There is more than one only where the inner gateway
/// returns different lists to different callers.
const LIST_COUNT_MAX: usize = 4;

/// One cached caller, with the view that it last saw of each kind of list.
#[derive(Debug)]
pub(crate) struct CachedPrincipal {
    pub(crate) principal: Principal,
    pub(crate) tools: LastView<Tool>,
    pub(crate) resources: LastView<Resource>,
    pub(crate) templates: LastView<ResourceTemplate>,
    pub(crate) prompts: LastView<Prompt>,
}

/// The cached callers, least recently used evicted first.
#[derive(Debug)]
pub(crate) struct PrincipalCache {
    hasher: ahash::RandomState,
    table: Mutex<Table>,
}

/// The callers by their keys.
type Table = LruCache<u64, CacheEntry, ahash::RandomState>;

#[derive(Debug)]
struct CacheEntry {
    caller: Caller,
    principal: Arc<CachedPrincipal>,
}

impl Default for PrincipalCache {
    fn default() -> Self {
        let table = LruCache::with_hasher(CALLER_COUNT_MAX, ahash::RandomState::new());
        Self { hasher: ahash::RandomState::new(), table: Mutex::new(table) }
    }
}

impl PrincipalCache {
    /// The principal of the caller, from the cache or resolved now.
    pub(crate) fn get_or_resolve(&self, policy: &AuthzPolicy, caller: &Caller) -> Arc<CachedPrincipal> {
        let key = self.key(caller);
        if let Some(known) = find(&mut self.table.lock(), key, caller) {
            return known;
        }
        let resolved = Arc::new(CachedPrincipal {
            principal: policy.resolve_principal(caller),
            tools: LastView::default(),
            resources: LastView::default(),
            templates: LastView::default(),
            prompts: LastView::default(),
        });
        // If another request has resolved the same caller meanwhile, its entry wins, so that the caller keeps
        // the same list views.
        let mut table = self.table.lock();
        if let Some(known) = find(&mut table, key, caller) {
            return known;
        }
        table.put(key, CacheEntry { caller: caller.clone(), principal: resolved.clone() });
        resolved
    }

    /// A hash of everything that distinguishes callers. Equal hashes are resolved by comparing the callers.
    fn key(&self, caller: &Caller) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        if let Some(identity) = caller.identity() {
            (&identity.issuer, &identity.subject).hash(&mut hasher);
            for (name, value) in identity.claims.iter() {
                (name, value.as_str()).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.table.lock().len()
    }
}

/// The cached caller. Equal keys are distinguished by comparing the callers.
fn find(table: &mut Table, key: u64, caller: &Caller) -> Option<Arc<CachedPrincipal>> {
    let entry = table.get(&key).filter(|entry| entry.caller == *caller)?;
    Some(entry.principal.clone())
}

/// The view that a caller last saw of one kind of list. Holds weak pointers, so it keeps neither list alive.
#[derive(Debug)]
pub(crate) struct LastView<T>(ArcSwapOption<CachedView<T>>);

#[derive(Debug)]
struct CachedView<T> {
    full: Weak<Vec<T>>,
    visible: Weak<Vec<T>>,
}

impl<T> Default for LastView<T> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl<T> LastView<T> {
    /// The view of `full` that was seen last, if it still exists. The weak pointer prevents reuse of the
    /// address, so comparing addresses is enough.
    fn view_of(&self, full: &Arc<Vec<T>>) -> Option<Arc<Vec<T>>> {
        let last_view = self.0.load();
        let view = last_view.as_ref()?;
        std::ptr::eq(view.full.as_ptr(), Arc::as_ptr(full)).then(|| view.visible.upgrade()).flatten()
    }
}

/// The lists of one kind, each with the views of it that some caller sees.
#[derive(Debug)]
pub(crate) struct ViewCache<T> {
    lists: Mutex<Vec<ListViews<T>>>,
}

#[derive(Debug)]
struct ListViews<T> {
    /// The weak pointer prevents reuse of the address, so comparing addresses is enough.
    full: Weak<Vec<T>>,
    /// The views by their bit sets: one bit an item, set when the item is visible.
    views: HashMap<Box<[u64]>, Arc<Vec<T>>, ahash::RandomState>,
}

impl<T> Default for ViewCache<T> {
    fn default() -> Self {
        Self { lists: Mutex::default() }
    }
}

impl<T: Clone> ViewCache<T> {
    /// The view of `full` for a caller that last saw `last_view`. `is_visible` runs only when `last_view` is no view of
    /// `full`.
    pub(crate) fn view(
        &self,
        full: Arc<Vec<T>>,
        last_view: &LastView<T>,
        is_visible: impl Fn(&T) -> bool,
    ) -> Arc<Vec<T>> {
        if let Some(view) = last_view.view_of(&full) {
            return view;
        }
        let mut bits = vec![0_u64; full.len().div_ceil(64)];
        for (items, bits) in full.chunks(64).zip(&mut bits) {
            *bits = items.iter().rev().fold(0, |bits, item| bits << 1 | u64::from(is_visible(item)));
        }
        let visible = self.intern_view(&full, bits.into_boxed_slice());
        let view = CachedView { full: Arc::downgrade(&full), visible: Arc::downgrade(&visible) };
        last_view.0.store(Some(Arc::new(view)));
        visible
    }

    fn intern_view(&self, full: &Arc<Vec<T>>, bits: Box<[u64]>) -> Arc<Vec<T>> {
        let count: u32 = bits.iter().map(|bits| bits.count_ones()).sum();
        if usize::try_from(count).is_ok_and(|count| count == full.len()) {
            return full.clone();
        }
        let mut lists = self.lists.lock();
        let known = |sides: &ListViews<T>| std::ptr::eq(sides.full.as_ptr(), Arc::as_ptr(full));
        let index = match lists.iter().position(known) {
            Some(index) => index,
            None => {
                // A strong count of zero means that the inner gateway has replaced the list.
                lists.retain(|sides| sides.full.strong_count() > 0);
                if lists.len() >= LIST_COUNT_MAX {
                    lists.remove(0);
                }
                lists.push(ListViews { full: Arc::downgrade(full), views: HashMap::default() });
                lists.len() - 1
            }
        };
        let Some(ListViews { views: sides, .. }) = lists.get_mut(index) else { return Arc::default() };
        if sides.len() >= VIEW_COUNT_MAX && !sides.contains_key(&bits) {
            sides.clear();
        }
        sides.entry(bits).or_insert_with_key(|bits| select(full, bits)).clone()
    }
}

/// The items that have their bit set in `bits`.
fn select<T: Clone>(full: &Arc<Vec<T>>, bits: &[u64]) -> Arc<Vec<T>> {
    let items = full.chunks(64).zip(bits).flat_map(|(items, bits)| {
        items
            .iter()
            .enumerate()
            .filter(move |(index, _)| bits >> index & 1 == 1)
            .map(|(_, item)| item.clone())
    });
    Arc::new(items.collect())
}

#[cfg(test)]
mod tests;
