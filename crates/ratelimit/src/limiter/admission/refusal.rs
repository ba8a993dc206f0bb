//! Refusals as errors: which rule refuses, and for how long.

use std::time::Duration;

use vmcp_domain::{Error, LimitScope, RateLimit, Retry};
use vmcp_timing::Clock;

use crate::bucket::decide::Wait;
use crate::limiter::ToolPlan;
use crate::plan::Plan;
use crate::plan::policy::Mode;

/// The refusal by one bucket of a plan.
pub(in crate::limiter) fn rate_limited_error(
    tool_plan: &ToolPlan,
    plan: &Plan,
    index: usize,
    wait: Wait,
) -> Error {
    Error::RateLimited(Box::new(bucket_rate_limit(tool_plan, plan, index, wait)))
}

/// The refusal by the bucket at index `place`, with its wait.
pub(in crate::limiter) fn bucket_rate_limit(
    tool_plan: &ToolPlan,
    plan: &Plan,
    index: usize,
    wait: Wait,
) -> RateLimit {
    let bucket = plan.buckets.get(index);
    RateLimit {
        operation: tool_plan.limited.clone(),
        rule: bucket.map(|bucket| bucket.rule.to_string()).unwrap_or_default(),
        scope: bucket.map_or(LimitScope::Server, |bucket| bucket.scope),
        retry: match wait {
            Wait::None => Retry::After(Duration::ZERO),
            // The end of its period was not looked up, so the retry is the length of a whole period.
            Wait::Micros(u64::MAX) => {
                let period =
                    bucket.and_then(|bucket| bucket.calendar_period.as_ref()).map(|resets| resets.period);
                let longest = period.map_or(u64::MAX, |period| period.end.since(period.start));
                Retry::After(Duration::from_micros(longest))
            }
            Wait::Micros(micros) => Retry::After(Duration::from_micros(micros)),
            Wait::UntilReleased => Retry::WhenReleased,
            Wait::Never if bucket.is_some_and(|bucket| bucket.is_blocked) => Retry::Blocked,
            Wait::Never => Retry::Never,
        },
        resets_at: bucket.and_then(|bucket| bucket.calendar_period.as_ref()).map(|resets| resets.local_end()),
        allowance: bucket.map(|bucket| bucket.rate.configured()),
    }
}

/// The refusal of a shared store: the longest wait over all buckets that refuse.
pub(in crate::limiter) fn shared_rate_limited_error(
    tool_plan: &ToolPlan,
    levels: &[i64],
    clock: &dyn Clock,
) -> Error {
    let waits = tool_plan.plan.buckets.iter().zip(levels).enumerate().map(|(index, (bucket, level))| {
        let snapshot = bucket.snapshot(*level, clock);
        (index, if bucket.mode == Mode::Enforce { snapshot.wait() } else { Wait::None })
    });
    let waits: Vec<(usize, Wait)> = waits.collect();
    let (index, wait) = waits.into_iter().rev().max_by_key(|(_, wait)| *wait).unwrap_or((0, Wait::Never));
    rate_limited_error(tool_plan, &tool_plan.plan, index, wait)
}
