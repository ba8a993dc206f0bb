//! What a layer derives from lists and keeps as long as these stay the same.

use std::sync::{Arc, PoisonError, RwLock, Weak};

/// How many lists are remembered. Callers who see different things have different lists.
const LISTS_MAX: usize = 256;

/// Something made of a list, once for each list: an unchanged list is the same `Arc`, and so is what was made of it.
/// What was made of a list that is gone is forgotten; it must not hold the list itself.
#[derive(Debug)]
pub struct PerList<L, V> {
    /// The newest last. A weak pointer keeps its address from being used again.
    made: RwLock<Vec<(Weak<L>, Arc<V>)>>,
}

impl<L, V> Default for PerList<L, V> {
    fn default() -> Self {
        Self { made: RwLock::default() }
    }
}

impl<L, V> PerList<L, V> {
    /// What was made of `list`, or is made now. Two who ask at once may both make it, and get the same.
    pub fn get(&self, list: &Arc<L>, make: impl FnOnce() -> V) -> Arc<V> {
        let find = |made: &[(Weak<L>, Arc<V>)]| {
            let found = made.iter().rev().find(|(known, _)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(list)));
            found.map(|(_, value)| Arc::clone(value))
        };
        if let Some(value) = find(&self.made.read().unwrap_or_else(PoisonError::into_inner)) {
            return value;
        }
        let value = Arc::new(make());
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = find(&made) {
            return value;
        }
        made.retain(|(known, _)| known.strong_count() > 0);
        if made.len() >= LISTS_MAX {
            made.remove(0);
        }
        made.push((Arc::downgrade(list), Arc::clone(&value)));
        value
    }

    /// The first that `seek` finds in what was made, of the newest list first.
    pub fn find<T>(&self, seek: impl Fn(&V) -> Option<T>) -> Option<T> {
        self.made
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .rev()
            .find_map(|(_, value)| seek(value))
    }
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
        assert_eq!(kept.made.read().unwrap().len(), 2);
        for _ in 0..2 * LISTS_MAX {
            kept.get(&Arc::new(Vec::new()), || 0);
        }
        assert_eq!(*kept.get(&one, || 50), 10);
        let many: Vec<_> = (0..2 * LISTS_MAX).map(|_| Arc::new(Vec::new())).collect();
        many.iter().for_each(|list| drop(kept.get(list, || 0)));
        assert_eq!(kept.made.read().unwrap().len(), LISTS_MAX);
    }
}
