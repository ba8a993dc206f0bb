//! The buckets of claim, argument and header values: one per definition and value. A bucket is made when a
//! call first needs it, and removed when it is full again.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use vmcp_timing::Micros;

use super::BucketId;
use crate::bucket::rate::{BucketState, Rate};
use crate::bucket::user_key::UserKey;

type SharedBucket = Arc<Mutex<Option<BucketState>>>;

/// The bucket of one value.
#[derive(Debug)]
struct ValueBucket {
    rate: Rate,
    shared_bucket: SharedBucket,
    /// The caller that chose the value, if the bucket is for that caller alone.
    chosen_by: Option<UserKey>,
}

impl ValueBucket {
    /// Whether the bucket must be kept: a plan refers to it, or it is not full.
    fn is_needed(&self, time: Micros) -> bool {
        let full = |state: BucketState| self.rate.level_at(state.level, time) >= self.rate.capacity();
        Arc::strong_count(&self.shared_bucket) > 1 || !self.shared_bucket.lock().is_none_or(full)
    }
}

/// The buckets of the values that one caller has chosen.
#[derive(Debug, Default)]
struct ChosenBuckets {
    keys: HashSet<(BucketId, UserKey)>,
    swept_at: Micros,
}

/// All value buckets of this process.
#[derive(Debug, Default)]
pub(super) struct ValueBuckets {
    buckets: HashMap<(BucketId, UserKey), ValueBucket>,
    /// The buckets that each caller has chosen.
    by_chooser: HashMap<UserKey, ChosenBuckets>,
    /// The number of buckets at which the next sweep removes full ones.
    sweep_threshold: usize,
    swept_at: Micros,
}

/// The smallest number of buckets that is worth a sweep.
const SWEEP_THRESHOLD_MIN: usize = 1024;
/// The shortest time between two sweeps while all slots are taken, in microseconds.
const SWEEP_INTERVAL_MIN: u64 = 1_000_000;
/// How many buckets one caller may have for values that it chooses itself. Beyond that, all further values of
/// the caller share one bucket per definition, so that a caller who makes up values takes no slots from
/// others.
const CHOSEN_COUNT_MAX: usize = 1000;

impl ValueBuckets {
    /// The bucket of one value, and the key under which it is stored. `owner` is the caller that chose the
    /// value, if any. When there are `most` buckets, new values share one overflow bucket per definition,
    /// because no bucket in debt is removed. Values at different indices (`index`) of one call have different
    /// overflow buckets, so no call locks a bucket twice.
    pub(super) fn get_or_insert(
        &mut self,
        (id, value, owner): (BucketId, UserKey, Option<UserKey>),
        (index, most): (usize, usize),
        rate: &Rate,
        (now, time): (Micros, &dyn Fn(BucketId) -> Micros),
    ) -> (UserKey, SharedBucket) {
        if let Some(bucket) = self.buckets.get(&(id, value)) {
            return (value, bucket.shared_bucket.clone());
        }
        let many = self.buckets.len() >= self.sweep_threshold.max(SWEEP_THRESHOLD_MIN);
        if many || (self.buckets.len() >= most && now.since(self.swept_at) >= SWEEP_INTERVAL_MIN) {
            self.sweep(time);
            self.swept_at = now;
            self.sweep_threshold = self.buckets.len() * 2;
        }
        let (key, owner) = match owner {
            _ if self.buckets.len() >= most => (UserKey::overflow(index), None),
            Some(owner) if self.has_chosen_max(owner, now, time) => (owner, None),
            _ => (value, owner),
        };
        let shared_bucket = match self.buckets.entry((id, key)) {
            Entry::Occupied(known) => known.get().shared_bucket.clone(),
            Entry::Vacant(free) => {
                if let Some(owner) = owner {
                    self.by_chooser.entry(owner).or_default().keys.insert((id, key));
                }
                free.insert(ValueBucket {
                    rate: *rate,
                    shared_bucket: SharedBucket::default(),
                    chosen_by: owner,
                })
                .shared_bucket
                .clone()
            }
        };
        (key, shared_bucket)
    }

    /// Visits every bucket that a call has spent from.
    pub(super) fn for_each(&self, mut look: impl FnMut(BucketId, UserKey, BucketState)) {
        for ((id, key), bucket) in &self.buckets {
            if let Some(state) = *bucket.shared_bucket.lock() {
                look(*id, *key, state);
            }
        }
    }

    /// Restores a bucket of the last process.
    pub(super) fn restore(&mut self, key: (BucketId, UserKey), rate: Rate, state: BucketState) {
        self.buckets.insert(
            key,
            ValueBucket { rate, shared_bucket: Arc::new(Mutex::new(Some(state))), chosen_by: None },
        );
    }

    /// Removes the bucket of a value in a size of the last process, and returns its state.
    pub(super) fn remove(&mut self, key: (BucketId, UserKey)) -> Option<BucketState> {
        let bucket = self.buckets.remove(&key)?;
        self.remove_chosen(bucket.chosen_by, key);
        *bucket.shared_bucket.lock()
    }

