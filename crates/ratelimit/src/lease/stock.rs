//! What is held of one bucket: when tokens expire, when to ask for more and for how many. No clock, no store.

use crate::clock::Micros;
use crate::decide::Wait;
use crate::rate::{Level, Rate};
use crate::remote::{Order, StoreFailure, Taken};

/// Tokens that were taken together.
#[derive(Clone, Copy, Debug, Default)]
struct Lot {
    tokens: u64,
    terms: Terms,
}

/// Until when tokens may be spent, and when they were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// By the clock of this replica.
    pub(super) until: Micros,
    /// By the clock of the store.
    pub(super) taken_at: Micros,
}

impl Terms {
    /// What holds for tokens of both.
    fn and(self, other: Self) -> Self {
        Self { until: self.until.min(other.until), taken_at: self.taken_at.min(other.taken_at) }
    }
}

impl Lot {
    fn live(self, now: Micros) -> u64 {
        if now < self.terms.until { self.tokens } else { 0 }
    }
}

/// What a call lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// Nothing.
    Nothing,
    /// Tokens that the bucket does not have.
    UntilMicros(Wait),
    /// Tokens that it may have: the order of this turn, or of the next, says.
    UntilTaken(u64),
}

/// What is held of one bucket.
#[derive(Debug)]
pub(super) struct Stock {
    /// The older ones, which are spent first, and the newer ones.
    lots: [Lot; 2],
    duration: u64,
    /// The most that is held, unless calls wait for more.
    most: u64,
    /// Tokens spent since the last order.
    spent: u64,
    /// Tokens spent in all.
    paid: u64,
    /// The last order.
    ordered: Micros,
    /// Tokens spent in three quarters of a lease, smoothed: what is taken when half of them are left is spent in time.
    pace: u64,
    /// What callers who wait lack, together, and the smallest price among them.
    wanted: u64,
    least: u64,
    taking: bool,
    /// Counts answers.
    turn: u64,
    failure: Option<StoreFailure>,
    /// The bucket was found short: nobody asks again before this.
    short_until: Micros,
    /// It gave less than was wanted: no more is taken ahead before this.
    thin_until: Micros,
    /// What the bucket held when it was last heard of.
    level: Option<Level>,
}

impl Stock {
    pub(super) fn new(duration: u64, most: u64) -> Self {
        Self {
            lots: [Lot::default(); 2],
            duration,
            most,
            spent: 0,
            paid: 0,
            ordered: Micros(0),
            pace: 0,
            wanted: 0,
            least: u64::MAX,
            taking: false,
            turn: 0,
            failure: None,
            short_until: Micros(0),
            thin_until: Micros(0),
            level: None,
        }
    }

    /// Tokens that may be spent.
    pub(super) fn available(&self, now: Micros) -> u64 {
        self.lots.iter().fold(0, |sum, lot| sum.saturating_add(lot.live(now)))
    }

    /// Spends, the oldest first. Returns the terms that hold for all that was spent; `None` if there is too little.
    pub(super) fn spend(&mut self, cost: u64, now: Micros) -> Option<Terms> {
        if self.available(now) < cost {
            return None;
        }
        let (mut missing, mut terms) = (cost, None);
        for lot in &mut self.lots {
            let part = lot.live(now).min(missing);
            if part > 0 {
                lot.tokens -= part;
                missing -= part;
                terms = Some(terms.map_or(lot.terms, |terms: Terms| terms.and(lot.terms)));
            }
        }
        self.spent = self.spent.saturating_add(cost);
        self.paid = self.paid.saturating_add(cost);
        terms
    }

    /// Takes back what was spent for a call that is not made. It never lives longer for that.
    pub(super) fn put_back(&mut self, cost: u64, terms: Terms, now: Micros) {
        self.spent = self.spent.saturating_sub(cost);
        self.paid = self.paid.saturating_sub(cost);
        if now >= terms.until {
            return;
        }
        let [old, _] = &mut self.lots;
        *old = match old.live(now) {
            0 => Lot { tokens: cost, terms },
            held => Lot { tokens: held.saturating_add(cost), terms: old.terms.and(terms) },
        };
    }

    /// Lets go of all that may still be spent, and says how much that was and when it was taken.
    pub(super) fn empty(&mut self, now: Micros) -> (u64, Micros) {
        let held = self.available(now);
        let live = self.lots.iter().filter(|lot| lot.live(now) > 0);
        let taken_at = live.map(|lot| lot.terms.taken_at).min().unwrap_or_default();
        self.lots = [Lot::default(); 2];
        (held, taken_at)
    }

