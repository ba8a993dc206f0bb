//! Asking for a call, and waiting for what it lacks where the rules say so. What waits for what, and who is next, is
//! `waiting`'s; here it meets the stores.

use std::time::Instant;

use vmcp_domain::{CallContext, Caller, Error, LimitScope, RateLimit, Retry};

use super::refusal::rate_limit;
use super::who::{at_address, unnamed};
use super::{Bound, Limiter, Permit, User, all_levels};
use crate::clock::Micros;
use crate::decide::{BucketReading, Wait};
use crate::observer::{DecisionEvent, Observer, WaitEnd};
use crate::plan::Plan;
use crate::policy::{Anonymous, Mode};
use crate::table::UserKey;
use crate::waiting::{HeldUp, Needs, Next, Place, Telling, View, needs};

/// How long nobody asks a shared store again, in microseconds, after a refusal that was not expected: another replica
/// was faster. So a queue asks at most a hundred times a second in vain.
const SHARED_PAUSE: u64 = 10_000;

/// A refusal, and whether waiting helps.
pub(super) struct Denial {
    pub(super) error: Error,
    pub(super) held_up: HeldUp,
}

impl From<Error> for Denial {
    fn from(error: Error) -> Self {
        Self { error, held_up: HeldUp::ForGood }
    }
}

impl Denial {
    /// A refusal by buckets of a plan that hold `levels`, in units.
    pub(super) fn by_buckets(error: Error, plan: &Plan, levels: &[i64]) -> Self {
        if !plan.may_wait {
            return error.into();
        }
        let reading = |(bucket, level): (&crate::plan::PlannedBucket, &i64)| BucketReading {
            rate: bucket.rate,
            level: *level,
            cost: bucket.cost_units,
            mode: bucket.mode,
            // Nobody waits for it.
            resets_in: None,
        };
        Self { error, held_up: HeldUp::ByBuckets(plan.buckets.iter().zip(levels).map(reading).collect()) }
    }
}

impl Denial {
    /// A refusal by one bucket of which this replica takes tokens ahead.
    pub(super) fn by_leased(bound: &Bound, place: usize, wait: Wait) -> Self {
        let error = Error::RateLimited(Box::new(rate_limit(bound, &bound.plan, place, wait)));
        let Some(bucket) = bound.plan.buckets.get(place) else { return error.into() };
        let missing = match wait {
            Wait::None => 0,
            Wait::Micros(micros) => {
                i64::try_from(micros.saturating_mul(bucket.rate.refill())).unwrap_or(i64::MAX)
            }
            Wait::UntilReleased | Wait::Never => i64::MAX,
        };
        // The level that stands for this wait.
        let level = bucket.cost_units.saturating_sub(missing);
        Self::by_buckets(error, &bound.plan, &all_levels(&bound.plan, &[place], &[level]))
    }
}

/// Tells when the call that holds it is over: its place among the calls in flight is free.
pub(super) struct Bell<'a> {
    pub(super) limiter: &'a Limiter,
    pub(super) plan: &'a Plan,
    pub(super) user: Option<UserKey>,
    /// It holds slots that others of several replicas wait for, too.
    pub(super) shared: bool,
    /// The call was admitted: before that it has nothing that others could wait for.
    pub(super) admitted: bool,
    /// It holds its places among the calls in flight.
    pub(super) places: bool,
}

impl Bell<'_> {
    /// Tells what was given back.
    pub(super) fn ring(&self, tokens: bool) {
        let places = self.places && !self.plan.slots.is_empty();
        if self.admitted && self.limiter.room.count() > 0 && (tokens || places) {
            let needs = needs(self.plan, self.user, u64::MAX);
            self.limiter.room.given_back(self.limiter.view(), &needs, tokens, self.shared);
        }
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        self.ring(false);
    }
}

/// One call's waiting, for the observer. Dropped without an end it was cancelled.
struct Waited<'a> {
    observer: &'a dyn Observer,
    begun: Instant,
    end: WaitEnd,
}

