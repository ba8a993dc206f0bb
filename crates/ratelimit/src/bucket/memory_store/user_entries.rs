//! The users of a store, spread over shards that are locked one by one.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::bucket::rate::BucketState;
use crate::bucket::user_table::{UserKey, UserRecord, UserTable};
use crate::clock::Micros;
use crate::plan::policy::Overflow;
use crate::plan::{BucketId, Plan, Planner};

/// How many shards the users are spread over: enough that threads rarely meet.
const SHARD_COUNT: usize = 64;
/// How many places are swept whenever a user is added; more than one, so that sweeping outpaces adding.
const SWEEP_STEP: usize = 4;
/// How many places are swept for a user who comes when the store is full.
const SWEEP_FULL: usize = 256;

/// Users who are told apart.
pub(super) struct ShardedUserTable {
    shards: Vec<Mutex<UserTable>>,
    count: AtomicUsize,
}

impl ShardedUserTable {
    pub(super) fn new() -> Self {
        let shards = (0..SHARD_COUNT).map(|_| Mutex::new(UserTable::default())).collect();
        Self { shards, count: AtomicUsize::new(0) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes()).sum()
    }

    /// Looks at every user. Each shard is locked for as long as its users are looked at.
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

    /// A user's place, if the user is known; never makes one.
    pub(super) fn find_entry(&self, user: Option<UserKey>) -> UserEntry<'_> {
        let mut seat = UserEntry::default();
        self.lock_entry(&mut seat, user);
        seat
    }

    /// Sets an empty seat to a user's place, or to leave to make one. Without room it is that of all users beyond the bound
    /// together, or stays empty where the policy is to refuse then.
    #[inline]
    pub(super) fn find_or_reserve<'a>(
        &'a self,
        seat: &mut UserEntry<'a>,
        user: Option<UserKey>,
        planner: &Planner,
        now: Micros,
    ) {
        self.lock_entry(seat, user);
        if seat.shard.is_none() || seat.index.is_some() {
            return;
        }
        if seat.shard.as_deref_mut().is_some_and(|table| self.make_room(table, planner, now)) {
            return;
        }
        // Unlocks the table, which may be the one of those beyond the bound, too.
        *seat = UserEntry::default();
        if planner.policy().memory.overflow == Overflow::Share {
            self.lock_entry(seat, Some(UserKey::OVERFLOW));
        }
    }

    /// Seats are set where they are: a decision takes nanoseconds, and moving them is a part of it.
    #[inline]
    fn lock_entry<'a>(&'a self, seat: &mut UserEntry<'a>, user: Option<UserKey>) {
        let Some(key) = user else { return };
        let table = self.shards[key.shard(SHARD_COUNT)].lock();
        seat.index = table.find(key);
        seat.shard = Some(table);
        seat.key = user;
        seat.sharded_table = Some(self);
    }

    /// Makes room for one more user, sweeping a little. False when every place is taken by somebody in debt.
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

/// A user's place in the locked table; nobody's for a caller who is not told apart.
#[derive(Default)]
pub(super) struct UserEntry<'a> {
    sharded_table: Option<&'a ShardedUserTable>,
    pub(super) key: Option<UserKey>,
    shard: Option<MutexGuard<'a, UserTable>>,
    index: Option<usize>,
}

impl UserEntry<'_> {
    /// What is known of the user.
    pub(super) fn record(&self) -> Option<&UserRecord> {
        self.shard.as_ref().zip(self.index).map(|(table, place)| table.at(place))
    }

    /// The same, to change it.
    pub(super) fn record_mut(&mut self) -> Option<&mut UserRecord> {
        self.shard.as_mut().zip(self.index).map(|(table, place)| table.at_mut(place))
    }

    /// Makes the place if there is none.
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

/// A caller's places: where limits in force are kept, and where those on trial are. A user who is only known to limits on
/// trial takes no place from others.
#[derive(Default)]
pub(super) struct UserEntries<'a> {
    pub(super) enforced: UserEntry<'a>,
    pub(super) shadow: UserEntry<'a>,
}

impl<'a> UserEntries<'a> {
    /// Whether the plan keeps something for each user, and the caller is not told apart.
    pub(super) fn is_missing_user(&self, plan: &Plan) -> bool {
        (plan.needs_user_entry && self.enforced.key.is_none())
            || (plan.needs_shadow_user_entry && self.shadow.key.is_none())
    }

    /// The seat for what is on trial for everybody, or for the rest.
    pub(super) fn entry(&self, on_trial: bool) -> &UserEntry<'a> {
        if on_trial { &self.shadow } else { &self.enforced }
    }

    /// The same, to change it.
    pub(super) fn entry_mut(&mut self, on_trial: bool) -> &mut UserEntry<'a> {
        if on_trial { &mut self.shadow } else { &mut self.enforced }
    }
}
