//! Finds an item of a list by name, without a linear search for every call.

use std::hash::Hash;
use std::sync::Arc;

use ahash::HashMap;
use vmcp_domain::DerivedCache;

/// The index of each item in the lists that were searched, by name.
#[derive(Debug)]
pub(crate) struct NameIndex<T, N>(DerivedCache<Vec<T>, HashMap<N, usize>>);

impl<T, N> Default for NameIndex<T, N> {
    fn default() -> Self {
        Self(DerivedCache::default())
    }
}

impl<T, N: Eq + Hash + Clone> NameIndex<T, N> {
    /// The item of `list` called `name`, where `name_of` gives an item's name; `None` if there is none.
    pub(crate) fn find<'l>(
        &self,
        list: &'l Arc<Vec<T>>,
        name: &N,
        name_of: impl Fn(&T) -> &N,
    ) -> Option<&'l T> {
        let index =
            || list.iter().enumerate().map(|(number, item)| (name_of(item).clone(), number)).collect();
        let number = self.0.get_or_derive(list, index).get(name).copied()?;
        list.get(number)
    }
}