impl<'a> Waited<'a> {
    fn begin(observer: &'a dyn Observer) -> Self {
        observer.wait_began();
        Self { observer, begun: Instant::now(), end: WaitEnd::Cancelled }
    }
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.observer.wait_ended(self.end, self.begun.elapsed());
    }
}

impl Limiter {
    /// Asks for one call and pays for it, waiting where a rule says so.
    ///
    /// # Errors
    /// [`Error::RateLimited`] when a limit refuses, [`Error::Denied`] for an unidentified caller where limits are per
    /// user, [`Error::LimitsUnavailable`] when the store does not answer and the policy is to refuse then.
    pub(crate) async fn admit<'a>(
        &'a self,
        bound: &'a Bound,
        ctx: &CallContext,
    ) -> Result<Permit<'a>, Error> {
        let mut event = DecisionEvent::begin(&bound.limited, self.clock.now());
        event.checked.extend(bound.plan.enforced_scopes());
        let user = self.user(bound, ctx);
        let outcome = match &user {
            Err(error) => Err(error.clone()),
            Ok(user) if bound.plan.may_wait => self.ask_or_wait(bound, ctx, user, &mut event).await,
            Ok(user) => {
                let now = event.at;
                self.ask(bound, user, now, &mut event).await.map_err(|denial| denial.error)
            }
        };
        match &outcome {
            Ok(permit) => {
                event.allowed = true;
                if let Ok(user) = &user {
                    event.tried(bound, user, permit);
                }
            }
            Err(Error::RateLimited(refusal)) => {
                event.scope = Some(refusal.scope);
                event.refusal = Some(refusal);
            }
            Err(_) => {}
        }
        self.observer.decided(&event);
        if let Caller::Known(identity) = &ctx.caller {
            self.top.count(self.key(identity), identity, !event.allowed);
        }
        outcome
    }

    /// How many calls wait for a limit.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.room.count()
    }

    /// Asks the store once, at this moment.
    async fn ask<'a>(
        &'a self,
        bound: &'a Bound,
        user: &User,
        now: Micros,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Permit<'a>, Denial> {
        let begun = Instant::now();
        let outcome = match &self.sharing {
            None => self.admit_here((bound, &bound.plan), user.local, now),
            // On its own memory, so that calls that need no store carry none of it.
            Some(sharing) => Box::pin(self.admit_shared(sharing, bound, user, now, event)).await,
        };
        event.took += begun.elapsed();
        outcome
    }

    async fn ask_or_wait<'a>(
        &'a self,
        bound: &'a Bound,
        ctx: &CallContext,
        user: &User,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Permit<'a>, Error> {
        let remaining = ctx.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let patience = remaining.map_or(u64::MAX, |left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX));
        let needs = || needs(&bound.plan, user.local, patience);
        if self.room.count() > 0 {
            let needs = needs();
            if self.room.is_contended(&needs) {
                return match self.hopeless(bound, user) {
                    Some(error) => Err(error),
                    None => Box::pin(self.wait((bound, user, needs), ctx, None, event)).await,
                };
            }
        }
        let now = event.at;
        match self.ask(bound, user, now, event).await {
            Ok(permit) => Ok(permit),
            Err(Denial { error, held_up: HeldUp::ForGood }) => Err(error),
            Err(denial) => Box::pin(self.wait((bound, user, needs()), ctx, Some(denial), event)).await,
        }
    }

    /// The refusal of a call that need not even queue: something that it needs will not be there in time, whoever is
    /// before it. Buckets that are shared are not asked for that.
    pub(super) fn hopeless(&self, bound: &Bound, user: &User) -> Option<Error> {
        let plan = &bound.plan;
        let wait = |reading: &BucketReading| match (&self.sharing, reading.mode) {
            (_, Mode::Shadow) => Wait::None,
            (None, Mode::Enforce) => reading.wait(),
            (Some(_), Mode::Enforce) if reading.cost > reading.rate.capacity() => Wait::Never,
            (Some(_), Mode::Enforce) => Wait::None,
        };
        let waits: Vec<Wait> = self.memory.peek(plan, user.local).iter().map(wait).collect();
        let too_long =
            plan.buckets.iter().zip(&waits).any(|(bucket, wait)| *wait > Wait::Micros(bucket.wait_max));
        let (place, wait) = waits.into_iter().enumerate().rev().max_by_key(|(_, wait)| *wait)?;
        too_long.then(|| Error::RateLimited(Box::new(rate_limit(bound, plan, place, wait))))
    }

    async fn wait<'a>(
        &'a self,
        (bound, user, needs): (&'a Bound, &User, Needs),
        ctx: &CallContext,
        mut denial: Option<Denial>,
        event: &mut DecisionEvent<'_>,
    ) -> Result<Permit<'a>, Error> {
        let who = user.local.unwrap_or_else(|| self.fair_key(ctx));
        let mut guest = match self.room.enter(self.view(), who, needs) {
            Ok(guest) => guest,
            Err((place, wait)) => {
                return Err(denial.map_or_else(|| late(bound, place, wait), |known| known.error));
            }
        };
        let mut waited: Option<Waited<'_>> = None;
        let mut telling = Telling::begin(&*ctx.client, self.clock.now());
        let outcome = loop {
            if let Some(denial) = denial.take()
                && !guest.refused(&denial.held_up)
            {
                break Err(denial.error);
            }
            match guest.next() {
                Next::Ask => match self.ask(bound, user, self.clock.now(), event).await {
                    Ok(permit) => {
                        guest.admitted();
                        break Ok(permit);
                    }
                    Err(refused) => denial = Some(refused),
                },
                Next::GiveUp(place, wait) => break Err(late(bound, place, wait)),
                Next::Wait(place, until) => {
                    waited.get_or_insert_with(|| Waited::begin(&*self.observer));
                    let rule = || rule(bound, place).0;
                    telling.tell(self.clock.now(), &rule(), || guest.forecast());
                    guest.sleep(telling.next().map_or(until, |next| next.min(until))).await;
                }
            }
        };
        if let Some(waited) = &mut waited {
            waited.end = if outcome.is_ok() { WaitEnd::Admitted } else { WaitEnd::Refused };
        }
        outcome
    }

    /// Whose turn a call takes where users are not told apart otherwise.
    pub(super) fn fair_key(&self, ctx: &CallContext) -> UserKey {
        match (&ctx.caller, self.planner.policy().anonymous, ctx.peer) {
            (Caller::Known(identity), ..) => self.key(identity),
            (Caller::Anonymous, Anonymous::Address, Some(address)) => self.key(&at_address(address)),
            (Caller::Anonymous, ..) => self.key(&unnamed("")),
        }
    }

    pub(super) fn view(&self) -> View<'_> {
        let pause = if self.sharing.is_some() { SHARED_PAUSE } else { 0 };
        View { clock: &*self.clock, memory: &self.memory, pause }
    }
}

