//! What is kept of callers between requests: who they are to the policies, and what they may see.
//!
//! An unchanged list seen by an unchanged caller is the same `Arc`, and callers who may see the same share one.
//! Everything here can be forgotten and found out again, so the bounds cost time and never change an answer.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use vmcp_domain::{Caller, Prompt, Resource, ResourceTemplate, Tool};

use crate::asker::Principal;
use crate::policy::AuthzPolicy;

/// How many callers are remembered. Who is asked about longest ago is forgotten first.
pub(crate) const CALLER_COUNT_MAX: usize = 1024;
/// How many different sides of one list are remembered.
const VIEW_COUNT_MAX: usize = 1024;
/// How many lists of one kind are remembered; more than one only where the inside shows callers different lists.
const LIST_COUNT_MAX: usize = 4;

/// One remembered caller.
#[derive(Debug)]
pub(crate) struct CachedPrincipal {
    pub(crate) principal: Principal,
    pub(crate) tools: LastView<Tool>,
    pub(crate) resources: LastView<Resource>,
    pub(crate) templates: LastView<ResourceTemplate>,
    pub(crate) prompts: LastView<Prompt>,
}

/// The remembered callers.
#[derive(Debug)]
pub(crate) struct PrincipalCache {
    hasher: ahash::RandomState,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts look-ups, to tell who was asked about longest ago.
    use_counter: u64,
    entries: ahash::HashMap<u64, CacheEntry>,
}

#[derive(Debug)]
struct CacheEntry {
    caller: Caller,
    principal: Arc<CachedPrincipal>,
    last_used: u64,
}

impl Default for PrincipalCache {
    fn default() -> Self {
        Self { hasher: ahash::RandomState::new(), table: Mutex::default() }
    }
}

impl PrincipalCache {
    /// The caller, found out now or remembered.
    pub(crate) fn get_or_resolve(&self, policy: &AuthzPolicy, caller: &Caller) -> Arc<CachedPrincipal> {
        let key = self.key(caller);
        if let Some(known) = self.table.lock().find(key, caller) {
            return known;
        }
        let known = Arc::new(CachedPrincipal {
            principal: policy.resolve_principal(caller),
            tools: LastView::default(),
            resources: LastView::default(),
            templates: LastView::default(),
            prompts: LastView::default(),
        });
        self.table.lock().insert(key, caller.clone(), known)
    }

    /// A hash of everything that tells callers apart. Equal hashes are settled by comparing.
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
        self.table.lock().entries.len()
    }
}

impl Table {
    fn find(&mut self, key: u64, caller: &Caller) -> Option<Arc<CachedPrincipal>> {
        self.use_counter += 1;
        let place = self.entries.get_mut(&key).filter(|place| place.caller == *caller)?;
        place.last_used = self.use_counter;
        Some(place.principal.clone())
    }

    /// Remembers `known`, unless somebody else was faster; then theirs counts, so that lists stay the same.
    fn insert(&mut self, key: u64, caller: Caller, known: Arc<CachedPrincipal>) -> Arc<CachedPrincipal> {
        if let Some(known) = self.find(key, &caller) {
            return known;
        }
        if self.entries.len() >= CALLER_COUNT_MAX
            && let Some(oldest) =
                self.entries.iter().min_by_key(|(_, place)| place.last_used).map(|(key, _)| *key)
        {
            self.entries.remove(&oldest);
        }
        self.entries
            .insert(key, CacheEntry { caller, principal: known.clone(), last_used: self.use_counter });
        known
    }
}

/// What a caller saw last of one kind of list. Keeps neither list alive.
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
    /// The side of `whole` that was seen last. A weak pointer keeps its address from being used again.
    fn view_of(&self, whole: &Arc<Vec<T>>) -> Option<Arc<Vec<T>>> {
        let seen = self.0.load();
        let side = seen.as_ref()?;
        std::ptr::eq(side.full.as_ptr(), Arc::as_ptr(whole)).then(|| side.visible.upgrade()).flatten()
    }
}

/// The lists of one kind, each with the sides of it that some caller sees.
#[derive(Debug)]
pub(crate) struct ViewCache<T> {
    lists: Mutex<Vec<ListViews<T>>>,
}

#[derive(Debug)]
struct ListViews<T> {
    /// A weak pointer keeps its address from being used again.
    full: Weak<Vec<T>>,
    /// By which items are on it, a bit each.
    views: HashMap<Box<[u64]>, Arc<Vec<T>>, ahash::RandomState>,
}

impl<T> Default for ViewCache<T> {
    fn default() -> Self {
        Self { lists: Mutex::default() }
    }
}

impl<T: Clone> ViewCache<T> {
    /// What of `whole` is shown to a caller who saw `seen` last. `shows` is asked only when that does not tell.
    pub(crate) fn view(
        &self,
        whole: Arc<Vec<T>>,
        seen: &LastView<T>,
        shows: impl Fn(&T) -> bool,
    ) -> Arc<Vec<T>> {
        if let Some(side) = seen.view_of(&whole) {
            return side;
        }
        let mut bits = vec![0_u64; whole.len().div_ceil(64)];
        for (items, bits) in whole.chunks(64).zip(&mut bits) {
            *bits = items.iter().rev().fold(0, |bits, item| bits << 1 | u64::from(shows(item)));
        }
        let shown = self.intern_view(&whole, bits.into_boxed_slice());
        let side = CachedView { full: Arc::downgrade(&whole), visible: Arc::downgrade(&shown) };
        seen.0.store(Some(Arc::new(side)));
        shown
    }

    fn intern_view(&self, whole: &Arc<Vec<T>>, bits: Box<[u64]>) -> Arc<Vec<T>> {
        let count: u32 = bits.iter().map(|bits| bits.count_ones()).sum();
        if usize::try_from(count).is_ok_and(|count| count == whole.len()) {
            return whole.clone();
        }
        let mut kept = self.lists.lock();
        let known = |sides: &ListViews<T>| std::ptr::eq(sides.full.as_ptr(), Arc::as_ptr(whole));
        let place = match kept.iter().position(known) {
            Some(place) => place,
            None => {
                // The inside has replaced the lists that are gone.
                kept.retain(|sides| sides.full.strong_count() > 0);
                if kept.len() >= LIST_COUNT_MAX {
                    kept.remove(0);
                }
                kept.push(ListViews { full: Arc::downgrade(whole), views: HashMap::default() });
                kept.len() - 1
            }
        };
        let Some(ListViews { views: sides, .. }) = kept.get_mut(place) else { return Arc::default() };
        if sides.len() >= VIEW_COUNT_MAX && !sides.contains_key(&bits) {
            sides.clear();
        }
        sides.entry(bits).or_insert_with_key(|bits| select(whole, bits)).clone()
    }
}

/// The items whose bits are set.
fn select<T: Clone>(whole: &Arc<Vec<T>>, bits: &[u64]) -> Arc<Vec<T>> {
    let items = whole.chunks(64).zip(bits).flat_map(|(items, bits)| {
        items
            .iter()
            .enumerate()
            .filter(move |(place, _)| bits >> place & 1 == 1)
            .map(|(_, item)| item.clone())
    });
    Arc::new(items.collect())
}

#[cfg(test)]
mod tests;
