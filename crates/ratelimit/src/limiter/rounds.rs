//! Calls in several rounds (2026-07-28, Multi Round-Trip Requests): one call, one charge. A reply that wants input gets a
//! `requestState` of ours around the backend's own, which names what was paid. It is good once, for the caller who paid and for a call
//! that costs the same; whatever else a client sends along is a new call, and so is what another replica has given out.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use vmcp_domain::{CallContext, Continuation, Json, Reply, Stage};

use super::reserve::{PaidRound, Prepaid, Reserved};
use super::{Bound, Limiter, Permit};
use crate::clock::Micros;

/// What our states begin with.
const HEAD: &str = "vmcp-paid.";
/// How long a round may take its client: a person may be asked.
const OPEN_MAX: u64 = 3_600 * 1_000_000;
/// How many calls wait for their next round at most. Beyond that the oldest is forgotten, and its next round is a new call.
const COUNT_MAX: usize = 10_000;

/// The calls that wait for their next round.
#[derive(Default)]
pub(crate) struct Rounds {
    open: Mutex<Open>,
    hashers: (RandomState, RandomState),
    count: AtomicU64,
}

#[derive(Default)]
struct Open {
    paid: HashMap<u128, PaidRound>,
    /// In the order in which they were left, with the moment; also names that are gone by now.
    order: VecDeque<(Micros, u128)>,
}

/// A later round of a call that has paid. Unless it is made, its state is good for another try.
pub(crate) struct Round {
    name: u128,
    paid: PaidRound,
    reserved: Reserved,
}

impl Open {
    fn put(&mut self, name: u128, paid: PaidRound, now: Micros) {
        let is_over = |at: Micros| now.since(at) > OPEN_MAX;
        while let Some((at, oldest)) = self.order.front().copied()
            && (self.paid.len() >= COUNT_MAX || is_over(at) || !self.paid.contains_key(&oldest))
        {
            self.paid.remove(&oldest);
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.paid.len() + COUNT_MAX {
            self.order.retain(|(_, name)| self.paid.contains_key(name));
        }
        self.paid.insert(name, paid);
        self.order.push_back((now, name));
    }

    /// Takes out what was paid under a name, if it was paid for this.
    fn take(&mut self, name: u128, is_for: impl FnOnce(&PaidRound) -> bool) -> Option<PaidRound> {
        if self.paid.get(&name).is_some_and(is_for) { self.paid.remove(&name) } else { None }
    }
}

impl Round {
    /// What was paid for the call.
    pub(crate) fn take(&self, bound: &Bound, ctx: &CallContext) -> Option<Prepaid<'_>> {
        self.reserved.take(bound, ctx)
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if self.reserved.is_left() {
            let limiter = &self.reserved.limiter;
            limiter.rounds.open.lock().put(self.name, self.paid.clone(), limiter.clock.now());
        }
    }
}

/// Takes our part of the state off a continuation, which names what was paid.
pub(crate) fn paid_name(continuation: &mut Continuation) -> Option<u128> {
    let (name, state) = read(continuation.request_state.as_deref()?)?;
    continuation.request_state = state;
    Some(name)
}

impl Limiter {
    /// The later round of a call like this of this caller that has paid under a name. Nobody else can use the name up.
    pub(crate) fn resume(
        self: &Arc<Self>,
        name: Option<u128>,
        bound: &Bound,
        ctx: &CallContext,
    ) -> Option<Round> {
        let (name, caller) = (name?, self.fair_key(ctx));
        let paid = self.rounds.open.lock().take(name, |paid| paid.is_for(caller, bound))?;
        let reserved = Reserved::of_round(self, paid.clone());
        Some(Round { name, paid, reserved })
    }

    /// Remembers what a call has paid that wants input, if it does.
    pub(crate) fn suspend(
        &self,
        reply: &mut Reply,
        ctx: &CallContext,
        bound: &Arc<Bound>,
        permit: &Permit<'_>,
    ) {
        if reply.stage == Stage::InputRequired {
            let paid = self.paid_round(ctx, bound, permit);
            self.suspend_paid(reply, paid);
        }
    }

    /// The same for a call of which it is known what it has paid.
    pub(crate) fn suspend_paid(&self, reply: &mut Reply, paid: PaidRound) {
        let count = self.rounds.count.fetch_add(1, Ordering::Relaxed);
        let half = |hasher: &RandomState| u128::from(hasher.hash_one(count));
        let name = half(&self.rounds.hashers.0) << 64 | half(&self.rounds.hashers.1);
        self.rounds.open.lock().put(name, paid, self.clock.now());
        let state = reply.members.get("requestState").and_then(Json::to_text);
        let has_state = if state.is_some() { 's' } else { '-' };
        let state = format!("{HEAD}{name:032x}{has_state}{}", state.unwrap_or_default());
        reply.members.set("requestState", Json::string(&state));
    }
}

/// The name of what was paid, and the backend's own state.
fn read(state: &str) -> Option<(u128, Option<String>)> {
    let (name, rest) = state.strip_prefix(HEAD)?.split_at_checked(32)?;
    let name = u128::from_str_radix(name, 16).ok()?;
    match rest.split_at_checked(1)? {
        ("s", state) => Some((name, Some(state.to_owned()))),
        ("-", "") => Some((name, None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
