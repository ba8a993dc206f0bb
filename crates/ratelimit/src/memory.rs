//! The in-memory store: decides and spends in one step, under locks held for nanoseconds.
//!
//! Lock order: the user's shard, then the shared buckets in the order of the plan. Nothing is spent before
//! everything is known to pay, so there is nothing to roll back.

mod receipt;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use crate::budget::Scarce;
use crate::clock::{Clock, Micros};
use crate::decide::{Bill, BucketReading, Refused, decide};
use crate::plan::{BucketId, Holder, Plan, PlannedBucket, Planner};
use crate::policy::{Mode, Overflow};
use crate::rate::Level;
use crate::table::{Table, User, UserKey};
pub(crate) use receipt::signed_units;

/// How many shards the users are spread over: enough that threads rarely meet.
const SHARD_COUNT: usize = 64;
/// How many places are swept whenever a user is added; more than one, so that sweeping outpaces adding.
const SWEEP_STEP: usize = 4;
/// How many places are swept for a user who comes when the store is full.
const SWEEP_FULL: usize = 256;

/// Levels of every bucket, in this process.
pub struct MemoryStore {
    planner: Arc<Planner>,
    clock: Arc<dyn Clock>,
    shards: Vec<Mutex<Table>>,
    user_count: AtomicUsize,
}

/// What a decision found, besides yes or no.
#[derive(Debug)]
pub enum Claim<'a> {
    /// The call may go on; it has paid.
    Admitted(Receipt<'a>),
    /// A bucket cannot pay.
    Refused(Box<Refused>),
    /// Too many calls are in flight; the place is that of the bound in the plan.
    Busy(usize),
    /// The store cannot tell more users apart, and is set to refuse then.
    Full,
}

