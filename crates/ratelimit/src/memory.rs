//! The in-memory store: decides and spends in one step, under locks held for nanoseconds.
//!
//! Lock order: the user's shard, then the shared buckets in the order of the plan. Nothing is spent before
//! everything is known to pay, so there is nothing to roll back.

mod receipt;
mod saved;
mod sizes;
mod users;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use crate::budget::Scarce;
use crate::clock::{Clock, Micros};
use crate::decide::{Bill, BucketReading, Refused, refusal};
use crate::plan::{BucketId, Holder, Plan, PlannedBucket, Planner};
use crate::policy::Mode;
use crate::rate::BucketState;
use crate::table::{User, UserKey};
pub(crate) use receipt::signed_units;
use users::{Seats, Users};

/// Levels of every bucket, in this process.
pub struct MemoryStore {
    planner: Arc<Planner>,
    clock: Arc<dyn Clock>,
    users: Users,
    /// Users as limits see them that are on trial for everybody.
    trials: Users,
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
    paid_at: Micros,
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
        Self { planner, clock, users: Users::new(), trials: Users::new() }
    }

    /// How many users are told apart now.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.users.count()
    }

    /// Bytes the users' tables take.
    #[must_use]
    pub fn user_bytes(&self) -> usize {
        self.users.bytes() + self.trials.bytes()
    }

    /// Asks for a call and pays for it. `user` must be there when the plan needs one.
    #[must_use]
    pub fn admit<'a>(&'a self, plan: &'a Plan, user: Option<UserKey>) -> Claim<'a> {
        self.admit_at(plan, user, self.clock.now())
    }

    /// The same at a moment that the caller has read from the clock, so that it knows when the decision was made.
    pub(crate) fn admit_at<'a>(&'a self, plan: &'a Plan, user: Option<UserKey>, now: Micros) -> Claim<'a> {
        // What follows is filled where it is: moving it would be a good part of a decision.
        let mut seats = Seats::default();
        self.seat(&mut seats, plan, user, now);
        // Rules on trial do not refuse for want of room.
        if seats.in_force.key.is_none() && plan.enforces_user() {
            return Claim::Full;
        }
        let mut cells = lock_shared(plan);
        let mut levels = Levels::new();
        self.read(&mut levels, (plan, &cells, &seats), now);
        if seats.lacks_user(plan) {
            empty_without_user(plan, &seats, &mut levels);
        }
        let asked = plan.buckets.iter().zip(&levels);
        let mut bill = Bill::default();
        if !bill.charge(asked.map(|(bucket, level)| (*level, bucket.cost_units, bucket.mode))) {
            return Claim::Refused(refusal(self.readings(plan, &levels)));
        }
        // After the buckets: a call that cannot pay takes no slot from others, not even for a moment.
        let mut holds = SmallVec::new();
        if let Err(place) = take_slots(plan, &seats, &mut holds) {
            return Claim::Busy(place);
        }
        seats.in_force.settle();
        seats.on_trial.settle();
        self.spend(plan, (&mut cells, &mut seats), (&levels, &bill), now);
        for (slots, _) in
            plan.slots.iter().zip(&holds).filter(|(slots, holds)| slots.shared.is_none() && **holds)
        {
            if let Some(user) = seats.of_mut(slots.mode == Mode::Shadow).user_mut() {
                user.set_in_flight(slots.id, user.in_flight(slots.id) + 1);
            }
        }
        let after = plan.buckets.iter().zip(&levels);
        let after = after.map(|(bucket, level)| level.saturating_sub(bucket.cost_units));
        let scarce = Scarce::find(plan, after, self.planner.policy().hints.below_percent);
        let user = seats.in_force.key.or(seats.on_trial.key);
        Claim::Admitted(Receipt { store: self, plan, user, bill, paid_at: now, holds, scarce })
    }

    /// What every bucket of a plan holds for a user, in the order of the plan. Spends nothing.
    #[must_use]
    pub fn peek(&self, plan: &Plan, user: Option<UserKey>) -> Vec<BucketReading> {
        let now = self.clock.now();
        let seats = self.known(plan, user);
        let cells = lock_shared(plan);
        let mut levels = Levels::new();
        self.read(&mut levels, (plan, &cells, &seats), now);
        self.readings(plan, &levels).collect()
    }

    /// The place of an enforced bound that has no room for one more call of a user; takes nothing.
    pub(crate) fn full_slots(&self, plan: &Plan, user: Option<UserKey>) -> Option<usize> {
        plan.slots.iter().position(|slots| {
            let in_flight = match (&slots.shared, user) {
                (Some(counter), _) => counter.load(Ordering::Acquire),
                (None, Some(user)) => self.in_flight(user, slots.id),
                (None, None) => 0,
            };
            slots.mode == Mode::Enforce && in_flight >= slots.count_max.get()
        })
    }

    /// How many calls of a user are in flight under a bound that is kept for each.
    pub(crate) fn in_flight(&self, user: UserKey, id: BucketId) -> u32 {
        let in_force = self.users.known(Some(user)).user().map_or(0, |user| user.in_flight(id));
        in_force.max(self.trials.known(Some(user)).user().map_or(0, |user| user.in_flight(id)))
    }

    /// Lowers what every bucket of a plan holds for a user to `levels`, in units and in the order of the plan; what
    /// holds less already stays. A user for whom there is no room is left out.
    pub(crate) fn lower_levels(&self, plan: &Plan, user: Option<UserKey>, levels: &[i64]) {
        let now = self.clock.now();
        let mut seats = Seats::default();
        self.seat(&mut seats, plan, user, now);
        seats.in_force.settle();
        seats.on_trial.settle();
        sizes::adopt(plan, &mut seats, &self.planner, now);
        let mut cells = lock_shared(plan);
        let mut next = cells.iter_mut();
        for (bucket, units) in plan.buckets.iter().zip(levels) {
            let now = bucket.time(now);
            let lower = |held: Option<BucketState>| {
                let held = held
                    .map_or_else(|| BucketState::full(&bucket.rate, now), |held| held.at(&bucket.rate, now));
                held.with_units(held.level.units.min(*units))
            };
            let user = match &bucket.holder {
                Holder::Shared(_) => {
                    if let Some(cell) = next.next() {
                        **cell = Some(lower(**cell));
                    }
                    continue;
                }
                Holder::User => seats.in_force.user_mut(),
                Holder::UserOnTrial => seats.on_trial.user_mut(),
            };
            if let Some(user) = user {
                user.set_state(bucket.id, lower(user.state(bucket.id)));
            }
        }
    }

    fn readings<'a>(&'a self, plan: &'a Plan, levels: &'a [i64]) -> impl Iterator<Item = BucketReading> + 'a {
        let buckets = plan.buckets.iter().zip(levels);
        buckets.map(|(bucket, level)| bucket.reading(*level, &*self.clock))
    }

    /// What every bucket holds now, in units. One that no caller has spent from is full.
    fn read(&self, levels: &mut Levels, (plan, cells, seats): (&Plan, &Cells<'_>, &Seats<'_>), now: Micros) {
        let (in_force, on_trial) = (seats.in_force.user(), seats.on_trial.user());
        let of_user = |user: Option<&User>, bucket: &PlannedBucket| {
            if bucket.other_sizes.is_empty() {
                return user?.level(bucket.id);
            }
            sizes::state(user?, bucket, &self.planner, bucket.time(now)).map(|state| state.level)
        };
        let mut cells = cells.iter();
        for bucket in &plan.buckets {
            let level = match &bucket.holder {
                Holder::Shared(_) => cells.next().and_then(|cell| **cell).map(|state| state.level),
                Holder::User => of_user(in_force, bucket),
                Holder::UserOnTrial => of_user(on_trial, bucket),
            };
            let present = |level| bucket.rate.level_at(level, bucket.time(now));
            levels.push(level.map_or_else(|| bucket.rate.capacity(), present));
        }
    }

    /// Every bucket that the bill says pays.
    fn spend(
        &self,
        plan: &Plan,
        (cells, seats): (&mut Cells<'_>, &mut Seats<'_>),
        (levels, bill): (&[i64], &Bill),
        now: Micros,
    ) {
        let mut cells = cells.iter_mut();
        let Seats { in_force, on_trial } = seats;
        let (mut in_force, mut on_trial) = (in_force.user_mut(), on_trial.user_mut());
        for ((bucket, level), pays) in plan.buckets.iter().zip(levels).zip(&bill.pays) {
            let units = (*level, level - bucket.cost_units);
            let user = match &bucket.holder {
                Holder::Shared(_) => {
                    if let Some(cell) = cells.next().filter(|_| *pays) {
                        let now = bucket.time(now);
                        let held = cell.get_or_insert_with(|| BucketState::full(&bucket.rate, now));
                        held.spend(&bucket.rate, units, now);
                    }
                    continue;
                }
                Holder::User => &mut in_force,
                Holder::UserOnTrial => &mut on_trial,
            };
            if let Some(user) = user.as_deref_mut().filter(|_| *pays) {
                sizes::adopt_one(user, bucket, &self.planner, now);
                user.spend(bucket.id, &bucket.rate, units, bucket.time(now));
            }
        }
    }

    /// Brings what a user has spent in other sizes of buckets into those of a plan.
    pub(crate) fn adopt_sizes(&self, plan: &Plan, user: Option<UserKey>) {
        sizes::adopt(plan, &mut self.known(plan, user), &self.planner, self.clock.now());
    }

    /// The caller's places, if the caller is known; never makes one.
    fn known(&self, plan: &Plan, user: Option<UserKey>) -> Seats<'_> {
        Seats {
            in_force: self.users.known(user.filter(|_| plan.keeps_user)),
            on_trial: self.trials.known(user.filter(|_| plan.tries_user)),
        }
    }

    /// Sets empty seats to the caller's places, or to leave to make them.
    fn seat<'a>(&'a self, seats: &mut Seats<'a>, plan: &Plan, user: Option<UserKey>, now: Micros) {
        if plan.keeps_user {
            self.users.seat(&mut seats.in_force, user, &self.planner, now);
        }
        if plan.tries_user {
            self.trials.seat(&mut seats.on_trial, user, &self.planner, now);
        }
    }
}

