//! The balance of leased tokens of one bucket: when tokens expire, when to take more, and how many. It has no
//! clock and no store.

use vmcp_timing::Micros;

use crate::bucket::decide::Wait;
use crate::bucket::rate::{Level, Rate};
use crate::shared::store::{StoreFailure, TakeGrant, TakeRequest};

/// Tokens that were taken together.
#[derive(Clone, Copy, Debug, Default)]
struct LeasedTokens {
    tokens: u64,
    terms: LeaseTerms,
}

/// When tokens expire, and when they were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaseTerms {
    /// By the clock of this replica.
    pub(super) expires_at: Micros,
    /// By the clock of the store.
    pub(super) taken_at: Micros,
}

impl LeaseTerms {
    /// The terms that hold for tokens of both: the earlier of each time.
    fn stricter_of(self, other: Self) -> Self {
        Self {
            expires_at: self.expires_at.min(other.expires_at),
            taken_at: self.taken_at.min(other.taken_at),
        }
    }
}

impl LeasedTokens {
    fn live_at(self, now: Micros) -> u64 {
        if now < self.terms.expires_at { self.tokens } else { 0 }
    }
}

/// What a bucket lacks for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortfall {
    /// Nothing: the call can pay.
    Nothing,
    /// Tokens that the bucket does not have, and how long until it does.
    Wait(Wait),
    /// Tokens that the bucket may have: the pending take, or else the next one, decides. The number is the
    /// count of finished takes.
    PendingTake(u64),
}

/// The leased tokens of one bucket.
#[derive(Debug)]
pub(super) struct LeaseBalance {
    /// The older tokens, which are spent first, and the newer ones.
    held: [LeasedTokens; 2],
    duration: u64,
    /// The most tokens that are held, unless calls wait for more.
    held_max: u64,
    /// Tokens spent since the last take began.
    spent_since_take: u64,
    /// Tokens spent in total.
    spent_total: u64,
    /// When the last take began.
    last_take_at: Micros,
    /// Tokens spent in three quarters of a lease, smoothed. A take that happens when half of them are left is
    /// spent before it expires.
    spend_estimate: u64,
    /// The total cost of the waiting calls, and the smallest cost among them.
    waiting_cost: u64,
    waiting_cost_min: u64,
    is_take_pending: bool,
    /// The number of finished takes.
    take_count: u64,
    failure: Option<StoreFailure>,
    /// The bucket had less than was needed: no take before this moment.
    no_retry_until: Micros,
    /// The bucket gave less than was wanted: no take ahead of need before this moment.
    no_prefetch_until: Micros,
    /// The level of the bucket in the store's last reply.
    level: Option<Level>,
}

impl LeaseBalance {
    pub(super) fn new(duration: u64, most: u64) -> Self {
        Self {
            held: [LeasedTokens::default(); 2],
            duration,
            held_max: most,
            spent_since_take: 0,
            spent_total: 0,
            last_take_at: Micros(0),
            spend_estimate: 0,
            waiting_cost: 0,
            waiting_cost_min: u64::MAX,
            is_take_pending: false,
            take_count: 0,
            failure: None,
            no_retry_until: Micros(0),
            no_prefetch_until: Micros(0),
            level: None,
        }
    }

    /// Tokens that may be spent now.
    pub(super) fn available(&self, now: Micros) -> u64 {
        self.held.iter().fold(0, |sum, leased| sum.saturating_add(leased.live_at(now)))
    }

    /// Spends tokens, the oldest first. Returns the terms that hold for all of them; `None` if there are too
    /// few.
    pub(super) fn spend(&mut self, cost: u64, now: Micros) -> Option<LeaseTerms> {
        if self.available(now) < cost {
            return None;
        }
        let (mut missing, mut terms) = (cost, None);
        for leased in &mut self.held {
            let part = leased.live_at(now).min(missing);
            if part > 0 {
                leased.tokens -= part;
                missing -= part;
                terms = Some(terms.map_or(leased.terms, |terms: LeaseTerms| terms.stricter_of(leased.terms)));
            }
        }
        self.spent_since_take = self.spent_since_take.saturating_add(cost);
        self.spent_total = self.spent_total.saturating_add(cost);
        terms
    }

    /// Restores the tokens of a call that is not made. They keep their expiry.
    pub(super) fn restore(&mut self, cost: u64, terms: LeaseTerms, now: Micros) {
        self.spent_since_take = self.spent_since_take.saturating_sub(cost);
        self.spent_total = self.spent_total.saturating_sub(cost);
        if now >= terms.expires_at {
            return;
        }
        let [old, _] = &mut self.held;
        *old = match old.live_at(now) {
            0 => LeasedTokens { tokens: cost, terms },
            held => LeasedTokens { tokens: held.saturating_add(cost), terms: old.terms.stricter_of(terms) },
        };
    }

    /// Removes all tokens that may still be spent. Returns their number and the earliest time at which they
    /// were taken.
    pub(super) fn drain(&mut self, now: Micros) -> (u64, Micros) {
        let held = self.available(now);
        let live = self.held.iter().filter(|leased| leased.live_at(now) > 0);
        let taken_at = live.map(|leased| leased.terms.taken_at).min().unwrap_or_default();
        self.held = [LeasedTokens::default(); 2];
        (held, taken_at)
    }

