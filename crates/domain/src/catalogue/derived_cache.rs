//! [`DerivedCache`]: values that a layer derives from lists and caches while those lists exist.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// The most lists in the cache. Callers who see different items have different lists.
const LISTS_MAX: usize = 256;

/// Caches one value per list. An unchanged list is the same `Arc`, so the list's address is the key. Entries
/// of dropped lists are removed when another list is added. A value must not hold its list, or that entry
/// would never be removed.
#[derive(Debug)]
pub struct DerivedCache<L, V> {
    /// The newest entry is last. The weak pointer keeps the list's address from being reused.
    entries: ArcSwap<Vec<(Weak<L>, Arc<V>)>>,
    /// Held while an entry is added.
    insert_lock: Mutex<()>,
}

impl<L, V> Default for DerivedCache<L, V> {
    fn default() -> Self {
        Self { entries: ArcSwap::default(), insert_lock: Mutex::default() }
    }
}

impl<L, V> DerivedCache<L, V> {
    /// Returns the value derived from `list`, and derives it when it is missing. Two concurrent callers may
    /// both run `derive`, but both get the same value.
    pub fn get_or_derive(&self, list: &Arc<L>, derive: impl FnOnce() -> V) -> Arc<V> {
        self.with(list, derive, Arc::clone)
    }

    /// Like [`Self::get_or_derive`], but lends the value. Concurrent readers do not contend, because no
    /// shared reference count changes.
    pub fn with<T>(
        &self,
        list: &Arc<L>,
        derive: impl FnOnce() -> V,
        inspect: impl FnOnce(&Arc<V>) -> T,
    ) -> T {
        if let Some(value) = find_entry(&self.entries.load(), list) {
            return inspect(value);
        }
        let value = Arc::new(derive());
        let _adding = self.insert_lock.lock();
        let known = self.entries.load();
        if let Some(value) = find_entry(&known, list) {
            return inspect(value);
        }
        let alive = known.iter().filter(|(list, _)| list.strong_count() > 0);
        let mut entries: Vec<_> = alive.cloned().collect();
        if entries.len() >= LISTS_MAX {
            entries.remove(0);
        }
        entries.push((Arc::downgrade(list), Arc::clone(&value)));
        self.entries.store(Arc::new(entries));
        inspect(&value)
    }

    /// Calls `inspect` with the value of every list that still exists, the newest first.
    pub fn for_each(&self, mut inspect: impl FnMut(&V)) {
        let entries = self.entries.load();
        entries
            .iter()
            .rev()
            .filter(|(list, _)| list.strong_count() > 0)
            .for_each(|(_, value)| inspect(value));
    }

    /// Returns the first result of `seek` over all cached values, the newest first. The value of a dropped
    /// list may be among them until another list is added.
    pub fn find_map<T>(&self, seek: impl Fn(&V) -> Option<T>) -> Option<T> {
        self.entries.load().iter().rev().find_map(|(_, value)| seek(value))
    }
}

fn find_entry<'a, L, V>(entries: &'a [(Weak<L>, Arc<V>)], list: &Arc<L>) -> Option<&'a Arc<V>> {
    let found = entries.iter().rev().find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(list)));
    found.map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_one_value_and_nothing_of_lists_that_are_gone() {
        let cache = DerivedCache::default();
        let (one, other) = (Arc::new(vec![1]), Arc::new(vec![1]));
        let first = cache.get_or_derive(&one, || 10);
        assert_eq!(
            (*first, *cache.get_or_derive(&other, || 20), *cache.get_or_derive(&one, || 30)),
            (10, 20, 10)
        );
        assert_eq!(cache.find_map(|value| Some(*value)), Some(20));
        drop(other);
        let third = Arc::new(vec![3]);
        cache.get_or_derive(&third, || 40);
        assert_eq!(cache.entries.load().len(), 2);
        for _ in 0..2 * LISTS_MAX {
            cache.get_or_derive(&Arc::new(Vec::new()), || 0);
        }
        assert_eq!(*cache.get_or_derive(&one, || 50), 10);
        let many: Vec<_> = (0..2 * LISTS_MAX).map(|_| Arc::new(Vec::new())).collect();
        many.iter().for_each(|list| drop(cache.get_or_derive(list, || 0)));
        assert_eq!(cache.entries.load().len(), LISTS_MAX);
    }
}
