//! Definitions of buckets as one process leaves them to the next. A definition whose size has changed in the configuration is a
//! new one, and what is left under the old one counts in it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Entry, Planner};
use crate::plan::BucketId;
use crate::rate::{BucketState, Rate, joined};
use crate::table::UserKey;

/// A definition, with the level of the bucket that all callers share.
pub(crate) struct Definition {
    pub(crate) id: BucketId,
    pub(crate) key: Arc<str>,
    pub(crate) rate: Rate,
    pub(crate) state: Option<BucketState>,
}

impl Planner {
    /// Every definition, in the order of identifiers.
    pub(crate) fn definitions(&self) -> Vec<Definition> {
        let (registry, rates) = (self.registry.lock(), self.rates.read());
        let rate = |id: BucketId| rates.get(usize::try_from(id.0).ok()?).copied().flatten();
        let definition = |(key, entry): (&Arc<str>, &Entry)| {
            let state = *entry.level.lock();
            Some(Definition { id: entry.id, key: key.clone(), rate: rate(entry.id)?, state })
        };
        let mut all: Vec<Definition> = registry.ids.iter().filter_map(definition).collect();
        all.sort_unstable_by_key(|definition| definition.id);
        all
    }

    /// Looks at the bucket of every value of a claim that limits in force are kept for.
    pub(crate) fn each_value(&self, mut look: impl FnMut(BucketId, UserKey, BucketState)) {
        self.cells.lock().each(&mut look);
    }

    /// Takes over a definition and the level of its shared bucket.
    pub(crate) fn restore(&self, key: &Arc<str>, rate: Rate, state: Option<BucketState>) -> BucketId {
        let entry = self.add(&mut self.registry.lock(), key.clone(), Some(rate));
        *entry.level.lock() = state;
        entry.id
    }

    /// Takes over the bucket of a value of a claim.
    pub(crate) fn restore_value(&self, key: (BucketId, UserKey), rate: Rate, state: BucketState) {
        self.cells.lock().restore(key, rate, state);
    }

    /// The definition that a bucket had in the last process, if it had another size there.
    pub(super) fn former(&self, id: BucketId) -> Option<(BucketId, Rate)> {
        let former = *self.formers.read().get(&id)?;
        Some((former, self.rate(former)?))
    }

    /// A definition in its present size, with what is left of the old one.
    pub(super) fn resized(&self, old: &Entry, old_rate: &Rate, new: &Entry, rate: &Rate) {
        self.formers.write().insert(new.id, old.id);
        if let Some(left) = *old.level.lock() {
            *new.level.lock() = Some(moved(None, rate, left, old_rate));
        }
    }

    /// Moves what is left in the bucket of a value of a claim into its present size.
    pub(super) fn take_former_value(
        &self,
        (id, key): (BucketId, UserKey),
        rate: &Rate,
        cell: &Mutex<Option<BucketState>>,
        cells: &mut crate::plan::cells::Cells,
    ) {
        let Some((former, former_rate)) = self.former(id) else { return };
        if let Some(left) = cells.take((former, key)) {
            let mut level = cell.lock();
            *level = Some(moved(*level, rate, left, &former_rate));
        }
    }
}

/// A bucket with what is missing in it and in another one.
fn moved(own: Option<BucketState>, rate: &Rate, left: BucketState, left_rate: &Rate) -> BucketState {
    let at = left.level.at;
    let own = own.unwrap_or_else(|| BucketState::full(rate, at));
    joined((own, rate), (left, left_rate), at.max(own.level.at))
}
