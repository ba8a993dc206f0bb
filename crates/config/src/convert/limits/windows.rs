//! Converts the windows of a limit: token buckets and calendar quotas.

use std::sync::Arc;

use vmcp_ratelimit::policy::Window;
use vmcp_ratelimit::{Calendar, CalendarError, PeriodUnit, Rate, RateError};

use crate::convert::Findings;
use crate::file::duration::format;
use crate::file::{CallQuota, GoDuration, QuotaPeriod, RateLimitWindow};
use crate::report::item_path;

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
