//! Budget for several calls at once: one decision over all their buckets, which pay for all of them or for none.

use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;
use vmcp_domain::{Answer, CallContext, CallTool, Error, Reservation, Reserving, SharedGateway};

use super::binding::is_one;
use super::{Arguments, Bound, Limiter, Permit, User};
use crate::clock::Micros;
use crate::memory::{Receipt, signed_units};
use crate::plan::{Owed, PlannedBucket};
use crate::remote::{Change, OnStoreFailure, Part, RemoteBucket, parts};
use crate::table::UserKey;
use crate::waiting::needs;

/// The most calls of one reservation.
const CALLS_MAX: usize = 1000;
/// The most buckets that these may fall under: what one decision of the shared store takes without holding others up.
const BUCKETS_MAX: usize = 256;

/// Grants budget for calls of the tools that a gateway lists.
pub struct Reserver {
    inner: SharedGateway,
    limiter: Arc<Limiter>,
}

/// Calls that are paid for and not made yet.
pub(crate) struct Reserved {
    pub(super) limiter: Arc<Limiter>,
    /// Who may spend it.
    caller: UserKey,
    user: User,
    /// When it was paid for: by the clock of the shared store, or of this process where there is none.
    paid_at: Option<Micros>,
    /// Whether what is left over is given back; not what a backend has already read.
    gives_back: bool,
    entries: Mutex<Vec<Entry>>,
}

/// What a call has paid that waits for its next round.
#[derive(Clone)]
pub(crate) struct PaidRound {
    caller: UserKey,
    user: User,
    paid_at: Option<Micros>,
    bound: Arc<Bound>,
    pays: SmallVec<[bool; 4]>,
}

impl PaidRound {
    /// Whether it was paid by this caller for a call like this.
    pub(super) fn is_for(&self, caller: UserKey, bound: &Bound) -> bool {
        self.caller == caller && self.bound.is_like(bound)
    }
}

/// Calls that are alike.
struct Entry {
    bound: Arc<Bound>,
    /// For each bucket of the plan: whether it has paid.
    pays: SmallVec<[bool; 4]>,
    left: u32,
}

/// What is charged to calls that are paid for.
enum Charge {
    /// They turned out to cost something else.
    Settled(Owed),
    /// So many were not made.
    Unused(u32),
}

impl Charge {
    /// In tokens, for a bucket at which one call costs `cost`.
    fn of(&self, trial: Option<u32>, cost: u32) -> i64 {
        match self {
            Self::Settled(owed) => owed.of(trial),
            Self::Unused(count) => -i64::from(cost).saturating_mul(i64::from(*count)),
        }
    }

    /// What was paid for them together at a bucket at which one costs `cost`.
    fn paid(&self, cost: u32) -> u32 {
        match self {
            Self::Settled(_) => cost,
            Self::Unused(count) => cost.saturating_mul(*count),
        }
    }

    fn gives_back(&self) -> bool {
        match self {
            Self::Settled(owed) => owed.gives_back(),
            Self::Unused(_) => true,
        }
    }
}

/// One call that is paid for. Unless it is spent, it goes back where it came from.
pub(crate) struct Prepaid<'a> {
    reserved: &'a Reserved,
    place: usize,
    spent: bool,
}

/// One call that was made.
pub(crate) struct Spent<'a> {
    reserved: &'a Reserved,
    place: usize,
}

impl Reserver {
    /// Grants budget out of `limiter` for the tools that `inner` lists: the gateway that the limiter stands around.
    #[must_use]
    pub fn new(inner: SharedGateway, limiter: Arc<Limiter>) -> Self {
        Self { inner, limiter }
    }
}

impl Reserving for Reserver {
    fn reserve<'a>(&'a self, ctx: &'a CallContext, calls: &'a [CallTool]) -> Answer<'a, Reservation> {
        Box::pin(async move {
            if calls.len() > CALLS_MAX {
                let text = format!("at most {CALLS_MAX} calls can be reserved at once, not {}", calls.len());
                return Err(Error::InvalidRequest(text));
            }
            let tools = self.inner.list_tools(ctx).await?;
            let mut wanted: Vec<(Arc<Bound>, u32)> = Vec::new();
            for call in calls {
                let bound = self.limiter.bound(&tools, &call.name);
                let bound = bound.ok_or_else(|| Error::UnknownTool(call.name.clone()))?;
                let bound = self.limiter.vary(&bound, ctx, Arguments::Sent(call.arguments.as_ref()))?;
                if bound.plan.buckets.is_empty() {
                    continue;
                }
                match wanted.iter_mut().find(|(known, _)| known.is_like(&bound)) {
                    Some((_, count)) => *count += 1,
                    None => wanted.push((bound, 1)),
                }
            }
            self.limiter.reserve(wanted, ctx).await.map(Reservation::new)
        })
    }
}