/// The rule at a place, and for whom it counts.
fn rule(bound: &Bound, place: Place) -> (String, LimitScope) {
    let found = match place {
        Place::Bucket(place) => bound.plan.buckets.get(place).map(|bucket| (&bucket.rule, bucket.scope)),
        Place::Slots(place) => bound.plan.slots.get(place).map(|slots| (&slots.rule, slots.scope)),
    };
    found.map_or((String::new(), LimitScope::Server), |(rule, scope)| (rule.to_string(), scope))
}

/// The refusal of a call whose turn does not come in time.
fn late(bound: &Bound, place: Place, wait: Option<u64>) -> Error {
    let limit = match place {
        Place::Bucket(place) => {
            let wait = wait.map_or(Wait::UntilReleased, Wait::Micros);
            rate_limit(bound, &bound.plan, place, wait)
        }
        Place::Slots(_) => busy(bound, place),
    };
    Error::RateLimited(Box::new(limit))
}

/// The refusal by a bound on calls in flight.
pub(super) fn busy(bound: &Bound, place: Place) -> RateLimit {
    let (rule, scope) = rule(bound, place);
    RateLimit {
        limited: bound.limited.clone(),
        rule,
        scope,
        retry: Retry::WhenReleased,
        allowance: None,
        resets: None,
    }
}

#[cfg(test)]
mod tests;
