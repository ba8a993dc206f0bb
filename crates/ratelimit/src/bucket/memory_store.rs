//! The in-memory store: decides and spends in one step, under locks that are held for nanoseconds.
//!
//! Lock order: the user's shard, then the shared buckets in the order of the plan. Nothing is spent before
//! every bucket is known to pay, so there is nothing to roll back.

mod receipt;
pub(crate) mod save_restore;
pub(crate) mod size_merge;
pub(crate) mod user_entries;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use smallvec::SmallVec;
use vmcp_timing::{Clock, Micros};

use crate::bucket::decide::{BucketRefusal, BucketSnapshot, Charges, bucket_refusal};
use crate::bucket::low_bucket::LowBucket;
use crate::bucket::memory_store::user_entries::{ShardedUserTable, UserEntries};
use crate::bucket::rate::BucketState;
use crate::bucket::user_key::UserKey;
use crate::bucket::user_table::UserRecord;
use crate::plan::policy::Mode;
use crate::plan::{BucketId, LevelStorage, Plan, PlannedBucket, Planner};
pub(crate) use receipt::signed_units;

/// The levels of every bucket, in this process.
pub struct MemoryStore {
    planner: Arc<Planner>,
    clock: Arc<dyn Clock>,
    users: ShardedUserTable,
    /// Per-user state of limits that are in shadow mode for all callers.
    shadow_users: ShardedUserTable,
}

/// The outcome of a decision.
#[derive(Debug)]
pub enum AdmitOutcome<'a> {
    /// The call is admitted and has paid.
    Admitted(Receipt<'a>),
    /// An enforced bucket cannot pay.
    Refused(Box<BucketRefusal>),
    /// Too many calls are in flight. The number is the index of the full slot limit in the plan.
    SlotsFull(usize),
    /// The user table is full, and the policy refuses further users.
    UserTableFull,
}