impl Limiter {
    async fn reserve(
        self: &Arc<Self>,
        wanted: Vec<(Arc<Bound>, u32)>,
        ctx: &CallContext,
    ) -> Result<Reserved, Error> {
        let (limiter, caller) = (self.clone(), self.fair_key(ctx));
        let Some(all) = Bound::together(&wanted) else {
            let (user, entries) = (User::default(), Mutex::default());
            return Ok(Reserved { limiter, caller, user, paid_at: None, gives_back: true, entries });
        };
        if all.plan.buckets.len() > BUCKETS_MAX {
            let text = format!("the calls fall under more than {BUCKETS_MAX} limits; reserve fewer at once");
            return Err(Error::InvalidRequest(text));
        }
        let mut user = self.user(&all, ctx)?;
        let permit = self.admit(&all, ctx).await?;
        let unasked = permit.shared.is_empty();
        if self.sharing.as_ref().is_some_and(|sharing| unasked && sharing.on_failure != OnStoreFailure::Allow)
        {
            // The store does not answer, and this replica's share is for calls as they come.
            return Err(Error::LimitsUnavailable);
        }
        if let Some(receipt) = permit.local.as_ref().filter(|_| self.sharing.is_none()) {
            // Who has paid is given back to: that is all users beyond the bound together, where there is no room.
            user.local = receipt.user();
        }
        let paid = self.paid(&all, &permit);
        let paid_at = self.paid_at(&permit);
        // The tokens stay spent: what is not used is given back call by call.
        drop(permit);
        let pays = |bucket: &PlannedBucket| {
            let place = all.plan.buckets.iter().position(|known| is_one(known, bucket));
            place.and_then(|place| paid.get(place).copied()).unwrap_or(false)
        };
        let entry = |(bound, left): (Arc<Bound>, u32)| {
            let pays = bound.plan.buckets.iter().map(pays).collect();
            Entry { pays, left, bound }
        };
        let entries = Mutex::new(wanted.into_iter().map(entry).collect());
        Ok(Reserved { limiter, caller, user, paid_at, gives_back: true, entries })
    }

    /// Which buckets of the plan have paid.
    fn paid(&self, all: &Bound, permit: &Permit<'_>) -> Vec<bool> {
        let mut paid = vec![false; all.plan.buckets.len()];
        if self.sharing.is_none() {
            let pays = permit.local.iter().flat_map(|receipt| receipt.bill().pays.iter());
            paid.iter_mut().zip(pays).for_each(|(paid, pays)| *paid = *pays);
            return paid;
        }
        // Where the store did not answer nothing was paid there, so nothing will be given back.
        for part in &permit.shared {
            for (place, pays) in part.places.iter().zip(&part.verdict.pays) {
                if let Some(paid) = paid.get_mut(*place) {
                    *paid = *pays;
                }
            }
        }
        for place in permit.leased.iter().flat_map(|leased| leased.paid_places()) {
            if let Some(paid) = paid.get_mut(place) {
                *paid = true;
            }
        }
        paid
    }

    /// When it has paid: by the clock of the shared store, or of this process where there is none.
    fn paid_at(&self, permit: &Permit<'_>) -> Option<Micros> {
        match &self.sharing {
            None => permit.local.as_ref().map(Receipt::paid_at),
            Some(_) => {
                let leased = permit.leased.iter().flat_map(|leased| leased.taken_at());
                permit.shared.iter().map(|part| part.verdict.at).chain(leased).min()
            }
        }
    }

    /// What a call has paid that waits for its next round.
    pub(super) fn paid_round(&self, ctx: &CallContext, bound: &Arc<Bound>, permit: &Permit<'_>) -> PaidRound {
        let mut user = self.user(bound, ctx).unwrap_or_default();
        if let Some(receipt) = permit.local.as_ref().filter(|_| self.sharing.is_none()) {
            user.local = receipt.user();
        }
        PaidRound {
            caller: self.fair_key(ctx),
            user,
            paid_at: self.paid_at(permit),
            bound: bound.clone(),
            pays: self.paid(bound, permit).into(),
        }
    }

    /// What the buckets of a plan that have paid are called in the shared store.
    fn payers(&self, bound: &Bound, user: &User, pays: &[bool]) -> Vec<RemoteBucket> {
        let paid = |Part { places, ask }: Part| {
            let buckets = places.into_iter().zip(ask.buckets);
            buckets.filter(|(place, _)| pays.get(*place) == Some(&true)).map(|(_, bucket)| bucket)
        };
        parts(&bound.plan, self.cut(user, false)).into_iter().flat_map(paid).collect()
    }
}