/// What an admitted call has paid and holds. Dropping it gives back its place among the calls in flight; the tokens
/// stay spent unless [`Receipt::refund`] is called.
#[derive(Debug)]
pub struct Receipt<'a> {
    store: &'a MemoryStore,
    plan: &'a Plan,
    user: Option<UserKey>,
    bill: Bill,
    holds: SmallVec<[bool; 2]>,
    scarce: Option<Scarce>,
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
        let shards = (0..SHARD_COUNT).map(|_| Mutex::new(Table::default())).collect();
        Self { planner, clock, shards, user_count: AtomicUsize::new(0) }
    }

    /// How many users are told apart now.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.user_count.load(Ordering::Relaxed)
    }

    /// Bytes the users' tables take.
    #[must_use]
    pub fn user_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes()).sum()
    }

    /// Asks for a call and pays for it. `user` must be there when the plan needs one.
    #[must_use]
    pub fn admit<'a>(&'a self, plan: &'a Plan, user: Option<UserKey>) -> Claim<'a> {
        self.admit_at(plan, user, self.clock.now())
    }

    /// The same at a moment that the caller has read from the clock, so that it knows when the decision was made.
    pub(crate) fn admit_at<'a>(&'a self, plan: &'a Plan, user: Option<UserKey>, now: Micros) -> Claim<'a> {
        let mut seat = match user.filter(|_| plan.needs_user) {
            None => Seat::default(),
            Some(user) => match self.seat(user, now) {
                Some(seat) => seat,
                None => return Claim::Full,
            },
        };
        let holds = match take_slots(plan, seat.user()) {
            Ok(holds) => holds,
            Err(place) => return Claim::Busy(place),
        };
        let mut cells = lock_shared(plan);
        let readings = read(plan, &cells, seat.user(), now);
        let bill = match decide(&readings) {
            Ok(bill) => bill,
            Err(refused) => {
                give_back_shared(plan, &holds);
                return Claim::Refused(refused);
            }
        };
        if seat.settle() {
            self.user_count.fetch_add(1, Ordering::Relaxed);
        }
        spend(plan, &mut cells, seat.user_mut(), &readings, &bill, now);
        if let Some(user) = seat.user_mut() {
            for (slots, _) in
                plan.slots.iter().zip(&holds).filter(|(slots, holds)| slots.shared.is_none() && **holds)
            {
                user.set_in_flight(slots.id, user.in_flight(slots.id) + 1);
            }
        }
        let after = readings.iter().map(|reading| reading.level.saturating_sub(reading.cost));
        let scarce = Scarce::find(plan, after, self.planner.policy().hints.below_percent);
        Claim::Admitted(Receipt { store: self, plan, user: seat.key, bill, holds, scarce })
    }

    /// What every bucket of a plan holds for a user, in the order of the plan. Spends nothing.
    #[must_use]
    pub fn peek(&self, plan: &Plan, user: Option<UserKey>) -> Vec<BucketReading> {
        let now = self.clock.now();
        let seat = self.known(user.filter(|_| plan.needs_user));
        let cells = lock_shared(plan);
        read(plan, &cells, seat.user(), now).into_vec()
    }

    /// How many calls of a user are in flight under a bound that is kept for each.
    pub(crate) fn in_flight(&self, user: UserKey, id: BucketId) -> u32 {
        self.known(Some(user)).user().map_or(0, |user| user.in_flight(id))
    }

    /// Lowers what every bucket of a plan holds for a user to `levels`, in units and in the order of the plan; what
    /// holds less already stays. A user for whom there is no room is left out.
    pub(crate) fn lower_levels(&self, plan: &Plan, user: Option<UserKey>, levels: &[i64]) {
        let now = self.clock.now();
        let mut seat = match user.filter(|_| plan.needs_user) {
            None => Seat::default(),
            Some(user) => match self.seat(user, now) {
                Some(seat) => seat,
                None => return,
            },
        };
        if seat.settle() {
            self.user_count.fetch_add(1, Ordering::Relaxed);
        }
        let mut cells = lock_shared(plan);
        let mut next = cells.iter_mut();
        for (bucket, units) in plan.buckets.iter().zip(levels) {
            let lower = |held: Option<Level>| {
                let held =
                    held.map_or_else(|| bucket.rate.capacity(), |held| bucket.rate.level_at(held, now));
                Level { units: held.min(*units), at: now }
            };
            match (&bucket.holder, seat.user_mut()) {
                (Holder::Shared(_), _) => {
                    if let Some(cell) = next.next() {
                        **cell = Some(lower(**cell));
                    }
                }
                (Holder::User, Some(user)) => user.set_level(bucket.id, lower(user.level(bucket.id))),
                (Holder::User, None) => {}
            }
        }
    }

    /// The user's place, if the user is known; never makes one.
    fn known(&self, user: Option<UserKey>) -> Seat<'_> {
        let Some(key) = user else { return Seat::default() };
        let table = self.shard(key).lock();
        let place = table.find(key);
        Seat { key: Some(key), table: Some(table), place }
    }

    /// The user's place, or leave to make one. `None` when there is no room and the policy is to refuse then.
    fn seat(&self, user: UserKey, now: Micros) -> Option<Seat<'_>> {
        let mut seat = self.known(Some(user));
        if seat.place.is_some() || seat.table.as_deref_mut().is_some_and(|table| self.has_room(table, now)) {
            return Some(seat);
        }
        drop(seat);
        match self.planner.policy().memory.overflow {
            Overflow::Refuse => None,
            Overflow::Share => Some(self.known(Some(UserKey::OVERFLOW))),
        }
    }

    fn shard(&self, user: UserKey) -> &Mutex<Table> {
        &self.shards[user.shard(SHARD_COUNT)]
    }

    /// Makes room for one more user, sweeping a little. False when every place is taken by somebody in debt.
    fn has_room(&self, table: &mut Table, now: Micros) -> bool {
        let bound = self.planner.policy().memory.user_count_max;
        let rate = |id| self.planner.rate(id);
        let sweep = |table: &mut Table, step| {
            let forgotten = table.sweep(now, step, &rate);
            self.user_count.fetch_sub(forgotten, Ordering::Relaxed);
        };
        if table.len() > 16 {
            sweep(table, SWEEP_STEP);
        }
        if self.user_count() >= bound {
            sweep(table, SWEEP_FULL);
        }
        self.user_count() < bound
    }
}