/// What an admitted call has paid, and the slots that it holds. Dropping it releases the slots. The tokens
/// stay spent unless [`Receipt::refund`] is called.
#[derive(Debug)]
pub struct Receipt<'a> {
    store: &'a MemoryStore,
    plan: &'a Plan,
    user: Option<UserKey>,
    charges: Charges,
    paid_at: Micros,
    slots_held: SmallVec<[bool; 2]>,
    low_bucket: Option<LowBucket>,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("user_count", &self.user_count()).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store for the buckets of `planner`.
    #[must_use]
    pub fn new(planner: Arc<Planner>, clock: Arc<dyn Clock>) -> Self {
        Self { planner, clock, users: ShardedUserTable::new(), shadow_users: ShardedUserTable::new() }
    }

    /// The number of users in the user table. Users known only to limits in shadow mode do not count.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.users.count()
    }

    /// Memory of the user tables, in bytes; that of limits in shadow mode is included.
    #[must_use]
    pub fn user_bytes(&self) -> usize {
        self.users.bytes() + self.shadow_users.bytes()
    }

    /// Decides about a call now, and pays for it if it is admitted. `user` must be given if the plan needs
    /// one.
    #[must_use]
    pub fn admit<'a>(&'a self, plan: &'a Plan, user: Option<UserKey>) -> AdmitOutcome<'a> {
        self.admit_at(plan, user, self.clock.now())
    }

    /// Like `admit`, at a moment that the caller has read from the clock, so that it knows when the decision
    /// was made.
    pub(crate) fn admit_at<'a>(
        &'a self,
        plan: &'a Plan,
        user: Option<UserKey>,
        now: Micros,
    ) -> AdmitOutcome<'a> {
        // The structures below are filled in place, because moving them would take a good part of a
        // decision's time.
        let mut entries = UserEntries::default();
        self.reserve_entries(&mut entries, plan, user, now);
        // Rules in shadow mode do not refuse when the user table is full.
        if entries.enforced.key.is_none() && plan.has_enforced_per_user() {
            return AdmitOutcome::UserTableFull;
        }
        let mut shared_buckets = lock_shared(plan);
        let mut levels = BucketLevels::new();
        self.read_levels(&mut levels, (plan, &shared_buckets, &entries), now);
        if entries.is_missing_user(plan) {
            empty_buckets_without_user(plan, &entries, &mut levels);
        }
        let asked = plan.buckets.iter().zip(&levels);
        let mut charges = Charges::default();
        if !charges.try_charge(asked.map(|(bucket, level)| (*level, bucket.cost_units, bucket.mode))) {
            return AdmitOutcome::Refused(bucket_refusal(self.snapshots(plan, &levels)));
        }
        // After the buckets: a call that cannot pay takes no slot from others, not even for a moment.
        let mut holds = SmallVec::new();
        if let Err(index) = take_slots(plan, &entries, &mut holds) {
            return AdmitOutcome::SlotsFull(index);
        }
        entries.enforced.ensure_inserted();
        entries.shadow.ensure_inserted();
        self.spend(plan, (&mut shared_buckets, &mut entries), (&levels, &charges), now);
        for (slots, _) in plan
            .slot_limits
            .iter()
            .zip(&holds)
            .filter(|(slots, holds)| slots.shared_count.is_none() && **holds)
        {
            if let Some(user) = entries.entry_mut(slots.mode == Mode::Shadow).record_mut() {
                user.set_in_flight(slots.id, user.in_flight(slots.id) + 1);
            }
        }
        let after = plan.buckets.iter().zip(&levels);
        let after = after.map(|(bucket, level)| level.saturating_sub(bucket.cost_units));
        let low_bucket = LowBucket::find(plan, after, self.planner.policy().remaining_hints.below_percent);
        let user = entries.enforced.key.or(entries.shadow.key);
        AdmitOutcome::Admitted(Receipt {
            store: self,
            plan,
            user,
            charges,
            paid_at: now,
            slots_held: holds,
            low_bucket,
        })
    }

    /// The state of every bucket of a plan for a user, in the order of the plan. Spends nothing.
    #[must_use]
    pub fn peek(&self, plan: &Plan, user: Option<UserKey>) -> Vec<BucketSnapshot> {
        let now = self.clock.now();
        let entries = self.find_entries(plan, user);
        let shared_buckets = lock_shared(plan);
        let mut levels = BucketLevels::new();
        self.read_levels(&mut levels, (plan, &shared_buckets, &entries), now);
        self.snapshots(plan, &levels).collect()
    }

    /// The index of an enforced slot limit that has no free slot for another call of a user. Takes no slot.
    pub(crate) fn full_slot_limit(&self, plan: &Plan, user: Option<UserKey>) -> Option<usize> {
        plan.slot_limits.iter().position(|slots| {
            let in_flight = match (&slots.shared_count, user) {
                (Some(counter), _) => counter.load(Ordering::Acquire),
                (None, Some(user)) => self.in_flight(user, slots.id),
                (None, None) => 0,
            };
            slots.mode == Mode::Enforce && in_flight >= slots.count_max.get()
        })
    }

    /// How many calls of a user are in flight under a per-user slot limit.
    pub(crate) fn in_flight(&self, user: UserKey, id: BucketId) -> u32 {
        let enforced = self.users.find_entry(Some(user)).record().map_or(0, |user| user.in_flight(id));
        enforced.max(self.shadow_users.find_entry(Some(user)).record().map_or(0, |user| user.in_flight(id)))
    }

    /// Lowers every bucket of a plan to `levels` for a user, in units and in the order of the plan. A bucket
    /// that already holds less keeps its level. If the user table has no room, the buckets of the user are
    /// skipped.
    pub(crate) fn lower_levels(&self, plan: &Plan, user: Option<UserKey>, levels: &[i64]) {
        let now = self.clock.now();
        let mut entries = UserEntries::default();
        self.reserve_entries(&mut entries, plan, user, now);
        entries.enforced.ensure_inserted();
        entries.shadow.ensure_inserted();
        size_merge::merge_sizes(plan, &mut entries, &self.planner, now);
        let mut shared_buckets = lock_shared(plan);
        let mut next = shared_buckets.iter_mut();
        for (bucket, units) in plan.buckets.iter().zip(levels) {
            let now = bucket.bucket_time(now);
            let lower = |held: Option<BucketState>| {
                let held = held.map_or_else(
                    || BucketState::full(&bucket.rate, now),
                    |held| held.advanced_to(&bucket.rate, now),
                );
                held.with_units(held.level.units.min(*units))
            };
            let user = match &bucket.storage {
                LevelStorage::Shared(_) => {
                    if let Some(shared_bucket) = next.next() {
                        **shared_bucket = Some(lower(**shared_bucket));
                    }
                    continue;
                }
                LevelStorage::User => entries.enforced.record_mut(),
                LevelStorage::ShadowUser => entries.shadow.record_mut(),
            };
            if let Some(user) = user {
                user.set_state(bucket.id, lower(user.state(bucket.id)));
            }
        }
    }

    fn snapshots<'a>(
        &'a self,
        plan: &'a Plan,
        levels: &'a [i64],
    ) -> impl Iterator<Item = BucketSnapshot> + 'a {
        let buckets = plan.buckets.iter().zip(levels);
        buckets.map(|(bucket, level)| bucket.snapshot(*level, &*self.clock))
    }

    /// The level of every bucket now, in units. A bucket from which no call has spent is full.
    fn read_levels(
        &self,
        levels: &mut BucketLevels,
        (plan, shared_buckets, entries): (&Plan, &SharedBucketGuards<'_>, &UserEntries<'_>),
        now: Micros,
    ) {
        let (enforced, shadow) = (entries.enforced.record(), entries.shadow.record());
        let of_user = |user: Option<&UserRecord>, bucket: &PlannedBucket| {
            if bucket.other_sizes.is_empty() {
                return user?.level(bucket.id);
            }
            size_merge::merged_state(user?, bucket, &self.planner, bucket.bucket_time(now))
                .map(|state| state.level)
        };
        let mut shared_buckets = shared_buckets.iter();
        for bucket in &plan.buckets {
            let level = match &bucket.storage {
                LevelStorage::Shared(_) => {
                    shared_buckets.next().and_then(|shared_bucket| **shared_bucket).map(|state| state.level)
                }
                LevelStorage::User => of_user(enforced, bucket),
                LevelStorage::ShadowUser => of_user(shadow, bucket),
            };
            let present = |level| bucket.rate.level_at(level, bucket.bucket_time(now));
            levels.push(level.map_or_else(|| bucket.rate.capacity(), present));
        }
    }

    /// Spends from every bucket that pays according to the charges.
    fn spend(
        &self,
        plan: &Plan,
        (shared_buckets, entries): (&mut SharedBucketGuards<'_>, &mut UserEntries<'_>),
        (levels, charges): (&[i64], &Charges),
        now: Micros,
    ) {
        let mut shared_buckets = shared_buckets.iter_mut();
        let UserEntries { enforced, shadow } = entries;
        let (mut enforced, mut shadow) = (enforced.record_mut(), shadow.record_mut());
        for ((bucket, level), pays) in plan.buckets.iter().zip(levels).zip(&charges.pays) {
            let units = (*level, level - bucket.cost_units);
            let user = match &bucket.storage {
                LevelStorage::Shared(_) => {
                    if let Some(shared_bucket) = shared_buckets.next().filter(|_| *pays) {
                        let now = bucket.bucket_time(now);
                        let held = shared_bucket.get_or_insert_with(|| BucketState::full(&bucket.rate, now));
                        held.spend(&bucket.rate, units, now);
                    }
                    continue;
                }
                LevelStorage::User => &mut enforced,
                LevelStorage::ShadowUser => &mut shadow,
            };
            if let Some(user) = user.as_deref_mut().filter(|_| *pays) {
                size_merge::merge_size(user, bucket, &self.planner, now);
                user.spend(bucket.id, &bucket.rate, units, bucket.bucket_time(now));
            }
        }
    }

    /// Merges what a user has spent in other sizes of the buckets into the sizes of a plan.
    pub(crate) fn merge_sizes(&self, plan: &Plan, user: Option<UserKey>) {
        size_merge::merge_sizes(plan, &mut self.find_entries(plan, user), &self.planner, self.clock.now());
    }

    /// The entries of a user, if the user table has them; never inserts one.
    fn find_entries(&self, plan: &Plan, user: Option<UserKey>) -> UserEntries<'_> {
        UserEntries {
            enforced: self.users.find_entry(user.filter(|_| plan.needs_user_entry)),
            shadow: self.shadow_users.find_entry(user.filter(|_| plan.needs_shadow_user_entry)),
        }
    }

    /// Fills `entries` with the user's entries. An entry that does not exist gets room reserved and is inserted
    /// later.
    fn reserve_entries<'a>(
        &'a self,
        entries: &mut UserEntries<'a>,
        plan: &Plan,
        user: Option<UserKey>,
        now: Micros,
    ) {
        if plan.needs_user_entry {
            self.users.find_or_reserve(&mut entries.enforced, user, &self.planner, now);
        }
        if plan.needs_shadow_user_entry {
            self.shadow_users.find_or_reserve(&mut entries.shadow, user, &self.planner, now);
        }
    }
}

