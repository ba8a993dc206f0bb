//! Converts `maxWait` and `waiting`: how long calls wait for limits, and how many of them.

use std::time::Duration;

use vmcp_ratelimit::policy::{LimitPolicy, Limits, Mode, Quota, WaitBounds};

use super::PATH;
use crate::convert::Findings;
use crate::file::duration::format;
use crate::file::{GoDuration, LimitWaiting};

/// The longest `maxWait`. No client waits longer, and a waiting call occupies memory.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// The `maxWait` of the section or rule at `path`; `None` if it is left out.
pub(super) fn convert_max_wait(
    file: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<Duration> {
    let GoDuration(wait) = file?;
    if wait > WAIT_MAX {
        let message = format!("{} is too long for a call to wait", format(wait));
        findings.add_problem(format!("{path}.maxWait"), message).hint =
            Some(format!("at most {}; clients give up long before", format(WAIT_MAX)));
        return Some(WAIT_MAX);
    }
    if !wait.is_zero() && wait < Duration::from_millis(1) {
        findings.add_problem(format!("{path}.maxWait"), "must be 0s or at least 1ms");
    }
    Some(wait)
}

/// Warns about a `maxWait` on a rule that never refuses, for which no call ever waits.
pub(super) fn check_rule(limits: &Limits, path: &str, is_written: bool, findings: &mut Findings<'_>) {
    if is_written && !limits.wait_max.is_zero() && !has_enforced_limit(limits) {
        findings.add_warning(format!("{path}.maxWait"), "has no effect on a rule that refuses nothing");
    }
}

/// Warns about a `maxWait` or `waiting` that has no effect anywhere in the section.
pub(super) fn check(
    policy: &LimitPolicy,
    has_max_wait: bool,
    has_waiting_section: bool,
    findings: &mut Findings<'_>,
) {
    if has_max_wait && !policy.server.wait_max.is_zero() && !policy.limits().any(has_enforced_limit) {
        findings.add_warning(format!("{PATH}.maxWait"), "has no effect where nothing is refused");
    }
    if has_waiting_section && !policy.limits().any(|limits| !limits.wait_max.is_zero()) {
        findings.add_warning(format!("{PATH}.waiting"), "has no effect without `maxWait`");
    }
}

fn has_enforced_limit(limits: &Limits) -> bool {
    let concurrency = &limits.concurrency;
    let refuses = |quota: &Quota| quota.mode == Mode::Enforce;
    let bounds_calls = concurrency.shared.is_some() || concurrency.per_user.is_some();
    limits.quotas().any(refuses) || (bounds_calls && concurrency.mode == Mode::Enforce)
}

/// The bounds on how many calls may wait.
pub(super) fn convert_bounds(file: LimitWaiting, findings: &mut Findings<'_>) -> WaitBounds {
    let LimitWaiting { max_calls, max_per_user } = file;
    let default = WaitBounds::default();
    let mut count = |count: Option<u64>, key: &str, default: usize| {
        if count == Some(0) {
            findings.add_problem(
                format!("{PATH}.waiting.{key}"),
                "must be at least 1; leave out `maxWait` to refuse at once",
            );
        }
        count.and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
    };
    WaitBounds {
        count_max: count(max_calls, "maxCalls", default.count_max),
        per_user_count_max: count(max_per_user, "maxPerUser", default.per_user_count_max),
    }
}