/// What each bucket of a plan holds, in units.
type Levels = SmallVec<[i64; 8]>;

type Cells<'a> = SmallVec<[MutexGuard<'a, Option<BucketState>>; 4]>;

fn lock_shared(plan: &Plan) -> Cells<'_> {
    let shared = plan.buckets.iter().filter_map(|bucket| match &bucket.holder {
        Holder::Shared(cell) => Some(cell.lock()),
        Holder::User | Holder::UserOnTrial => None,
    });
    shared.collect()
}

/// A user who is not told apart has no buckets: those of rules on trial would refuse.
fn empty_without_user(plan: &Plan, seats: &Seats<'_>, levels: &mut [i64]) {
    for (bucket, level) in plan.buckets.iter().zip(levels) {
        let seat = match bucket.holder {
            Holder::Shared(_) => continue,
            Holder::User => &seats.in_force,
            Holder::UserOnTrial => &seats.on_trial,
        };
        if seat.key.is_none() {
            *level = -bucket.rate.capacity();
        }
    }
}

/// Takes a place under every bound that has room. Shared counters are raised at once, since no lock protects them;
/// a user's own stand behind the lock that is already held, and are raised when the call is admitted.
fn take_slots(plan: &Plan, seats: &Seats<'_>, holds: &mut SmallVec<[bool; 2]>) -> Result<(), usize> {
    for (place, slots) in plan.slots.iter().enumerate() {
        let below = |count: u32| (count < slots.count_max.get()).then(|| count + 1);
        let room = match &slots.shared {
            Some(counter) => counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_ok(),
            None => {
                let seat = seats.of(slots.mode == Mode::Shadow);
                let count = seat.user().map_or(0, |user| user.in_flight(slots.id));
                seat.key.is_some() && below(count).is_some()
            }
        };
        if !room && slots.mode == Mode::Enforce {
            give_back_shared(plan, holds);
            return Err(place);
        }
        holds.push(room);
    }
    Ok(())
}

fn give_back_shared(plan: &Plan, holds: &[bool]) {
    for (slots, _) in plan.slots.iter().zip(holds).filter(|(_, holds)| **holds) {
        if let Some(counter) = &slots.shared {
            let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        }
    }
}

#[cfg(test)]
mod tests;
