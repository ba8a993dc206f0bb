//! The users of a memory store, spread over shards with a lock each.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use vmcp_timing::Micros;

use crate::bucket::rate::BucketState;
use crate::bucket::user_key::UserKey;
use crate::bucket::user_table::{UserRecord, UserTable};
use crate::plan::policy::Overflow;
use crate::plan::{BucketId, Plan, Planner};

/// The number of shards over which users are spread: enough that threads rarely contend for a lock.
const SHARD_COUNT: usize = 64;
/// How many slots of a shard are swept when a user is added; more than one, so that sweeping outpaces adding.
const SWEEP_STEP: usize = 4;
/// How many slots of a shard are swept for a new user when the store is full.
const SWEEP_FULL: usize = 256;

/// The user tables of all shards, and the number of users in them.
pub(super) struct ShardedUserTable {
    shards: Vec<Mutex<UserTable>>,
    count: AtomicUsize,
}

impl ShardedUserTable {
    pub(super) fn new() -> Self {
        let shards = (0..SHARD_COUNT).map(|_| Mutex::new(UserTable::default())).collect();
        Self { shards, count: AtomicUsize::new(0) }
    }

    /// The number of users.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Memory of the tables, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes()).sum()
    }

    /// Visits every user. Each shard stays locked while its users are visited.
    pub(super) fn for_each_user(
        &self,
        mut look: impl FnMut(UserKey, &mut dyn Iterator<Item = (BucketId, BucketState)>),
    ) {
        for shard in &self.shards {
            for (key, user) in shard.lock().users() {
                look(key, &mut user.states());
            }
        }
    }

    /// The entry of a user, if the table has one; never inserts one.
    pub(super) fn find_entry(&self, user: Option<UserKey>) -> UserEntry<'_> {
        let mut entry = UserEntry::default();
        self.lock_entry(&mut entry, user);
        entry
    }

    /// Sets an empty entry to the user's entry, or reserves room to insert it. Without room the entry is that
    /// of the shared overflow user, or stays empty if the policy refuses further users.
    #[inline]
    pub(super) fn find_or_reserve<'a>(
        &'a self,
        entry: &mut UserEntry<'a>,
        user: Option<UserKey>,
        planner: &Planner,
        now: Micros,
    ) {
        self.lock_entry(entry, user);
        if entry.shard.is_none() || entry.index.is_some() {
            return;
        }
        if entry.shard.as_deref_mut().is_some_and(|table| self.make_room(table, planner, now)) {
            return;
        }
        // Unlocks the shard first: the overflow user may be in the same one.
        *entry = UserEntry::default();
        if planner.policy().memory.overflow == Overflow::Share {
            self.lock_entry(entry, Some(UserKey::OVERFLOW));
        }
    }

    /// Fills the entry in place: a decision takes nanoseconds, and moving the entry would take a good part of
    /// that time.
    #[inline]
    fn lock_entry<'a>(&'a self, entry: &mut UserEntry<'a>, user: Option<UserKey>) {
        let Some(key) = user else { return };
        let table = self.shards[key.shard(SHARD_COUNT)].lock();
        entry.index = table.find(key);
        entry.shard = Some(table);
        entry.key = user;
        entry.sharded_table = Some(self);
    }

    /// Makes room for one more user and sweeps a few slots. Returns false if the store is still full after
    /// the sweep. A user with a bucket that is not full, or with a call in flight, is never swept.
    fn make_room(&self, table: &mut UserTable, planner: &Planner, now: Micros) -> bool {
        let bound = planner.policy().memory.user_count_max;
        let sweep = |table: &mut UserTable, step| {
            let forgotten =
                table.sweep(step, &|id| planner.rate(id).map(|rate| (rate, planner.bucket_time(id, now))));
            self.count.fetch_sub(forgotten, Ordering::Relaxed);
        };
        if table.len() > 16 {
            sweep(table, SWEEP_STEP);
        }
        if self.count() >= bound {
            sweep(table, SWEEP_FULL);
        }
        self.count() < bound
    }
}

/// The entry of a user in the locked shard; empty for a caller that has none.
#[derive(Default)]
pub(super) struct UserEntry<'a> {
    sharded_table: Option<&'a ShardedUserTable>,
    pub(super) key: Option<UserKey>,
    shard: Option<MutexGuard<'a, UserTable>>,
    index: Option<usize>,
}

impl UserEntry<'_> {
    /// The record of the user.
    pub(super) fn record(&self) -> Option<&UserRecord> {
        self.shard.as_ref().zip(self.index).map(|(table, index)| table.at(index))
    }

    /// The record of the user, mutable.
    pub(super) fn record_mut(&mut self) -> Option<&mut UserRecord> {
        self.shard.as_mut().zip(self.index).map(|(table, index)| table.at_mut(index))
    }

    /// Inserts the user if the table does not have it yet.
    #[inline]
    pub(super) fn ensure_inserted(&mut self) {
        if let (Some(users), Some(key), Some(table), None) =
            (self.sharded_table, self.key, self.shard.as_mut(), self.index)
        {
            self.index = Some(table.insert(key));
            users.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The entries of a caller: one for enforced limits and one for limits in shadow mode. A user known only to
/// limits in shadow mode takes no slot from users of enforced limits.
#[derive(Default)]
pub(super) struct UserEntries<'a> {
    pub(super) enforced: UserEntry<'a>,
    pub(super) shadow: UserEntry<'a>,
}

impl<'a> UserEntries<'a> {
    /// Whether the plan has per-user state and the caller has no entry for it.
    pub(super) fn is_missing_user(&self, plan: &Plan) -> bool {
        (plan.needs_user_entry && self.enforced.key.is_none())
            || (plan.needs_shadow_user_entry && self.shadow.key.is_none())
    }

    /// The entry for limits in shadow mode for all callers, or that for all other limits.
    pub(super) fn entry(&self, is_shadow: bool) -> &UserEntry<'a> {
        if is_shadow { &self.shadow } else { &self.enforced }
    }

    /// Mutable form of `entry`.
    pub(super) fn entry_mut(&mut self, is_shadow: bool) -> &mut UserEntry<'a> {
        if is_shadow { &mut self.shadow } else { &mut self.enforced }
    }
}