    pub(super) fn spent_total(&self) -> u64 {
        self.spent_total
    }

    pub(super) fn is_take_pending(&self) -> bool {
        self.is_take_pending
    }

    pub(super) fn take_count(&self) -> u64 {
        self.take_count
    }

    pub(super) fn level(&self) -> Option<Level> {
        self.level
    }

    /// A call starts to wait.
    pub(super) fn add_waiting(&mut self, cost: u64) {
        self.waiting_cost = self.waiting_cost.saturating_add(cost);
        self.waiting_cost_min = self.waiting_cost_min.min(cost);
    }

    /// A call no longer waits.
    pub(super) fn remove_waiting(&mut self, cost: u64) {
        self.waiting_cost = self.waiting_cost.saturating_sub(cost);
        if self.waiting_cost == 0 {
            self.waiting_cost_min = u64::MAX;
        }
    }

    /// True if more tokens should be taken ahead: less than half of the spend estimate is left.
    pub(super) fn is_running_low(&self, now: Micros) -> bool {
        let target = self.spend_estimate.min(self.held_max);
        !self.is_take_pending
            && target >= 2
            && now >= self.no_prefetch_until
            && self.available(now) < target.div_ceil(2)
    }

    /// What the bucket lacks for a call of this cost.
    pub(super) fn shortfall(&self, cost: u64, now: Micros, rate: &Rate) -> Shortfall {
        let held = self.available(now);
        if held >= cost {
            return Shortfall::Nothing;
        }
        if cost > rate.burst() {
            return Shortfall::Wait(Wait::Never);
        }
        if self.is_take_pending || now >= self.no_retry_until {
            return Shortfall::PendingTake(self.take_count);
        }
        let level = self.level.map_or(0, |level| rate.level_at(level, now));
        let own = rate.wait(level, rate.units(cost.saturating_sub(held)));
        Shortfall::Wait(Wait::Micros(own.max(self.no_retry_until.since(now))))
    }

    /// Begins a take: it asks for what calls wait for, and for the spend estimate.
    pub(super) fn begin_take(&mut self, now: Micros, share_divisor: u32) -> TakeRequest {
        let held = self.available(now);
        let demand = self.spent_since_take.saturating_add(self.waiting_cost.saturating_sub(held));
        // Two calls at the same moment do not make a rate, so the elapsed time has a minimum.
        let elapsed = now.since(self.last_take_at).max(self.duration / 16).max(1);
        let seen = u128::from(demand) * u128::from(self.duration / 4 * 3) / u128::from(elapsed);
        let seen = u64::try_from(seen).unwrap_or(u64::MAX).min(self.held_max);
        self.spend_estimate = (self.spend_estimate + seen).div_ceil(2);
        (self.spent_since_take, self.last_take_at, self.is_take_pending) = (0, now, true);
        let need = self.waiting_cost.saturating_sub(held);
        let least = if self.waiting_cost == 0 { 0 } else { self.waiting_cost_min.saturating_sub(held) };
        TakeRequest {
            min_useful: least,
            need,
            want: need.max(self.spend_estimate.min(self.held_max).saturating_sub(held)),
            share_divisor,
        }
    }

    /// Finishes a take. Granted tokens may be spent before `until`.
    pub(super) fn finish_take(
        &mut self,
        request: TakeRequest,
        outcome: Result<TakeGrant, StoreFailure>,
        until: Micros,
        now: Micros,
    ) {
        self.is_take_pending = false;
        self.take_count += 1;
        match outcome {
            Err(failure) => self.failure = Some(failure),
            Ok(TakeGrant { tokens, level, at }) => {
                self.failure = None;
                self.level = Some(Level { units: level, at: now });
                // A tenth of a lease, kept between 5 ms and 20 ms but at most half a lease. The bucket must
                // not reach its capacity and lose its refill during the pause.
                let pause = (self.duration / 10).clamp(5_000, 20_000).min(self.duration / 2);
                if tokens < request.need {
                    self.no_retry_until = now.plus(pause);
                }
                if tokens < request.want {
                    self.no_prefetch_until = now.plus(pause);
                }
                self.add(tokens, LeaseTerms { expires_at: until, taken_at: at }, now);
            }
        }
    }

    /// Ends a take that will never get a reply; it counts as a time-out.
    pub(super) fn abort_take(&mut self) {
        self.is_take_pending = false;
        self.take_count += 1;
        self.failure = Some(StoreFailure::Timeout);
    }

    /// Why the takes since `turn` brought nothing; `None` if they succeeded or none has finished.
    pub(super) fn failure_since(&self, turn: u64) -> Option<StoreFailure> {
        self.failure.filter(|_| self.take_count > turn)
    }

    fn add(&mut self, tokens: u64, terms: LeaseTerms, now: Micros) {
        if tokens == 0 {
            return;
        }
        let [old, new] = &mut self.held;
        if old.live_at(now) == 0 {
            *old = std::mem::take(new);
        }
        *new = match new.live_at(now) {
            0 => LeasedTokens { tokens, terms },
            held => LeasedTokens { tokens: held.saturating_add(tokens), terms: new.terms.stricter_of(terms) },
        };
    }
}

#[cfg(test)]
mod tests;