    /// Removes the buckets that are full and in no plan.
    fn sweep(&mut self, time: &dyn Fn(BucketId) -> Micros) {
        let mut forgotten = Vec::new();
        self.buckets.retain(|key, bucket| {
            let stays = bucket.is_needed(time(key.0));
            forgotten.extend((!stays).then_some((bucket.chosen_by, *key)));
            stays
        });
        for (owner, key) in forgotten {
            self.remove_chosen(owner, key);
        }
    }

    /// Whether a caller has the largest number of chosen values. Only the buckets of that caller are swept: a
    /// caller who makes up values must not delay others.
    fn has_chosen_max(&mut self, owner: UserKey, now: Micros, time: &dyn Fn(BucketId) -> Micros) -> bool {
        let Some(chosen) = self.by_chooser.get_mut(&owner) else { return false };
        if chosen.keys.len() >= CHOSEN_COUNT_MAX && now.since(chosen.swept_at) >= SWEEP_INTERVAL_MIN {
            chosen.swept_at = now;
            let known = &mut self.buckets;
            chosen.keys.retain(|key| {
                let stays = known.get(key).is_some_and(|bucket| bucket.is_needed(time(key.0)));
                if !stays {
                    known.remove(key);
                }
                stays
            });
        }
        chosen.keys.len() >= CHOSEN_COUNT_MAX
    }

    /// Removes a bucket from those that a caller has chosen.
    fn remove_chosen(&mut self, owner: Option<UserKey>, key: (BucketId, UserKey)) {
        let Some(owner) = owner else { return };
        if let Some(chosen) = self.by_chooser.get_mut(&owner) {
            chosen.keys.remove(&key);
            if chosen.keys.is_empty() {
                self.by_chooser.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate() -> Rate {
        Rate::new(10, Duration::from_secs(10), 10).unwrap()
    }

    fn insert_bucket(
        value_buckets: &mut ValueBuckets,
        key: (BucketId, UserKey),
        now: Micros,
        most: usize,
    ) -> SharedBucket {
        value_buckets.get_or_insert((key.0, key.1, None), (0, most), &rate(), (now, &|_| now)).1
    }

    #[test]
    fn a_value_in_debt_is_never_forgotten_and_full_ones_make_room() {
        let (mut value_buckets, rate) = (ValueBuckets::default(), rate());
        let key = |number: u128| (BucketId(0), UserKey::new(number));
        let spent = BucketState::full(&rate, Micros(0)).with_units(0);
        *insert_bucket(&mut value_buckets, key(1), Micros(0), 2000).lock() = Some(spent);
        for number in 2..5000 {
            drop(insert_bucket(&mut value_buckets, key(number), Micros(1), 2000));
        }
        assert_eq!(*insert_bucket(&mut value_buckets, key(1), Micros(1), 2000).lock(), Some(spent));
        assert!(value_buckets.buckets.len() <= 2000);
        // The bucket is removed once it is full again.
        for number in 5000..10_000 {
            drop(insert_bucket(&mut value_buckets, key(number), Micros(20_000_000), 2000));
        }
        assert_eq!(*insert_bucket(&mut value_buckets, key(1), Micros(20_000_000), 2000).lock(), None);
    }

    #[test]
    fn beyond_the_bound_values_share_a_bucket() {
        let mut value_buckets = ValueBuckets::default();
        let held: Vec<SharedBucket> = (2..=4)
            .map(|number| {
                insert_bucket(&mut value_buckets, (BucketId(0), UserKey::new(number)), Micros(0), 1)
            })
            .collect();
        assert!(!Arc::ptr_eq(&held[0], &held[1]) && Arc::ptr_eq(&held[1], &held[2]));
    }

    #[test]
    fn a_caller_who_makes_up_values_takes_no_places_from_others() {
        let mut value_buckets = ValueBuckets::default();
        let owner = |number: u128| Some(UserKey::new(number << 64));
        let mut shared_bucket = |value: u128, owner: Option<UserKey>, now: u64| {
            let (key, shared_bucket) = value_buckets.get_or_insert(
                (BucketId(0), UserKey::new(value), owner),
                (0, usize::MAX),
                &rate(),
                (Micros(now), &|_| Micros(now)),
            );
            *shared_bucket.lock() = Some(BucketState::full(&rate(), Micros(now)).with_units(0));
            key
        };
        for value in 0..CHOSEN_COUNT_MAX as u128 {
            assert_eq!(shared_bucket(10 + value, owner(1), 0), UserKey::new(10 + value));
        }
        let beyond = shared_bucket(5000, owner(1), 1);
        assert_eq!(beyond, UserKey::new(1 << 64));
        assert_eq!(shared_bucket(5001, owner(1), 2), beyond, "further values share one");
        assert_eq!(shared_bucket(10, owner(1), 2), UserKey::new(10), "those that are known keep theirs");
        assert_eq!(shared_bucket(6000, owner(2), 2), UserKey::new(6000), "another caller is not concerned");
        // Buckets that are full again make room.
        assert_eq!(shared_bucket(7000, owner(1), 20_000_000), UserKey::new(7000));
    }
}
