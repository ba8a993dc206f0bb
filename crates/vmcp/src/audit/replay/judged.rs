//! Recorded calls before the new limits, one after another, and what that comes to.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use vmcp_domain::Retry;
use vmcp_ratelimit::policy::LimitPolicy;
use vmcp_ratelimit::{Micros, Replay, ReplayCaller, ReplayPass, ReplayTool, Ruling};

use super::recorded::{Call, Recorded};

/// How many calls there were, and how many of them the new limits refuse.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) calls: u64,
    pub(crate) refused: u64,
}

/// What the new limits come to.
#[derive(Default)]
pub(crate) struct Judged {
    pub(crate) total: Count,
    /// Refused in the record.
    pub(crate) were_refused: u64,
    /// Refused by the new limits and not in the record.
    pub(crate) newly_refused: u64,
    /// Refused in the record and not by the new limits.
    pub(crate) newly_admitted: u64,
    /// Refused calls that would have waited first.
    pub(crate) may_wait: u64,
    /// Calls that some rule in shadow mode would have refused.
    pub(crate) shadow_refused: u64,
    pub(crate) by_rule: BTreeMap<String, u64>,
    /// In the order of the recorded tools.
    pub(crate) by_tool: Vec<Count>,
    /// In the order of the recorded users.
    pub(crate) by_user: Vec<Count>,
    /// Rules that no recorded tool fits.
    pub(crate) idle_rules: Vec<String>,
}

/// A call that has not ended.
struct Flight<'a> {
    end: u64,
    number: usize,
    refunded: bool,
    pass: ReplayPass<'a>,
}

impl Flight<'_> {
    fn key(&self) -> (u64, usize) {
        (self.end, self.number)
    }
}

impl PartialEq for Flight<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Flight<'_> {}

impl PartialOrd for Flight<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Puts every call before the limits, in the order of time, and tells `hear` of each ruling.
pub(crate) fn judge(
    recorded: &Recorded,
    policy: LimitPolicy,
    mut hear: impl FnMut(&Call, &Ruling),
) -> Judged {
    let replay = Replay::new(policy);
    let tools: Vec<ReplayTool> = recorded.tools.iter().map(|tool| replay.tool(tool)).collect();
    let users: Vec<ReplayCaller> =
        recorded.users.iter().map(|user| replay.caller(&user.caller, user.peer)).collect();
    let mut judged = Judged {
        by_tool: vec![Count::default(); tools.len()],
        by_user: vec![Count::default(); users.len()],
        idle_rules: replay.idle_rules(&recorded.tools).into_iter().map(str::to_owned).collect(),
        ..Judged::default()
    };
    let mut flights: BinaryHeap<Reverse<Flight<'_>>> = BinaryHeap::new();
    for (number, call) in recorded.calls.iter().enumerate() {
        let (Some(tool), Some(user)) = (at(&tools, call.tool), at(&users, call.user)) else { continue };
        while let Some(Reverse(flight)) = flights.pop_if_ended(call.at) {
            end(&replay, flight);
        }
        let (ruling, pass) = replay.decide(tool, *user, Micros(call.at));
        if let Some(pass) = pass.filter(|_| call.refunded || tool.counts_in_flight()) {
            let end = call.at.saturating_add(call.lasted);
            flights.push(Reverse(Flight { end, number, refunded: call.refunded, pass }));
        }
        hear(call, &ruling);
        judged.count(call, ruling, |rule| replay.patience(tool, rule));
    }
    judged
}

fn end(replay: &Replay, flight: Flight<'_>) {
    if flight.refunded {
        replay.refund(flight.pass, Micros(flight.end));
    }
}

fn at<T>(all: &[T], place: u32) -> Option<&T> {
    all.get(usize::try_from(place).ok()?)
}

/// A queue of what ends when.
trait Ending<'a> {
    /// The next that has ended by `now`.
    fn pop_if_ended(&mut self, now: u64) -> Option<Reverse<Flight<'a>>>;
}

impl<'a> Ending<'a> for BinaryHeap<Reverse<Flight<'a>>> {
    fn pop_if_ended(&mut self, now: u64) -> Option<Reverse<Flight<'a>>> {
        if self.peek().is_some_and(|Reverse(flight)| flight.end <= now) { self.pop() } else { None }
    }
}

impl Judged {
    fn count(&mut self, call: &Call, ruling: Ruling, patience: impl FnOnce(&str) -> u64) {
        let refused_by = match ruling {
            Ruling::Unlimited => None,
            Ruling::Admitted { would_refuse } => {
                self.shadow_refused += u64::from(would_refuse > 0);
                None
            }
            Ruling::Refused { rule, scope: _, retry } => {
                let patience = u128::from(patience(&rule));
                self.may_wait += u64::from(match retry {
                    Retry::After(wait) => wait.as_micros() <= patience,
                    Retry::WhenReleased => patience > 0,
                    Retry::Never | Retry::Blocked => false,
                });
                Some(rule)
            }
            Ruling::Unnamed => Some("anonymous: refuse".to_owned()),
            Ruling::Crowded => Some("memory.overflow: refuse".to_owned()),
        };
        let refused = refused_by.is_some();
        if let Some(rule) = refused_by {
            *self.by_rule.entry(rule).or_default() += 1;
        }
        self.were_refused += u64::from(call.was_refused);
        self.newly_refused += u64::from(refused && !call.was_refused);
        self.newly_admitted += u64::from(!refused && call.was_refused);
        let place = |place: u32| usize::try_from(place).unwrap_or(usize::MAX);
        let counts = [
            Some(&mut self.total),
            self.by_tool.get_mut(place(call.tool)),
            self.by_user.get_mut(place(call.user)),
        ];
        for count in counts.into_iter().flatten() {
            count.calls += 1;
            count.refused += u64::from(refused);
        }
    }
}
