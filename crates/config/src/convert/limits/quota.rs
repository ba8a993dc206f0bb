//! Converts token buckets and calendar quotas: windows, modes and percentages.

use std::num::NonZeroU8;
use std::sync::Arc;

use vmcp_ratelimit::policy::{Mode, Overrides, Quota, Window};
use vmcp_ratelimit::{Calendar, CalendarError, PeriodUnit, Rate, RateError};

use super::{overrides, reserved};
use crate::convert::Findings;
use crate::duration::format;
use crate::file::{CallQuota, GoDuration, LimitMode, QuotaPeriod, RateLimitBucket, RateLimitWindow};
use crate::report::item_path;

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
    let windows = self::windows((max_tokens, refill_period, burst), (windows, quota), path, findings);
    let mode = match mode.unwrap_or(inherited) {
        LimitMode::Enforce => Mode::Enforce,
        LimitMode::Shadow => Mode::Shadow,
        LimitMode::Off => return None,
    };
    let percent = percent(enforce_percent, mode, path, findings);
    (!windows.is_empty()).then_some(Quota { windows, mode, percent, overrides })
}

/// The windows of the bucket at `path`: those of the token bucket, and one for the calendar quota.
pub(super) fn windows(
    (max_tokens, refill_period, burst): (Option<u64>, Option<GoDuration>, Option<u64>),
    (windows, quota): (Vec<RateLimitWindow>, Option<CallQuota>),
    path: &str,
    findings: &mut Findings<'_>,
) -> Vec<Window> {
    let mut rates = Vec::new();
    match (max_tokens, refill_period) {
        (Some(max_tokens), Some(refill_period)) => {
            rates.extend(rate(RateLimitWindow { max_tokens, refill_period, burst }, path, findings));
        }
        (Some(_), None) => {
            findings.add_problem(format!("{path}.refillPeriod"), "is required with `maxTokens`");
        }
        (None, Some(_)) => {
            findings.add_problem(format!("{path}.maxTokens"), "is required with `refillPeriod`");
        }
        (None, None) if burst.is_some() => {
            findings.add_problem(format!("{path}.maxTokens"), "is required with `burst`");
        }
        (None, None) if windows.is_empty() && quota.is_none() => {
            findings.add_problem(path, "needs `maxTokens` and `refillPeriod`, `windows` or `quota`");
        }
        (None, None) => {}
    }
    for (index, window) in windows.into_iter().enumerate() {
        rates.extend(rate(window, &item_path(&format!("{path}.windows"), index), findings));
    }
    check_periods(&rates, path, findings);
    let quota = quota.and_then(|quota| calendar_window(quota, &format!("{path}.quota"), findings));
    rates.into_iter().map(Window::from).chain(quota).collect()
}

/// The window of a calendar quota.
fn calendar_window(file: CallQuota, path: &str, findings: &mut Findings<'_>) -> Option<Window> {
    let CallQuota { calls, per, time_zone, resets_at } = file;
    let per = match per {
        QuotaPeriod::Hour => PeriodUnit::Hour,
        QuotaPeriod::Day => PeriodUnit::Day,
        QuotaPeriod::Week => PeriodUnit::Week,
        QuotaPeriod::Month => PeriodUnit::Month,
    };
    let (zone, resets_at) = (time_zone.as_deref().unwrap_or("UTC"), resets_at.as_deref().unwrap_or("00:00"));
    let calendar = match Calendar::new(per, zone, resets_at) {
        Ok(calendar) => calendar,
        Err(error @ CalendarError::Zone) => {
            findings.add_problem(format!("{path}.timeZone"), format!("`{zone}` {error}")).hint =
                Some("write a name such as `Europe/Berlin`, or leave it out for UTC".to_owned());
            return None;
        }
        Err(error @ (CalendarError::Time | CalendarError::Hour)) => {
            findings.add_problem(format!("{path}.resetsAt"), format!("`{resets_at}` {error}")).hint =
                Some("write hours and minutes, such as `06:00`".to_owned());
            return None;
        }
    };
    match Window::by_calendar(calls, Arc::new(calendar)) {
        Ok(window) => Some(window),
        Err(error) => {
            findings.add_problem(format!("{path}.calls"), error.to_string());
            None
        }
    }
}

/// Reports two windows with the same period. A window is identified by its period, so that its level is found
/// again when its size or the order of windows changes.
fn check_periods(rates: &[Rate], path: &str, findings: &mut Findings<'_>) {
    let period = |rate: &Rate| rate.configured().1;
    for (index, rate) in rates.iter().enumerate() {
        if rates.iter().take(index).any(|earlier| period(earlier) == period(rate)) {
            let text = format!("two windows have the period {}", format(period(rate)));
            findings.add_problem(path, text).hint =
                Some("keep the smaller one, which refuses first".to_owned());
        }
    }
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

fn rate(window: RateLimitWindow, path: &str, findings: &mut Findings<'_>) -> Option<Rate> {
    let RateLimitWindow { max_tokens, refill_period, burst } = window;
    let capacity = burst.unwrap_or(max_tokens);
    if burst == Some(0) {
        findings.add_problem(format!("{path}.burst"), "must be at least 1, or no call could pass");
        return None;
    }
    match Rate::new(max_tokens, refill_period.0, capacity) {
        Ok(rate) => Some(rate),
        Err(error) => {
            let key = match error {
                RateError::TooManyTokens if capacity > max_tokens => "burst",
                RateError::NoTokens | RateError::TooManyTokens | RateError::Inexact => "maxTokens",
                RateError::NoPeriod | RateError::TooFine => "refillPeriod",
            };
            let text = match error {
                RateError::Inexact => format!("{max_tokens} tokens in {}: {error}", format(refill_period.0)),
                RateError::NoTokens | RateError::TooManyTokens | RateError::NoPeriod | RateError::TooFine => {
                    error.to_string()
                }
            };
            findings.add_problem(format!("{path}.{key}"), text);
            None
        }
    }
}