type Cells<'a> = SmallVec<[MutexGuard<'a, Option<Level>>; 4]>;

fn lock_shared(plan: &Plan) -> Cells<'_> {
    let shared = plan.buckets.iter().filter_map(|bucket| match &bucket.holder {
        Holder::Shared(cell) => Some(cell.lock()),
        Holder::User => None,
    });
    shared.collect()
}

/// What every bucket holds now. A bucket nobody has spent from is full.
fn read(plan: &Plan, cells: &Cells<'_>, user: Option<&User>, now: Micros) -> SmallVec<[BucketReading; 4]> {
    let mut cells = cells.iter();
    let reading = |bucket: &PlannedBucket| {
        let level = match &bucket.holder {
            Holder::Shared(_) => cells.next().and_then(|cell| **cell),
            Holder::User => user.and_then(|user| user.level(bucket.id)),
        };
        BucketReading {
            rate: bucket.rate,
            level: level.map_or_else(|| bucket.rate.capacity(), |level| bucket.rate.level_at(level, now)),
            cost: bucket.cost_units,
            mode: bucket.mode,
        }
    };
    plan.buckets.iter().map(reading).collect()
}

fn spend(
    plan: &Plan,
    cells: &mut Cells<'_>,
    mut user: Option<&mut User>,
    readings: &[BucketReading],
    bill: &Bill,
    now: Micros,
) {
    let mut cells = cells.iter_mut();
    for ((bucket, reading), pays) in plan.buckets.iter().zip(readings).zip(&bill.pays) {
        let cell = match &bucket.holder {
            Holder::Shared(_) => cells.next(),
            Holder::User => None,
        };
        if !pays {
            continue;
        }
        let left = reading.level - reading.cost;
        let moved = |level: Option<Level>| level.unwrap_or(Level { units: 0, at: now }).moved(left, now);
        match (cell, &mut user) {
            (Some(cell), _) => **cell = Some(moved(**cell)),
            (None, Some(user)) => {
                let level = moved(user.level(bucket.id));
                user.set_level(bucket.id, level);
            }
            (None, None) => {}
        }
    }
}

/// Takes a place under every bound that has room. Shared counters are raised at once, since no lock protects them;
/// a user's own stand behind the lock that is already held, and are raised when the call is admitted.
fn take_slots(plan: &Plan, user: Option<&User>) -> Result<SmallVec<[bool; 2]>, usize> {
    let mut holds = SmallVec::new();
    for (place, slots) in plan.slots.iter().enumerate() {
        let below = |count: u32| (count < slots.count_max.get()).then(|| count + 1);
        let room = match &slots.shared {
            Some(counter) => counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_ok(),
            None => below(user.map_or(0, |user| user.in_flight(slots.id))).is_some(),
        };
        if !room && slots.mode == Mode::Enforce {
            give_back_shared(plan, &holds);
            return Err(place);
        }
        holds.push(room);
    }
    Ok(holds)
}

fn give_back_shared(plan: &Plan, holds: &[bool]) {
    for (slots, _) in plan.slots.iter().zip(holds).filter(|(_, holds)| **holds) {
        if let Some(counter) = &slots.shared {
            let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        }
    }
}

/// A user's place in the locked table; nothing at all for a plan that needs no user.
#[derive(Default)]
struct Seat<'a> {
    key: Option<UserKey>,
    table: Option<MutexGuard<'a, Table>>,
    place: Option<usize>,
}

impl Seat<'_> {
    fn user(&self) -> Option<&User> {
        self.table.as_ref().zip(self.place).map(|(table, place)| table.at(place))
    }

    fn user_mut(&mut self) -> Option<&mut User> {
        self.table.as_mut().zip(self.place).map(|(table, place)| table.at_mut(place))
    }

    /// Makes the place if there is none. Returns whether it did.
    fn settle(&mut self) -> bool {
        let (Some(key), Some(table), None) = (self.key, self.table.as_mut(), self.place) else {
            return false;
        };
        self.place = Some(table.insert(key));
        true
    }
}

#[cfg(test)]
mod tests;
