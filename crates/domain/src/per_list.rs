//! What a layer derives from lists and keeps as long as these stay the same.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;

/// How many lists are remembered. Callers who see different things have different lists.
const LISTS_MAX: usize = 256;

/// Something made of a list, once for each list: an unchanged list is the same `Arc`, and so is what was made of it.
/// What was made of a list that is gone is forgotten; it must not hold the list itself.
#[derive(Debug)]
pub struct PerList<L, V> {
    /// The newest last. A weak pointer keeps its address from being used again.
    made: ArcSwap<Vec<(Weak<L>, Arc<V>)>>,
    /// Held while another is added.
    adding: Mutex<()>,
}

impl<L, V> Default for PerList<L, V> {
    fn default() -> Self {
        Self { made: ArcSwap::default(), adding: Mutex::default() }
    }
}

impl<L, V> PerList<L, V> {
    /// What was made of `list`, or is made now. Two who ask at once may both make it, and get the same.
    pub fn get(&self, list: &Arc<L>, make: impl FnOnce() -> V) -> Arc<V> {
        self.with(list, make, Arc::clone)
    }

    /// As [`Self::get`], for who wants only a look. Those who look at once do not get into each other's way: not even
    /// what they count is shared.
    pub fn with<T>(&self, list: &Arc<L>, make: impl FnOnce() -> V, look: impl FnOnce(&Arc<V>) -> T) -> T {
        if let Some(value) = find(&self.made.load(), list) {
            return look(value);
        }
        let value = Arc::new(make());
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.made.load();
        if let Some(value) = find(&known, list) {
            return look(value);
        }
        let alive = known.iter().filter(|(list, _)| list.strong_count() > 0);
        let mut made: Vec<_> = alive.cloned().collect();
        if made.len() >= LISTS_MAX {
            made.remove(0);
        }
        made.push((Arc::downgrade(list), Arc::clone(&value)));
        self.made.store(Arc::new(made));
        look(&value)
    }

    /// Looks at everything that was made of lists that are still there, the newest first.
    pub fn each(&self, mut look: impl FnMut(&V)) {
        let made = self.made.load();
        made.iter().rev().filter(|(list, _)| list.strong_count() > 0).for_each(|(_, value)| look(value));
    }

    /// The first that `seek` finds in what was made, of the newest list first.
    pub fn find<T>(&self, seek: impl Fn(&V) -> Option<T>) -> Option<T> {
        self.made.load().iter().rev().find_map(|(_, value)| seek(value))
    }
}

fn find<'a, L, V>(made: &'a [(Weak<L>, Arc<V>)], list: &Arc<L>) -> Option<&'a Arc<V>> {
    let found = made.iter().rev().find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(list)));
    found.map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_one_value_and_nothing_of_lists_that_are_gone() {
        let kept = PerList::default();
        let (one, other) = (Arc::new(vec![1]), Arc::new(vec![1]));
        let first = kept.get(&one, || 10);
        assert_eq!((*first, *kept.get(&other, || 20), *kept.get(&one, || 30)), (10, 20, 10));
        assert_eq!(kept.find(|value| Some(*value)), Some(20));
        drop(other);
        let third = Arc::new(vec![3]);
        kept.get(&third, || 40);
        assert_eq!(kept.made.load().len(), 2);
        for _ in 0..2 * LISTS_MAX {
            kept.get(&Arc::new(Vec::new()), || 0);
        }
        assert_eq!(*kept.get(&one, || 50), 10);
        let many: Vec<_> = (0..2 * LISTS_MAX).map(|_| Arc::new(Vec::new())).collect();
        many.iter().for_each(|list| drop(kept.get(list, || 0)));
        assert_eq!(kept.made.load().len(), LISTS_MAX);
    }
}
