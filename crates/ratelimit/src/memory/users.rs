//! The users of a store, spread over shards that are locked one by one.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::clock::Micros;
use crate::plan::{BucketId, Plan, Planner};
use crate::policy::Overflow;
use crate::rate::BucketState;
use crate::table::{Table, User, UserKey};

/// How many shards the users are spread over: enough that threads rarely meet.
const SHARD_COUNT: usize = 64;
/// How many places are swept whenever a user is added; more than one, so that sweeping outpaces adding.
const SWEEP_STEP: usize = 4;
/// How many places are swept for a user who comes when the store is full.
const SWEEP_FULL: usize = 256;

/// Users who are told apart.
pub(super) struct Users {
    shards: Vec<Mutex<Table>>,
    count: AtomicUsize,
}

impl Users {
    pub(super) fn new() -> Self {
        let shards = (0..SHARD_COUNT).map(|_| Mutex::new(Table::default())).collect();
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
    pub(super) fn each(
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
    pub(super) fn known(&self, user: Option<UserKey>) -> Seat<'_> {
        let mut seat = Seat::default();
        self.find(&mut seat, user);
        seat
    }

    /// Sets an empty seat to a user's place, or to leave to make one. Without room it is that of all users beyond the bound
    /// together, or stays empty where the policy is to refuse then.
    #[inline]
    pub(super) fn seat<'a>(
        &'a self,
        seat: &mut Seat<'a>,
        user: Option<UserKey>,
        planner: &Planner,
        now: Micros,
    ) {
        self.find(seat, user);
        if seat.table.is_none() || seat.place.is_some() {
            return;
        }
        if seat.table.as_deref_mut().is_some_and(|table| self.has_room(table, planner, now)) {
            return;
        }
        // Unlocks the table, which may be the one of those beyond the bound, too.
        *seat = Seat::default();
        if planner.policy().memory.overflow == Overflow::Share {
            self.find(seat, Some(UserKey::OVERFLOW));
        }
    }

    /// Seats are set where they are: a decision takes nanoseconds, and moving them is a part of it.
    #[inline]
    fn find<'a>(&'a self, seat: &mut Seat<'a>, user: Option<UserKey>) {
        let Some(key) = user else { return };
        let table = self.shards[key.shard(SHARD_COUNT)].lock();
        seat.place = table.find(key);
        seat.table = Some(table);
        seat.key = user;
        seat.users = Some(self);
    }

    /// Makes room for one more user, sweeping a little. False when every place is taken by somebody in debt.
    fn has_room(&self, table: &mut Table, planner: &Planner, now: Micros) -> bool {
        let bound = planner.policy().memory.user_count_max;
        let sweep = |table: &mut Table, step| {
            let forgotten =
                table.sweep(step, &|id| planner.rate(id).map(|rate| (rate, planner.time(id, now))));
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
pub(super) struct Seat<'a> {
    users: Option<&'a Users>,
    pub(super) key: Option<UserKey>,
    table: Option<MutexGuard<'a, Table>>,
    place: Option<usize>,
}

impl Seat<'_> {
    /// What is known of the user.
    pub(super) fn user(&self) -> Option<&User> {
        self.table.as_ref().zip(self.place).map(|(table, place)| table.at(place))
    }

    /// The same, to change it.
    pub(super) fn user_mut(&mut self) -> Option<&mut User> {
        self.table.as_mut().zip(self.place).map(|(table, place)| table.at_mut(place))
    }

    /// Makes the place if there is none.
    #[inline]
    pub(super) fn settle(&mut self) {
        if let (Some(users), Some(key), Some(table), None) =
            (self.users, self.key, self.table.as_mut(), self.place)
        {
            self.place = Some(table.insert(key));
            users.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A caller's places: where limits in force are kept, and where those on trial are. A user who is only known to limits on
/// trial takes no place from others.
#[derive(Default)]
pub(super) struct Seats<'a> {
    pub(super) in_force: Seat<'a>,
    pub(super) on_trial: Seat<'a>,
}

impl<'a> Seats<'a> {
    /// Whether the plan keeps something for each user, and the caller is not told apart.
    pub(super) fn lacks_user(&self, plan: &Plan) -> bool {
        (plan.keeps_user && self.in_force.key.is_none()) || (plan.tries_user && self.on_trial.key.is_none())
    }

    /// The seat for what is on trial for everybody, or for the rest.
    pub(super) fn of(&self, on_trial: bool) -> &Seat<'a> {
        if on_trial { &self.on_trial } else { &self.in_force }
    }

    /// The same, to change it.
    pub(super) fn of_mut(&mut self, on_trial: bool) -> &mut Seat<'a> {
        if on_trial { &mut self.on_trial } else { &mut self.in_force }
    }
}
