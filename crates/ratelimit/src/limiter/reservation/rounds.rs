//! Calls in several rounds (2026-07-28, Multi Round-Trip Requests): one call, one charge. A reply that asks
//! for input gets a `requestState` of this gateway around the backend's own, which identifies the payment. It
//! is valid once, for the caller who paid and for a call with the same cost. Anything else that a client
//! sends is a new call. A state that another replica issued is a new call too.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use vmcp_domain::{CallContext, Continuation, Reply, ResultType};
use vmcp_json::Json;
use vmcp_timing::Micros;

use crate::limiter::reservation::{PaidRound, PrepaidCall, ReservedCalls};
use crate::limiter::{Limiter, Permit, ToolPlan};

/// The prefix of the states that this gateway issues.
const STATE_PREFIX: &str = "vmcp-paid.";
/// How long a client may take for a round, in microseconds: one hour, as a person may be asked.
const ROUND_AGE_MAX: u64 = 3_600 * 1_000_000;
/// How many calls wait for their next round at most. Beyond that the oldest is dropped, and its next round is
/// charged as a new call.
const OPEN_ROUND_COUNT_MAX: usize = 10_000;

/// The calls that wait for their next round.
#[derive(Default)]
pub(crate) struct OpenRounds {
    table: Mutex<OpenRoundTable>,
    hashers: (RandomState, RandomState),
    next_number: AtomicU64,
}

#[derive(Default)]
struct OpenRoundTable {
    by_id: HashMap<u128, (Micros, PaidRound)>,
    /// The identifiers in the order of insertion, with the moment; including those that have been taken
    /// since.
    insertion_order: VecDeque<(Micros, u128)>,
}

/// A later round of a call that has paid. If the call is not made, dropping this makes its state valid again.
pub(crate) struct ResumedRound {
    id: u128,
    paid: PaidRound,
    reserved: ReservedCalls,
}

impl OpenRoundTable {
    fn insert(&mut self, name: u128, paid: PaidRound, now: Micros) {
        while let Some((at, oldest)) = self.insertion_order.front().copied()
            && (self.by_id.len() >= OPEN_ROUND_COUNT_MAX
                || is_expired(at, now)
                || !self.by_id.contains_key(&oldest))
        {
            self.by_id.remove(&oldest);
            self.insertion_order.pop_front();
        }
        if self.insertion_order.len() > 2 * self.by_id.len() + OPEN_ROUND_COUNT_MAX {
            self.insertion_order.retain(|(_, name)| self.by_id.contains_key(name));
        }
        self.by_id.insert(name, (now, paid));
        self.insertion_order.push_back((now, name));
    }

    /// Takes out the payment with this identifier, if it has not expired and `is_for` accepts it.
    fn take(
        &mut self,
        name: u128,
        now: Micros,
        is_for: impl FnOnce(&PaidRound) -> bool,
    ) -> Option<PaidRound> {
        let fits = self.by_id.get(&name).is_some_and(|(at, paid)| !is_expired(*at, now) && is_for(paid));
        if fits { self.by_id.remove(&name).map(|(_, paid)| paid) } else { None }
    }
}

fn is_expired(at: Micros, now: Micros) -> bool {
    now.since(at) > ROUND_AGE_MAX
}

impl ResumedRound {
    /// The payment for the call, as a prepaid call.
    pub(crate) fn take_call(&self, tool_plan: &ToolPlan, ctx: &CallContext) -> Option<PrepaidCall<'_>> {
        self.reserved.take_call(tool_plan, ctx)
    }
}

impl Drop for ResumedRound {
    fn drop(&mut self) {
        if self.reserved.has_remaining() {
            let limiter = &self.reserved.limiter;
            limiter.open_rounds.table.lock().insert(self.id, self.paid.clone(), limiter.clock.now());
        }
    }
}

/// Removes this gateway's part of the state from a continuation, and returns the identifier of the payment.
pub(crate) fn take_round_id(continuation: &mut Continuation) -> Option<u128> {
    let (name, state) = parse_state(continuation.request_state.as_deref()?)?;
    continuation.request_state = state;
    Some(name)
}

impl Limiter {
    /// The later round of a call that has paid under this identifier, for this caller and a call with the
    /// same cost. No other caller can use the identifier up.
    pub(crate) fn resume_round(
        self: &Arc<Self>,
        name: Option<u128>,
        tool_plan: &ToolPlan,
        ctx: &CallContext,
    ) -> Option<ResumedRound> {
        let (name, caller) = (name?, self.fairness_key(ctx));
        let now = self.clock.now();
        let paid = self.open_rounds.table.lock().take(name, now, |paid| paid.is_for(caller, tool_plan))?;
        let reserved = ReservedCalls::for_round(self, paid.clone());
        Some(ResumedRound { id: name, paid, reserved })
    }

    /// Remembers the payment of a call whose reply asks for input.
    pub(crate) fn suspend_round(
        &self,
        reply: &mut Reply,
        ctx: &CallContext,
        tool_plan: &Arc<ToolPlan>,
        permit: &Permit<'_>,
    ) {
        if reply.result_type == ResultType::InputRequired {
            let paid = self.paid_round(ctx, tool_plan, permit);
            self.suspend_paid_round(reply, paid);
        }
    }

    /// The same for a call whose payment is known already.
    pub(crate) fn suspend_paid_round(&self, reply: &mut Reply, paid: PaidRound) {
        let count = self.open_rounds.next_number.fetch_add(1, Ordering::Relaxed);
        let half = |hasher: &RandomState| u128::from(hasher.hash_one(count));
        let name = half(&self.open_rounds.hashers.0) << 64 | half(&self.open_rounds.hashers.1);
        self.open_rounds.table.lock().insert(name, paid, self.clock.now());
        let state = reply.members.get("requestState").and_then(Json::decode_string);
        let has_state = if state.is_some() { 's' } else { '-' };
        let state = format!("{STATE_PREFIX}{name:032x}{has_state}{}", state.unwrap_or_default());
        reply.members.insert("requestState", Json::string(&state));
    }
}

/// Parses a state: the identifier of the payment, and the backend's own state.
fn parse_state(state: &str) -> Option<(u128, Option<String>)> {
    let (name, rest) = state.strip_prefix(STATE_PREFIX)?.split_at_checked(32)?;
    let name = u128::from_str_radix(name, 16).ok()?;
    match rest.split_at_checked(1)? {
        ("s", state) => Some((name, Some(state.to_owned()))),
        ("-", "") => Some((name, None)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
