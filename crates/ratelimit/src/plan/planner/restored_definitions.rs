//! Bucket definitions restored from the last process. If the configured size of a bucket has changed, it gets
//! a new definition, and what is missing under the old one is carried over.

use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use vmcp_timing::Micros;

use super::{BucketDefinition, Planner};
use crate::bucket::rate::{BucketState, Rate, merged};
use crate::bucket::user_key::UserKey;
use crate::plan::BucketId;
use crate::plan::value_buckets::ValueBuckets;

/// Separates a bucket's key from the selector of its size. No tool or claim name contains it.
pub(super) const SIZE_SEPARATOR: char = '\u{1}';

/// A definition, with the level of the bucket that all callers share.
pub(crate) struct SavedDefinition {
    pub(crate) key: Arc<str>,
    pub(crate) rate: Rate,
    pub(crate) state: Option<BucketState>,
}

/// The restored definitions of each bucket in all its sizes, by its key without a size.
#[derive(Debug, Default)]
pub(super) struct RestoredDefinitions {
    by_unsized_key: std::collections::HashMap<Arc<str>, Vec<BucketId>>,
    /// Their keys, so that they are saved again.
    keys: std::collections::HashMap<BucketId, Arc<str>>,
}

fn without_size(key: &str) -> &str {
    key.split(SIZE_SEPARATOR).next().unwrap_or(key)
}

impl Planner {
    /// A definition by its identifier; `None` for a slot limit.
    pub(crate) fn saved_definition(&self, id: BucketId, names: &DefinitionKeys) -> Option<SavedDefinition> {
        let (key, state) = names.0.get(&id)?.clone();
        Some(SavedDefinition { key, rate: self.rate(id)?, state })
    }

    /// The keys of all definitions, with the level of the bucket that all callers share.
    pub(crate) fn definition_keys(&self) -> DefinitionKeys {
        let registry = self.registry.lock();
        let restored = self.restored_definitions.read();
        let former = restored.keys.iter().map(|(id, key)| (*id, (key.clone(), None)));
        let from_registry = registry
            .by_key
            .iter()
            .map(|(key, definition)| (definition.id, (key.clone(), *definition.shared_state.lock())));
        DefinitionKeys(former.chain(from_registry).collect())
    }

    /// Visits the bucket of every value that is not of a limit in shadow mode for all callers.
    pub(crate) fn for_each_value(&self, mut look: impl FnMut(BucketId, UserKey, BucketState)) {
        self.value_buckets.lock().for_each(&mut look);
    }

    /// Restores a definition and the level of its shared bucket.
    pub(crate) fn restore(&self, key: &Arc<str>, rate: Rate, state: Option<BucketState>) -> BucketId {
        let definition = self.add_definition(&mut self.registry.lock(), key.clone(), Some(rate));
        *definition.shared_state.lock() = state;
        let mut restored = self.restored_definitions.write();
        restored.by_unsized_key.entry(without_size(key).into()).or_default().push(definition.id);
        restored.keys.insert(definition.id, key.clone());
        definition.id
    }

    /// Restores the bucket of a claim, argument or header value.
    pub(crate) fn restore_value(&self, key: (BucketId, UserKey), rate: Rate, state: BucketState) {
        self.value_buckets.lock().restore(key, rate, state);
    }

    /// Whether a definition was restored from the last process.
    pub(super) fn is_restored(&self, id: BucketId) -> bool {
        self.restored_definitions.read().keys.contains_key(&id)
    }

    /// The other definitions that a bucket had in the last process.
    pub(super) fn restored_sizes(&self, own: BucketId, name: &str) -> SmallVec<[BucketId; 2]> {
        let restored = self.restored_definitions.read();
        let all = restored.by_unsized_key.get(name).map(Vec::as_slice).unwrap_or_default();
        all.iter().copied().filter(|id| *id != own).collect()
    }

    /// Carries the level of the old definition's shared bucket over to the definition in the new size.
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

    /// Merges what is missing in the restored buckets of a value into the bucket of its present size.
    pub(super) fn merge_restored_value(
        &self,
        (id, key): (BucketId, UserKey),
        (rate, name): (&Rate, &str),
        shared_bucket: &Mutex<Option<BucketState>>,
        value_buckets: &mut ValueBuckets,
    ) {
        for former in self.restored_sizes(id, name) {
            let (Some(left), Some(left_rate)) = (value_buckets.remove((former, key)), self.rate(former))
            else {
                continue;
            };
            let mut level = shared_bucket.lock();
            *level = Some(merged_state(*level, rate, left, &left_rate));
        }
    }

    /// Records that a calendar period has begun.
    pub(super) fn note_period(&self, start: Micros) {
        let mut newest = self.newest_period_start.write();
        *newest = (*newest).max(start);
    }

    /// The moment before which every period of a quota is over, even if no call has begun a later one: two
    /// typical lengths before the newest period.
    pub(super) fn periods_over_before(&self, rate: &Rate) -> Micros {
        let usual = u64::try_from(rate.configured().1.as_micros()).unwrap_or(u64::MAX);
        Micros(self.newest_period_start.read().0.saturating_sub(usual.saturating_mul(2)))
    }
}

/// The keys and shared levels of all definitions.
pub(crate) struct DefinitionKeys(std::collections::HashMap<BucketId, (Arc<str>, Option<BucketState>)>);

impl DefinitionKeys {
    /// All identifiers, in ascending order.
    pub(crate) fn ids(&self) -> Vec<BucketId> {
        let mut ids: Vec<BucketId> = self.0.keys().copied().collect();
        ids.sort_unstable();
        ids
    }
}

/// The state of a bucket with everything that is missing in it and in another size.
fn merged_state(own: Option<BucketState>, rate: &Rate, left: BucketState, left_rate: &Rate) -> BucketState {
    let at = left.level.at;
    let own = own.unwrap_or_else(|| BucketState::full(rate, at));
    merged((own, rate), (left, left_rate), at.max(own.level.at))
}
