//! Converts `overrides`: other sizes of a limit for single callers, or for single values of a claim, argument
//! or header.

use std::sync::Arc;

use vmcp_identity::API_KEY_ISSUER;
use vmcp_ratelimit::policy::{CallerSelector, LimitPolicy, LimitSize, Limits, Override, Overrides};

use super::windows::windows;
use super::{KnownCallers, PATH};
use crate::convert::Findings;
use crate::file::{GoDuration, RateLimitOverride};
use crate::report::item_path;

/// The name of every caller or value that no other override names.
pub(super) const ANY_OTHER: &str = "*";

/// The overrides of the limit per user at `path`. `period` is the period of the limit if it has a single
/// window, the default of their `refillPeriod`.
pub(super) fn per_user(
    file: Vec<RateLimitOverride>,
    period: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Overrides {
    convert(file, period, path, findings, parse_caller)
}

/// The overrides of a limit for each value of a claim, argument or header. `of` is the name of that claim,
/// argument or header; `period` is as in [`per_user`].
pub(super) fn per_value(
    file: Vec<RateLimitOverride>,
    of: &str,
    period: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Overrides {
    let of: Arc<str> = of.into();
    convert(file, period, path, findings, |file, path, findings| parse_value(file, &of, path, findings))
}

fn convert(
    file: Vec<RateLimitOverride>,
    period: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
    parse_target: impl Fn(&RateLimitOverride, &str, &mut Findings<'_>) -> Option<CallerSelector>,
) -> Overrides {
    let mut overrides: Vec<Override> = Vec::new();
    for (index, file) in file.into_iter().enumerate() {
        let path = item_path(&format!("{path}.overrides"), index);
        let parse_target = parse_target(&file, &path, findings);
        if parse_target
            .as_ref()
            .is_some_and(|parse_target| overrides.iter().any(|one| one.selector == *parse_target))
        {
            findings.add_problem(&path, "names whom an earlier override names").hint =
                Some("the first would count; remove one of them".to_owned());
        }
        if let (Some(parse_target), Some(size)) = (parse_target, parse_size(file, period, &path, findings)) {
            overrides.push(Override { selector: parse_target, size });
        }
    }
    Overrides::new(overrides)
}

/// The callers that an override of a limit per user names.
pub(super) fn parse_caller(
    file: &RateLimitOverride,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<CallerSelector> {
    let RateLimitOverride { subject, issuer, api_key, group, claim, value, .. } = file;
    let named = [subject, api_key, group, claim];
    let given: Vec<&String> = named.into_iter().flatten().collect();
    if given.len() != 1 {
        let text = if given.is_empty() { "names no caller" } else { "names callers in several ways" };
        findings.add_problem(path, text).hint =
            Some("write one of `subject`, `apiKey`, `group`, or `claim` with `value`".to_owned());
        return None;
    }
    if given.iter().any(|name| name.trim().is_empty()) {
        findings.add_problem(path, "names a caller by an empty text");
        return None;
    }
    if issuer.is_some() && (subject.is_none() || subject.as_deref() == Some(ANY_OTHER)) {
        findings.add_problem(format!("{path}.issuer"), "has no effect without a `subject`");
    }
    if value.is_some() != claim.is_some() {
        let key = if value.is_some() { "claim" } else { "value" };
        findings.add_problem(format!("{path}.{key}"), "is missing: `claim` and `value` go together").hint =
            Some("`value: \"*\"` is for every caller with the claim".to_owned());
        return None;
    }
    match (subject, api_key, group, claim) {
        (Some(subject), ..) if subject == ANY_OTHER => Some(CallerSelector::Others),
        (Some(subject), ..) => Some(CallerSelector::Subject {
            subject: subject.as_str().into(),
            issuer: issuer.as_deref().map(Into::into),
        }),
        (_, Some(key), ..) => Some(CallerSelector::Subject {
            subject: key.as_str().into(),
            issuer: Some(API_KEY_ISSUER.into()),
        }),
        (_, _, Some(group), _) if group == ANY_OTHER => {
            findings.add_problem(format!("{path}.group"), "`*` is not a group").hint =
                Some("`subject: \"*\"` is for callers that no other override is for".to_owned());
            None
        }
        (_, _, Some(group), _) => Some(CallerSelector::Group(group.as_str().into())),
        (_, _, _, claim) => {
            let value = value.clone()?.into_text();
            let value = (value != ANY_OTHER).then(|| value.into());
            Some(CallerSelector::Claim { claim: claim.as_deref()?.into(), value })
        }
    }
}

/// The value that an override of a limit for each value names.
fn parse_value(
    file: &RateLimitOverride,
    of: &Arc<str>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<CallerSelector> {
    let RateLimitOverride { subject, issuer, api_key, group, claim: other, value, .. } = file;
    if [subject, issuer, api_key, group, other].into_iter().any(Option::is_some) {
        findings.add_problem(path, "names callers, but the bucket is that of a value").hint =
            Some("name a `value`, or write the override in `perUser`".to_owned());
        return None;
    }
    let Some(value) = value.clone() else {
        findings.add_problem(format!("{path}.value"), "is missing").hint =
            Some("name a value; `\"*\"` is for every value that has no override".to_owned());
        return None;
    };
    let value = value.into_text();
    if value == ANY_OTHER {
        return Some(CallerSelector::Others);
    }
    Some(CallerSelector::Claim { claim: of.clone(), value: Some(value.into()) })
}

/// The size that an override sets.
fn parse_size(
    file: RateLimitOverride,
    period: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<LimitSize> {
    let RateLimitOverride { max_tokens, refill_period, burst, windows: further, quota, unlimited, .. } = file;
    let has_other_keys = refill_period.is_some() || burst.is_some() || !further.is_empty() || quota.is_some();
    if unlimited == Some(true) {
        if has_other_keys || max_tokens.is_some() {
            findings
                .add_problem(format!("{path}.unlimited"), "contradicts the size that is written beside it");
        }
        return Some(LimitSize::Unlimited);
    }
    if max_tokens == Some(0) {
        if has_other_keys {
            findings.add_problem(
                format!("{path}.maxTokens"),
                "of 0 allows no call, whatever is written beside it",
            );
        }
        return Some(LimitSize::Blocked);
    }
    let refill_period = refill_period.or_else(|| period.filter(|_| max_tokens.is_some()));
    let windows = windows((max_tokens, refill_period, burst), (further, quota), path, findings);
    (!windows.is_empty()).then_some(LimitSize::Windows(windows))
}

/// Reports overrides for API keys that do not exist: no call can ever match them.
pub(super) fn check(policy: &LimitPolicy, callers: &KnownCallers, findings: &mut Findings<'_>) {
    let overrides = policy.limits().flat_map(Limits::quotas).flat_map(|quota| quota.overrides.iter());
    for one in overrides {
        let CallerSelector::Subject { subject, issuer: Some(issuer) } = &one.selector else { continue };
        if **issuer == *API_KEY_ISSUER && !callers.api_keys.iter().any(|name| **name == **subject) {
            let text = format!("names the API key `{subject}`, which is not configured");
            findings.add_problem(PATH, text).hint = Some("name one of `incomingAuth.apiKeys`".to_owned());
        }
    }
}
