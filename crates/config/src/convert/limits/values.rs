//! Converts `perValue`: limits for calls by the value of an argument or header.

use std::sync::Arc;

use vmcp_ratelimit::policy::{
    CallPart, CallValue, LimitPolicy, ListHandling, MissingValue, ValueQuota, ValueSource,
};

use super::quota::quota_with_overrides;
use super::{KnownCallers, PATH, overrides};
use crate::convert::Findings;
use crate::file::{ClaimText, LimitMode, RateLimitBucket, ValueRateLimit};
use crate::report::item_path;

/// The limits by value of the rule at `path`.
pub(super) fn convert(
    file: Vec<ValueRateLimit>,
    path: &str,
    mode: LimitMode,
    findings: &mut Findings<'_>,
) -> Vec<ValueQuota> {
    let mut limits: Vec<ValueQuota> = Vec::new();
    for (index, limit) in file.into_iter().enumerate() {
        let path = item_path(&format!("{path}.perValue"), index);
        let ValueRateLimit {
            argument,
            header,
            values,
            ignore_case,
            max_tokens,
            refill_period,
            burst,
            windows,
            quota,
            overrides,
            mode: own,
            enforce_percent,
        } = limit;
        let ignore_case = ignore_case == Some(true);
        let Some(part) = call_part(argument, header, &path, findings) else { continue };
        let of =
            ValueSource::Call(CallValue { part, listed: listed_values(values, ignore_case), ignore_case });
        if limits.iter().any(|known| known.source.config_path() == of.config_path()) {
            findings.add_problem(&path, format!("`{}` has a limit here already", of.name())).hint =
                Some("put both into one, as `windows`".to_owned());
        }
        let period = refill_period.filter(|_| windows.is_empty());
        let sizes = overrides::per_value(overrides, of.name(), period, &path, findings);
        let bucket = RateLimitBucket {
            max_tokens,
            refill_period,
            burst,
            windows,
            quota,
            mode: own,
            enforce_percent,
            ..RateLimitBucket::default()
        };
        let Some(quota) = quota_with_overrides(bucket, sizes, &path, mode, findings) else { continue };
        limits.push(ValueQuota {
            source: of,
            missing: MissingValue::Shared,
            list_handling: ListHandling::Missing,
            quota,
        });
    }
    limits
}

/// The argument or header that a limit counts by.
fn call_part(
    argument: Option<String>,
    header: Option<String>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<CallPart> {
    let part = match (argument, header) {
        (Some(argument), None) if !argument.trim().is_empty() => CallPart::Argument(argument.into()),
        (None, Some(header)) if !header.trim().is_empty() => {
            CallPart::Header(header.to_ascii_lowercase().into())
        }
        (Some(_), Some(_)) => {
            findings.add_problem(path, "names an argument and a header").hint =
                Some("write a limit for each".to_owned());
            return None;
        }
        (Some(_), None) | (None, Some(_)) => {
            findings.add_problem(path, "names an argument or header by an empty text");
            return None;
        }
        (None, None) => {
            findings.add_problem(path, "needs `argument` or `header`");
            return None;
        }
    };
    Some(part)
}

fn listed_values(values: Vec<ClaimText>, ignore_case: bool) -> Option<Arc<[Arc<str>]>> {
    let text = |value: ClaimText| {
        let text = value.into_text();
        Arc::from(if ignore_case { text.to_lowercase() } else { text })
    };
    (!values.is_empty()).then(|| values.into_iter().map(text).collect())
}

/// Reports limits by value that cannot work. Callers choose the values of their calls, so a value counts only
/// for a caller with an identity, or if `values` lists it. Headers that the gateway does not pass on are not
/// known to the limiter.
pub(super) fn check(policy: &LimitPolicy, callers: &KnownCallers, findings: &mut Findings<'_>) {
    for limit in policy.limits().flat_map(|limits| &limits.per_value) {
        let ValueSource::Call(value) = &limit.source else { continue };
        let title = limit.source.config_path();
        if callers.are_anonymous && value.listed.is_none() {
            let text = format!("`{title}` keeps buckets for each caller, but no caller has an identity");
            findings.add_problem(PATH, text).hint =
                Some("list the `values` that have a bucket, or let callers authenticate".to_owned());
        }
        if let CallPart::Header(name) = &value.part
            && !callers.headers.iter().any(|known| known.eq_ignore_ascii_case(name))
        {
            findings.add_problem(PATH, format!("`{title}` counts by a header that is not passed on")).hint =
                Some(format!("add `{name}` to `passthroughHeaders`"));
        }
    }
}