impl Reserved {
    /// Charges tokens to the buckets that have paid, or gives as many back where they are less than none. The shared store is
    /// told later.
    fn charge(&self, bound: &Bound, pays: &[bool], charge: &Charge) {
        let Self { limiter, user, paid_at, .. } = self;
        let told = charge.gives_back().then(|| needs(&bound.plan, user.local, u64::MAX));
        if limiter.sharing.is_some() {
            let change = |bucket: RemoteBucket| Change {
                tokens: charge.of(bucket.trial, bucket.cost),
                bucket: RemoteBucket { cost: charge.paid(bucket.cost), ..bucket },
                paid_at: *paid_at,
            };
            let changes = limiter.payers(bound, user, pays).into_iter().map(change).collect();
            limiter.change_later(changes, told);
            return;
        }
        let units =
            |bucket: &PlannedBucket| signed_units(bucket, -charge.of(bucket.trial, bucket.cost.get()));
        limiter.memory.change(&bound.plan, user.local, (pays, paid_at.unwrap_or_default()), units);
        if let Some(needs) = told.filter(|_| limiter.room.count() > 0) {
            limiter.room.given_back(limiter.view(), &needs, true, false);
        }
    }
}

impl Reserved {
    /// What a call has paid in its first round, for the next one.
    pub(super) fn of_round(limiter: &Arc<Limiter>, paid: PaidRound) -> Self {
        let PaidRound { caller, user, paid_at, bound, pays } = paid;
        let entries = Mutex::new(vec![Entry { bound, pays, left: 1 }]);
        Self { limiter: limiter.clone(), caller, user, paid_at, gives_back: false, entries }
    }

    /// One call like this of the caller who asked for the budget, if it is paid for.
    pub(crate) fn take(&self, bound: &Bound, ctx: &CallContext) -> Option<Prepaid<'_>> {
        if self.limiter.fair_key(ctx) != self.caller {
            return None;
        }
        let mut entries = self.entries.lock();
        let (place, entry) =
            entries.iter_mut().enumerate().find(|(_, entry)| entry.left > 0 && entry.bound.is_like(bound))?;
        entry.left -= 1;
        Some(Prepaid { reserved: self, place, spent: false })
    }

    /// Whether a call is left that is paid for and was not made.
    pub(super) fn is_left(&self) -> bool {
        self.entries.lock().iter().any(|entry| entry.left > 0)
    }

    fn put_back(&self, place: usize) {
        if let Some(entry) = self.entries.lock().get_mut(place) {
            entry.left += 1;
        }
    }
}

impl<'a> Prepaid<'a> {
    /// The call is made.
    pub(crate) fn spend(mut self) -> Spent<'a> {
        self.spent = true;
        Spent { reserved: self.reserved, place: self.place }
    }
}

impl Spent<'_> {
    /// Charges what the call turned out to cost more, or gives back what it cost less.
    pub(crate) fn settle(self, owed: Owed) {
        let (bound, pays) = {
            let entries = self.reserved.entries.lock();
            let Some(entry) = entries.get(self.place) else { return };
            (entry.bound.clone(), entry.pays.clone())
        };
        self.reserved.charge(&bound, &pays, &Charge::Settled(owed));
    }

    /// What was paid for the call, which waits for its next round; `None` for one that is not known any more.
    pub(crate) fn round(self) -> Option<PaidRound> {
        let Reserved { caller, user, paid_at, entries, .. } = self.reserved;
        let entries = entries.lock();
        let Entry { bound, pays, .. } = entries.get(self.place)?;
        let (bound, pays) = (bound.clone(), pays.clone());
        Some(PaidRound { caller: *caller, user: user.clone(), paid_at: *paid_at, bound, pays })
    }

    /// The call certainly did not reach its backend.
    pub(crate) fn undo(self) {
        self.reserved.put_back(self.place);
    }
}

impl Drop for Prepaid<'_> {
    fn drop(&mut self) {
        if !self.spent {
            self.reserved.put_back(self.place);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let left: Vec<Entry> =
            std::mem::take(self.entries.get_mut()).into_iter().filter(|entry| entry.left > 0).collect();
        if left.is_empty() || !self.gives_back {
            return;
        }
        for Entry { bound, pays, left } in left {
            self.charge(&bound, &pays, &Charge::Unused(left));
        }
        self.limiter.observer.refunded("unused");
    }
}

#[cfg(test)]
mod tests;