/// The level of each bucket of a plan, in units.
type BucketLevels = SmallVec<[i64; 8]>;

type SharedBucketGuards<'a> = SmallVec<[MutexGuard<'a, Option<BucketState>>; 4]>;

fn lock_shared(plan: &Plan) -> SharedBucketGuards<'_> {
    let shared = plan.buckets.iter().filter_map(|bucket| match &bucket.storage {
        LevelStorage::Shared(shared_bucket) => Some(shared_bucket.lock()),
        LevelStorage::User | LevelStorage::ShadowUser => None,
    });
    shared.collect()
}

/// A user without an entry has no buckets. Their levels become minus the capacity, so that the rules in
/// shadow mode count a refusal.
fn empty_buckets_without_user(plan: &Plan, entries: &UserEntries<'_>, levels: &mut [i64]) {
    for (bucket, level) in plan.buckets.iter().zip(levels) {
        let entry = match bucket.storage {
            LevelStorage::Shared(_) => continue,
            LevelStorage::User => &entries.enforced,
            LevelStorage::ShadowUser => &entries.shadow,
        };
        if entry.key.is_none() {
            *level = -bucket.rate.capacity();
        }
    }
}

/// Takes a slot under every slot limit that has a free one. Shared counters are raised at once, since no lock
/// protects them. Per-user counters are protected by the shard lock, which is already held, and are raised
/// when the call is admitted.
fn take_slots(plan: &Plan, entries: &UserEntries<'_>, holds: &mut SmallVec<[bool; 2]>) -> Result<(), usize> {
    for (index, slots) in plan.slot_limits.iter().enumerate() {
        let below = |count: u32| (count < slots.count_max.get()).then(|| count + 1);
        let room = match &slots.shared_count {
            Some(counter) => counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_ok(),
            None => {
                let entry = entries.entry(slots.mode == Mode::Shadow);
                let count = entry.record().map_or(0, |user| user.in_flight(slots.id));
                entry.key.is_some() && below(count).is_some()
            }
        };
        if !room && slots.mode == Mode::Enforce {
            release_shared_slots(plan, holds);
            return Err(index);
        }
        holds.push(room);
    }
    Ok(())
}

fn release_shared_slots(plan: &Plan, holds: &[bool]) {
    for (slots, _) in plan.slot_limits.iter().zip(holds).filter(|(_, holds)| **holds) {
        if let Some(counter) = &slots.shared_count {
            let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        }
    }
}

#[cfg(test)]
mod tests;
