//! Saves the levels of a memory store for the next process, and restores those of the last process.

use std::collections::HashMap;

use vmcp_timing::Micros;

use super::MemoryStore;
use crate::bucket::memory_store::user_entries::UserEntry;
use crate::bucket::rate::{BucketState, Level, Rate};
use crate::bucket::saved_levels::{SavedBucket, SavedLevels, SavedState, Secrets};
use crate::plan::{BucketId, SavedDefinition};

/// Whether a calendar period is certainly over, even if no call has begun a later one: it began more than two
/// typical lengths ago.
fn is_period_over(rate: &Rate, start: Micros, time_of_day: Micros) -> bool {
    let usual = u64::try_from(rate.configured().1.as_micros()).unwrap_or(u64::MAX);
    rate.is_by_calendar() && start.plus(usual.saturating_mul(2)) < time_of_day
}

impl MemoryStore {
    /// The levels of all buckets that are not full. Per-user and per-value buckets of limits in shadow mode
    /// for all callers are left out.
    pub(crate) fn save(&self, secrets: Secrets) -> SavedLevels {
        let (now, time_of_day) = (self.clock.now(), self.clock.time_of_day());
        let names = self.planner.definition_keys();
        // Only definitions with a level to save are written; the planner creates all others anew.
        let mut buckets: Vec<SavedBucket> = Vec::new();
        let mut indices: HashMap<BucketId, u32> = HashMap::new();
        let mut saved = |id: BucketId, state: BucketState| {
            let SavedDefinition { key, rate, .. } = self.planner.saved_definition(id, &names)?;
            if is_period_over(&rate, state.level.at, time_of_day) {
                return None;
            }
            let units = rate.level_at(state.level, self.planner.bucket_time(id, now));
            if units >= rate.capacity() {
                return None;
            }
            let period = if rate.is_by_calendar() { state.level.at } else { Micros(0) };
            let next = u32::try_from(buckets.len()).ok()?;
            let bucket = *indices.entry(id).or_insert_with(|| {
                buckets.push(SavedBucket { key, rate, state: None });
                next
            });
            Some(SavedState { bucket_index: bucket, units, period })
        };
        let mut shared = Vec::new();
        for id in names.ids() {
            let state = self.planner.saved_definition(id, &names).and_then(|definition| definition.state);
            shared.extend(state.and_then(|state| saved(id, state)));
        }
        let mut values = Vec::new();
        self.planner
            .for_each_value(|id, key, state| values.extend(saved(id, state).map(|state| (key, state))));
        let mut users = Vec::new();
        self.users.for_each_user(|key, states| {
            let states: Vec<SavedState> = states.filter_map(|(id, state)| saved(id, state)).collect();
            if !states.is_empty() {
                users.push((key, states));
            }
        });
        for state in shared {
            if let Some(bucket) = buckets.get_mut(usize::try_from(state.bucket_index).unwrap_or(usize::MAX)) {
                bucket.state = Some(state);
            }
        }
        SavedLevels { secrets, saved_at: time_of_day, buckets, values, users }
    }

    /// Restores saved levels, refilled for the time since they were saved. The store must be new. Returns the
    /// number of users that were left out because the user table is full.
    pub(crate) fn restore(&self, levels: &SavedLevels) -> usize {
        let now = self.clock.now();
        let time_of_day = self.clock.time_of_day();
        let away = time_of_day.since(levels.saved_at);
        let restored = |rate: &Rate, state: &SavedState| {
            let at = if rate.is_by_calendar() { state.period } else { now };
            let earned = i64::try_from(away.saturating_mul(rate.refill())).unwrap_or(i64::MAX);
            let units = state.units.saturating_add(earned).clamp(-rate.capacity(), rate.capacity());
            // The earlier levels are unknown, so refunds get the smallest bound.
            BucketState { level: Level { units, at }, above_half_at: at }
        };
        let ids: Vec<(BucketId, Rate)> = levels
            .buckets
            .iter()
            .map(|SavedBucket { key, rate, state }| {
                let state = state.as_ref().map(|state| restored(rate, state));
                (self.planner.restore(key, *rate, state), *rate)
            })
            .collect();
        let of = |state: &SavedState| {
            let (id, rate) = ids.get(usize::try_from(state.bucket_index).ok()?)?;
            if is_period_over(rate, state.period, time_of_day) {
                return None;
            }
            Some((*id, *rate, restored(rate, state)))
        };
        for (key, state) in &levels.values {
            if let Some((id, rate, state)) = of(state) {
                self.planner.restore_value((id, *key), rate, state);
            }
        }
        let mut left_out = 0;
        for (key, states) in &levels.users {
            let mut entry = UserEntry::default();
            self.users.find_or_reserve(&mut entry, Some(*key), &self.planner, now);
            if entry.key != Some(*key) {
                left_out += 1;
                continue;
            }
            entry.ensure_inserted();
            for (id, _, state) in states.iter().filter_map(of) {
                if let Some(user) = entry.record_mut() {
                    user.set_state(id, state);
                }
            }
        }
        left_out
    }
}