    pub(super) fn paid(&self) -> u64 {
        self.paid
    }

    pub(super) fn is_taking(&self) -> bool {
        self.taking
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    pub(super) fn level(&self) -> Option<Level> {
        self.level
    }

    /// A call begins to wait.
    pub(super) fn join(&mut self, cost: u64) {
        self.wanted = self.wanted.saturating_add(cost);
        self.least = self.least.min(cost);
    }

    /// A call waits no more.
    pub(super) fn leave(&mut self, cost: u64) {
        self.wanted = self.wanted.saturating_sub(cost);
        if self.wanted == 0 {
            self.least = u64::MAX;
        }
    }

    /// True when more is to be taken ahead: less than half of the pace is left.
    pub(super) fn runs_low(&self, now: Micros) -> bool {
        let target = self.pace.min(self.most);
        !self.taking && target >= 2 && now >= self.thin_until && self.available(now) < target.div_ceil(2)
    }

    /// What a call of this price lacks.
    pub(super) fn lack(&self, cost: u64, now: Micros, rate: &Rate) -> Lack {
        let held = self.available(now);
        if held >= cost {
            return Lack::Nothing;
        }
        if cost > rate.burst() {
            return Lack::UntilMicros(Wait::Never);
        }
        if self.taking || now >= self.short_until {
            return Lack::UntilTaken(self.turn);
        }
        let level = self.level.map_or(0, |level| rate.level_at(level, now));
        let own = rate.wait(level, rate.units(cost.saturating_sub(held)));
        Lack::UntilMicros(Wait::Micros(own.max(self.short_until.since(now))))
    }

    /// Asks for what calls wait for, and for the pace besides.
    pub(super) fn order(&mut self, now: Micros, parts: u32) -> Order {
        let held = self.available(now);
        let demand = self.spent.saturating_add(self.wanted.saturating_sub(held));
        // Two calls at the same moment are no pace.
        let elapsed = now.since(self.ordered).max(self.duration / 16).max(1);
        let seen = u128::from(demand) * u128::from(self.duration / 4 * 3) / u128::from(elapsed);
        let seen = u64::try_from(seen).unwrap_or(u64::MAX).min(self.most);
        self.pace = (self.pace + seen).div_ceil(2);
        (self.spent, self.ordered, self.taking) = (0, now, true);
        let need = self.wanted.saturating_sub(held);
        let least = if self.wanted == 0 { 0 } else { self.least.saturating_sub(held) };
        Order { least, need, want: need.max(self.pace.min(self.most).saturating_sub(held)), parts }
    }

    /// The answer to an order: tokens that may be spent until `until`, or none.
    pub(super) fn arrived(
        &mut self,
        order: Order,
        outcome: Result<Taken, StoreFailure>,
        until: Micros,
        now: Micros,
    ) {
        self.taking = false;
        self.turn += 1;
        match outcome {
            Err(failure) => self.failure = Some(failure),
            Ok(Taken { tokens, level, at }) => {
                self.failure = None;
                self.level = Some(Level { units: level, at: now });
                // Between a tenth of a lease and half of one, so that nothing is lost at the brim meanwhile.
                let pause = (self.duration / 10).clamp(5_000, 20_000).min(self.duration / 2);
                if tokens < order.need {
                    self.short_until = now.plus(pause);
                }
                if tokens < order.want {
                    self.thin_until = now.plus(pause);
                }
                self.add(tokens, Terms { until, taken_at: at }, now);
            }
        }
    }

    /// The answer to an order will never come.
    pub(super) fn lost(&mut self) {
        self.taking = false;
        self.turn += 1;
        self.failure = Some(StoreFailure::Timeout);
    }

    /// Why the order of a turn brought nothing.
    pub(super) fn failure_since(&self, turn: u64) -> Option<StoreFailure> {
        self.failure.filter(|_| self.turn > turn)
    }

    fn add(&mut self, tokens: u64, terms: Terms, now: Micros) {
        if tokens == 0 {
            return;
        }
        let [old, new] = &mut self.lots;
        if old.live(now) == 0 {
            *old = std::mem::take(new);
        }
        *new = match new.live(now) {
            0 => Lot { tokens, terms },
            held => Lot { tokens: held.saturating_add(tokens), terms: new.terms.and(terms) },
        };
    }
}
