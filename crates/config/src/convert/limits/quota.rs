//! Converts limits: their modes and percentages. `windows` converts their windows.

use std::num::NonZeroU8;

use vmcp_ratelimit::policy::{Mode, Overrides, Quota};

use super::windows::windows as convert_windows;
use super::{overrides, reserved};
use crate::convert::Findings;
use crate::file::{LimitMode, RateLimitBucket};

/// The limit for all callers together, and the limit of the unreserved part for callers that `reserved` does
/// not name.
pub(super) fn shared_quota(
    bucket: Option<RateLimitBucket>,
    path: &str,
    inherited: LimitMode,
    findings: &mut Findings<'_>,
) -> (Option<Quota>, Option<Quota>) {
    let Some(mut bucket) = bucket else { return (None, None) };
    if !bucket.overrides.is_empty() {
        findings
            .add_problem(format!("{path}.overrides"), "has no meaning where all callers share one bucket")
            .hint =
            Some("write it in `perUser` or `perClaim`, or keep a part of it for some: `reserved`".to_owned());
    }
    let reserved = bucket.reserved.take();
    let shared = quota_with_overrides(bucket, Overrides::default(), path, inherited, findings);
    let unreserved = shared.as_ref().zip(reserved).and_then(|(shared, reserved)| {
        reserved::unreserved_quota(shared, reserved, &format!("{path}.reserved"), findings)
    });
    (shared, unreserved)
}

/// The limit for each caller.
pub(super) fn per_user_quota(
    bucket: Option<RateLimitBucket>,
    path: &str,
    inherited: LimitMode,
    findings: &mut Findings<'_>,
) -> Option<Quota> {
    let mut bucket = bucket?;
    let override_list = std::mem::take(&mut bucket.overrides);
    let period = bucket.refill_period.filter(|_| bucket.windows.is_empty());
    let overrides = overrides::per_user(override_list, period, path, findings);
    quota_with_overrides(bucket, overrides, path, inherited, findings)
}

/// A limit with these overrides; `None` if it is off or has no valid window.
pub(super) fn quota_with_overrides(
    bucket: RateLimitBucket,
    overrides: Overrides,
    path: &str,
    inherited: LimitMode,
    findings: &mut Findings<'_>,
) -> Option<Quota> {
    let RateLimitBucket {
        max_tokens,
        refill_period,
        burst,
        windows,
        quota,
        overrides: _,
        reserved,
        mode,
        enforce_percent,
    } = bucket;
    if reserved.is_some() {
        findings
            .add_problem(format!("{path}.reserved"), "has no meaning where callers share no bucket")
            .hint = Some("write it in `shared`".to_owned());
    }
    let windows = convert_windows((max_tokens, refill_period, burst), (windows, quota), path, findings);
    let mode = match mode.unwrap_or(inherited) {
        LimitMode::Enforce => Mode::Enforce,
        LimitMode::Shadow => Mode::Shadow,
        LimitMode::Off => return None,
    };
    let percent = percent(enforce_percent, mode, path, findings);
    (!windows.is_empty()).then_some(Quota { windows, mode, percent, overrides })
}

/// The percentage of callers for whom a limit refuses calls; `None` for all of them.
fn percent(file: Option<u8>, mode: Mode, path: &str, findings: &mut Findings<'_>) -> Option<NonZeroU8> {
    let percent = file?;
    let path = format!("{path}.enforcePercent");
    if !(1..=100).contains(&percent) {
        findings.add_problem(path, "must be from 1 to 100").hint =
            Some("`mode: shadow` enforces a limit for no caller".to_owned());
    } else if mode == Mode::Shadow {
        findings.add_warning(path, "has no effect in shadow mode, which enforces the limit for no caller");
    }
    NonZeroU8::new(percent).filter(|percent| percent.get() < 100)
}
