//! Definitions of buckets as one process leaves them to the next. A definition whose size has changed in the configuration is a
//! new one, and what is left under the old one counts in it.

use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{BucketDefinition, Planner};
use crate::bucket::rate::{BucketState, Rate, merged};
use crate::bucket::user_table::UserKey;
use crate::clock::Micros;
use crate::plan::BucketId;
use crate::plan::value_buckets::ValueBuckets;

/// What parts a bucket's name from whom its size is for. No name of a tool or a claim holds it.
pub(super) const SIZE_SEPARATOR: char = '\u{1}';

/// A definition, with the level of the bucket that all callers share.
pub(crate) struct SavedDefinition {
    pub(crate) key: Arc<str>,
    pub(crate) rate: Rate,
    pub(crate) state: Option<BucketState>,
}

/// What one process leaves to the next: the definitions of a bucket in all its sizes, by its name without a size.
#[derive(Debug, Default)]
pub(super) struct RestoredDefinitions {
    by_unsized_key: std::collections::HashMap<Arc<str>, Vec<BucketId>>,
    /// The names of those, so that they are saved again.
    keys: std::collections::HashMap<BucketId, Arc<str>>,
}

fn without_size(key: &str) -> &str {
    key.split(SIZE_SEPARATOR).next().unwrap_or(key)
}

impl Planner {
    /// A definition by its identifier; `None` for a bound on calls in flight.
    pub(crate) fn saved_definition(&self, id: BucketId, names: &DefinitionKeys) -> Option<SavedDefinition> {
        let (key, state) = names.0.get(&id)?.clone();
        Some(SavedDefinition { key, rate: self.rate(id)?, state })
    }

    /// What all definitions are called, and the level of the bucket that all callers share.
    pub(crate) fn definition_keys(&self) -> DefinitionKeys {
        let registry = self.registry.lock();
        let restored = self.restored_definitions.read();
        let former = restored.keys.iter().map(|(id, key)| (*id, (key.clone(), None)));
        let present =
            registry.by_key.iter().map(|(key, entry)| (entry.id, (key.clone(), *entry.shared_state.lock())));
        DefinitionKeys(former.chain(present).collect())
    }

    /// Looks at the bucket of every value of a claim that limits in force are kept for.
    pub(crate) fn for_each_value(&self, mut look: impl FnMut(BucketId, UserKey, BucketState)) {
        self.value_buckets.lock().for_each(&mut look);
    }

    /// Takes over a definition and the level of its shared bucket.
    pub(crate) fn restore(&self, key: &Arc<str>, rate: Rate, state: Option<BucketState>) -> BucketId {
        let entry = self.add_definition(&mut self.registry.lock(), key.clone(), Some(rate));
        *entry.shared_state.lock() = state;
        let mut restored = self.restored_definitions.write();
        restored.by_unsized_key.entry(without_size(key).into()).or_default().push(entry.id);
        restored.keys.insert(entry.id, key.clone());
        entry.id
    }

    /// Takes over the bucket of a value of a claim.
    pub(crate) fn restore_value(&self, key: (BucketId, UserKey), rate: Rate, state: BucketState) {
        self.value_buckets.lock().restore(key, rate, state);
    }

    /// Whether a definition is of the last process.
    pub(super) fn is_restored(&self, id: BucketId) -> bool {
        self.restored_definitions.read().keys.contains_key(&id)
    }

    /// The other definitions that a bucket had in the last process.
    pub(super) fn restored_sizes(&self, own: BucketId, name: &str) -> SmallVec<[BucketId; 2]> {
        let restored = self.restored_definitions.read();
        let all = restored.by_unsized_key.get(name).map(Vec::as_slice).unwrap_or_default();
        all.iter().copied().filter(|id| *id != own).collect()
    }

    /// A definition in its present size, with what is left of the old one.
    pub(super) fn carry_over_level(
        old: &BucketDefinition,
        old_rate: &Rate,
        new: &BucketDefinition,
        rate: &Rate,
    ) {
        if let Some(left) = *old.shared_state.lock() {
            *new.shared_state.lock() = Some(merged_state(None, rate, left, old_rate));
        }
    }

    /// Moves what is left in the bucket of a value of a claim into its present size.
    pub(super) fn merge_restored_value(
        &self,
        (id, key): (BucketId, UserKey),
        (rate, name): (&Rate, &str),
        cell: &Mutex<Option<BucketState>>,
        cells: &mut ValueBuckets,
    ) {
        for former in self.restored_sizes(id, name) {
            let (Some(left), Some(left_rate)) = (cells.remove((former, key)), self.rate(former)) else {
                continue;
            };
            let mut level = cell.lock();
            *level = Some(merged_state(*level, rate, left, &left_rate));
        }
    }

    /// Notes that a period of the calendar has begun.
    pub(super) fn note_period(&self, start: Micros) {
        let mut newest = self.newest_period_start.write();
        *newest = (*newest).max(start);
    }

    /// Before this moment every period of a quota is over, whether or not a call has begun another one.
    pub(super) fn periods_over_before(&self, rate: &Rate) -> Micros {
        let usual = u64::try_from(rate.configured().1.as_micros()).unwrap_or(u64::MAX);
        Micros(self.newest_period_start.read().0.saturating_sub(usual.saturating_mul(2)))
    }
}

/// What definitions are called.
pub(crate) struct DefinitionKeys(std::collections::HashMap<BucketId, (Arc<str>, Option<BucketState>)>);

impl DefinitionKeys {
    /// All identifiers, in their order.
    pub(crate) fn ids(&self) -> Vec<BucketId> {
        let mut ids: Vec<BucketId> = self.0.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}

/// A bucket with what is missing in it and in another one.
fn merged_state(own: Option<BucketState>, rate: &Rate, left: BucketState, left_rate: &Rate) -> BucketState {
    let at = left.level.at;
    let own = own.unwrap_or_else(|| BucketState::full(rate, at));
    merged((own, rate), (left, left_rate), at.max(own.level.at))
}
