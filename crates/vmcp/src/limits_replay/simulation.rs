//! Passes recorded calls to the new limits, one after another, and counts the decisions.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use vmcp_domain::Retry;
use vmcp_ratelimit::policy::LimitPolicy;
use vmcp_ratelimit::{Replay, ReplayCaller, ReplayDecision, ReplayPermit, ReplayTool};
use vmcp_timing::Micros;

use crate::limits_replay::recorded_calls::{RecordedCall, RecordedCalls};

/// The number of calls, and how many of them the new limits refuse.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallCounts {
    pub(crate) calls: u64,
    pub(crate) refused: u64,
}

/// The counts of a replay.
#[derive(Default)]
pub(crate) struct SimulationResult {
    pub(crate) total: CallCounts,
    /// Calls that were refused when they were recorded.
    pub(crate) recorded_refused: u64,
    /// Calls that the new limits refuse and that were not refused when recorded.
    pub(crate) newly_refused: u64,
    /// Calls that were refused when recorded and that the new limits admit.
    pub(crate) newly_admitted: u64,
    /// Refused calls that would have waited first, because their wait is within the rule's `maxWait`.
    pub(crate) would_wait: u64,
    /// Admitted calls that some rule in shadow mode would have refused.
    pub(crate) shadow_refused: u64,
    pub(crate) by_rule: BTreeMap<String, u64>,
    /// By the index of the tool in [`RecordedCalls::tools`].
    pub(crate) by_tool: Vec<CallCounts>,
    /// By the index of the user in [`RecordedCalls::users`].
    pub(crate) by_user: Vec<CallCounts>,
    /// Rules that match no recorded tool.
    pub(crate) unmatched_rules: Vec<String>,
}

/// An in-flight call: one that was admitted and has not ended. `ends_at` is in microseconds since 1970.
struct InFlightCall<'a> {
    ends_at: u64,
    index: usize,
    refunded: bool,
    permit: ReplayPermit<'a>,
}

impl InFlightCall<'_> {
    fn sort_key(&self) -> (u64, usize) {
        (self.ends_at, self.index)
    }
}

impl PartialEq for InFlightCall<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.sort_key() == other.sort_key()
    }
}

impl Eq for InFlightCall<'_> {}

impl PartialOrd for InFlightCall<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InFlightCall<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort_key().cmp(&other.sort_key())
    }
}

/// Passes every call to the limits in the order of time, and calls `on_ruling` with each decision.
pub(crate) fn simulate(
    recorded: &RecordedCalls,
    policy: LimitPolicy,
    mut on_ruling: impl FnMut(&RecordedCall, &ReplayDecision),
) -> SimulationResult {
    let replay = Replay::new(policy);
    let tools: Vec<ReplayTool> = recorded.tools.iter().map(|tool| replay.tool(tool)).collect();
    let users: Vec<ReplayCaller> =
        recorded.users.iter().map(|user| replay.caller(&user.caller, user.peer)).collect();
    let mut result = SimulationResult {
        by_tool: vec![CallCounts::default(); tools.len()],
        by_user: vec![CallCounts::default(); users.len()],
        unmatched_rules: replay.unmatched_rules(&recorded.tools).into_iter().map(str::to_owned).collect(),
        ..SimulationResult::default()
    };
    let mut in_flight: BinaryHeap<Reverse<InFlightCall<'_>>> = BinaryHeap::new();
    for (number, call) in recorded.calls.iter().enumerate() {
        let (Some(tool), Some(user)) = (get(&tools, call.tool_index), get(&users, call.user_index)) else {
            continue;
        };
        while let Some(Reverse(flight)) = in_flight.pop_ended(call.time_us) {
            finish_call(&replay, flight);
        }
        let (ruling, pass) = replay.decide(tool, *user, Micros(call.time_us));
        if let Some(pass) = pass.filter(|_| call.refunded || tool.has_slot_limits()) {
            let end = call.time_us.saturating_add(call.duration_us);
            in_flight.push(Reverse(InFlightCall {
                ends_at: end,
                index: number,
                refunded: call.refunded,
                permit: pass,
            }));
        }
        on_ruling(call, &ruling);
        result.count(call, ruling, |rule| replay.wait_max(tool, rule));
    }
    result
}

fn finish_call(replay: &Replay, flight: InFlightCall<'_>) {
    if flight.refunded {
        replay.refund(flight.permit, Micros(flight.ends_at));
    }
}

fn get<T>(items: &[T], index: u32) -> Option<&T> {
    items.get(usize::try_from(index).ok()?)
}

/// A priority queue of calls by their end.
trait EndQueue<'a> {
    /// Removes and returns the call with the earliest end, if it has ended by `now`.
    fn pop_ended(&mut self, now: u64) -> Option<Reverse<InFlightCall<'a>>>;
}

impl<'a> EndQueue<'a> for BinaryHeap<Reverse<InFlightCall<'a>>> {
    fn pop_ended(&mut self, now: u64) -> Option<Reverse<InFlightCall<'a>>> {
        if self.peek().is_some_and(|Reverse(flight)| flight.ends_at <= now) { self.pop() } else { None }
    }
}

impl SimulationResult {
    fn count(&mut self, call: &RecordedCall, ruling: ReplayDecision, wait_max_us: impl FnOnce(&str) -> u64) {
        let refused_by = match ruling {
            ReplayDecision::Unlimited => None,
            ReplayDecision::Admitted { would_refuse } => {
                self.shadow_refused += u64::from(would_refuse > 0);
                None
            }
            ReplayDecision::Refused { rule, scope: _, retry } => {
                let wait_max_us = u128::from(wait_max_us(&rule));
                self.would_wait += u64::from(match retry {
                    Retry::After(wait) => wait.as_micros() <= wait_max_us,
                    Retry::WhenReleased => wait_max_us > 0,
                    Retry::Never | Retry::NeverTogether | Retry::Blocked => false,
                });
                Some(rule)
            }
            ReplayDecision::Unidentified => Some("anonymous: refuse".to_owned()),
            ReplayDecision::UserTableFull => Some("memory.overflow: refuse".to_owned()),
        };
        let refused = refused_by.is_some();
        if let Some(rule) = refused_by {
            *self.by_rule.entry(rule).or_default() += 1;
        }
        self.recorded_refused += u64::from(call.was_refused);
        self.newly_refused += u64::from(refused && !call.was_refused);
        self.newly_admitted += u64::from(!refused && call.was_refused);
        let index = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        let counts = [
            Some(&mut self.total),
            self.by_tool.get_mut(index(call.tool_index)),
            self.by_user.get_mut(index(call.user_index)),
        ];
        for count in counts.into_iter().flatten() {
            count.calls += 1;
            count.refused += u64::from(refused);
        }
    }
}
