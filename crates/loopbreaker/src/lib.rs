//! The loop breaker: detects calls that repeat with the same caller, tool, arguments and outcome. From a
//! configured count on the call is not made, and the caller gets an error that says so. Agents that do not
//! notice such a loop burn budgets; a call that is not made is not charged.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};
use vmcp_domain::{
    CallContext, CallTool, Error, Gateway, GatewayFuture, NamePattern, RepeatedCall, Reply, ResultType,
    SharedGateway, accounting_address, forward,
};
use vmcp_timing::{Clock, Micros};

/// The largest number of different calls that are tracked. Beyond it further calls pass uncounted.
const CALLS_MAX: usize = 100_000;

/// When a call counts as a loop.
#[derive(Clone, Debug)]
pub struct LoopPolicy {
    /// How many times in a row a call may have the same outcome.
    pub repeats: NonZeroU32,
    /// How long after its last outcome such a call is not made again. After that one call passes. If it has
    /// the same outcome, the next pause begins.
    pub within: Duration,
    /// The advertised tools that are watched. `None` watches all tools except those annotated as not
    /// read-only: pressing a key twice has the same outcome both times, and is intended.
    pub tools: Option<Vec<NamePattern>>,
}

/// The gateway layer that breaks loops.
pub struct LoopBreaker {
    inner: SharedGateway,
    policy: LoopPolicy,
    /// Patterns of the names that a watched tool can have: each of `policy.tools`, after any prefix.
    candidates: Option<Vec<NamePattern>>,
    clock: Arc<dyn Clock>,
    /// Calls are keyed by digests under a secret of this process, so no argument and no subject is stored.
    hashers: (RandomState, RandomState),
    tracker: Mutex<RepeatTracker>,
}

#[derive(Default)]
struct RepeatTracker {
    streaks: HashMap<u128, Streak>,
    swept_at: Micros,
}

/// A run of equal outcomes.
#[derive(Clone, Copy)]
struct Streak {
    outcome: u64,
    count: u32,
    last_at: Micros,
}

impl LoopBreaker {
    /// Wraps `inner` in this layer.
    #[must_use]
    pub fn wrap(inner: SharedGateway, policy: LoopPolicy, clock: Arc<dyn Clock>) -> SharedGateway {
        let hashers = (RandomState::new(), RandomState::new());
        let candidates = policy.tools.as_deref().map(candidates);
        Arc::new(Self { inner, policy, candidates, clock, hashers, tracker: Mutex::default() })
    }

    fn lock_tracker(&self) -> MutexGuard<'_, RepeatTracker> {
        self.tracker.lock()
    }

    fn within_micros(&self) -> u64 {
        u64::try_from(self.policy.within.as_micros()).unwrap_or(u64::MAX)
    }

    /// The key of a call; `None` if the call cannot be watched. A later round of a call (one with a
    /// continuation) is not a call of its own.
    fn call_key(&self, ctx: &CallContext, call: &CallTool) -> Option<u128> {
        let fits = |pattern: &NamePattern| pattern.matches(call.name.as_str());
        let is_candidate = self.candidates.as_ref().is_none_or(|patterns| patterns.iter().any(fits));
        // A script may make equal calls on purpose, for example while it waits for something.
        if !is_candidate || !call.continuation.is_empty() || ctx.run.is_some() {
            return None;
        }
        let who = ctx.caller.identity().map(|identity| (&identity.issuer, &identity.subject));
        // Callers without identity are distinguished by address, so that one caller neither ends nor starts
        // the loop of another.
        let from = if who.is_none() { ctx.peer_address.map(accounting_address) } else { None };
        let arguments = call.arguments.as_ref().map(vmcp_json::Json::as_str);
        let parts = (who, from, call.name.as_str(), arguments);
        let (high, low) = (self.hashers.0.hash_one(parts), self.hashers.1.hash_one(parts));
        Some(u128::from(high) << 64 | u128::from(low))
    }

    fn check(&self, key: u128, call: &CallTool) -> Result<(), Error> {
        let now = self.clock.now();
        let Some(run) = self.lock_tracker().streaks.get(&key).copied() else { return Ok(()) };
        let passed = now.since(run.last_at);
        if run.count < self.policy.repeats.get() || passed >= self.within_micros() {
            return Ok(());
        }
        let retry_after = Duration::from_micros(self.within_micros() - passed);
        Err(Error::Looping(Box::new(RepeatedCall { tool: call.name.clone(), count: run.count, retry_after })))
    }

    /// Whether a tool is not watched: the configuration names others, or names none and the tool is annotated
    /// as not read-only. This is checked only for a call that would not be made, so it costs other calls
    /// nothing.
    async fn is_exempt(&self, ctx: &CallContext, call: &CallTool) -> bool {
        let tools = self.inner.list_tools(ctx).await.unwrap_or_default();
        let tool = tools.iter().find(|tool| tool.name == call.name);
        let Some(watched) = &self.policy.tools else {
            return tool.is_some_and(|tool| tool.hints.read_only == Some(false));
        };
        let is_watched = |name: &str| watched.iter().any(|pattern| pattern.matches(name));
        !is_watched(call.name.as_str()) && !tool.is_some_and(|tool| tool.has_name(is_watched))
    }

    /// Counts an outcome. An error that says nothing about the call itself (a limit, an unavailable backend)
    /// is ignored.
    fn record_outcome(&self, key: u128, outcome: &Result<Reply, Error>) {
        let mut hasher = self.hashers.0.build_hasher();
        match outcome {
            Ok(reply) if reply.result_type == ResultType::Complete => {
                for (name, value) in reply.members.iter().filter(|(name, _)| name != "_meta") {
                    (name.as_ref(), value.as_str()).hash(&mut hasher);
                }
            }
            Err(Error::BackendRefused { error, .. }) => (error.code, &error.message).hash(&mut hasher),
            Ok(_) | Err(_) => return,
        }
        let (outcome, now, within) = (hasher.finish(), self.clock.now(), self.within_micros());
        let mut tracker = self.lock_tracker();
        if tracker.streaks.len() >= CALLS_MAX && now.since(tracker.swept_at) >= within / 8 {
            tracker.swept_at = now;
            tracker.streaks.retain(|_, run| now.since(run.last_at) < within);
        }
        let full = tracker.streaks.len() >= CALLS_MAX;
        match tracker.streaks.get_mut(&key) {
            // After a pause too: a call that is made again and has the same outcome is still a loop.
            Some(run) if run.outcome == outcome => {
                run.count = run.count.saturating_add(1);
                run.last_at = now;
            }
            Some(run) => *run = Streak { outcome, count: 1, last_at: now },
            None if full => {}
            None => drop(tracker.streaks.insert(key, Streak { outcome, count: 1, last_at: now })),
        }
    }
}

/// A contested name is the end of the advertised name, so the patterns of all names that may be watched need no
/// list of tools. Whether a repeated call is watched is checked with the list.
fn candidates(watched: &[NamePattern]) -> Vec<NamePattern> {
    watched.iter().map(|pattern| NamePattern::new(format!("*{pattern}"))).collect()
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for LoopBreaker {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        let Some(key) = self.call_key(ctx, &request) else { return self.inner.call_tool(ctx, request) };
        Box::pin(async move {
            if let Err(error) = self.check(key, &request)
                && !self.is_exempt(ctx, &request).await
            {
                return Err(error);
            }
            let outcome = self.inner.call_tool(ctx, request).await;
            self.record_outcome(key, &outcome);
            outcome
        })
    }

    forward!(
        list_tools,
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task,
    );
}

#[cfg(test)]
mod tests;
