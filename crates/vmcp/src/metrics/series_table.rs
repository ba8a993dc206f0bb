//! A table of the series that a family has already created, by the name that they are about. A look-up writes
//! to no memory that threads share. Adding a series copies the table.

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::{ArcSwap, Guard};

/// Series by name.
pub(super) struct SeriesTable<S>(ArcSwap<AHashMap<Arc<str>, Arc<S>>>);

impl<S> Default for SeriesTable<S> {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(AHashMap::new()))
    }
}

impl<S> SeriesTable<S> {
    /// The current table.
    pub(super) fn load(&self) -> Guard<Arc<AHashMap<Arc<str>, Arc<S>>>> {
        self.0.load()
    }

    /// Adds a series, unless another thread has added one under the same name.
    pub(super) fn add(&self, name: &str, series: &Arc<S>) {
        let name: Arc<str> = Arc::from(name);
        self.0.rcu(|table| {
            let mut table = AHashMap::clone(table);
            table.entry(Arc::clone(&name)).or_insert_with(|| Arc::clone(series));
            table
        });
    }
}
