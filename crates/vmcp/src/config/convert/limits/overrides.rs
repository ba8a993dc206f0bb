//! `overrides`: what a limit allows callers, or values of a claim, that it names.

use std::sync::Arc;

use vmcp_identity::API_KEY_ISSUER;
use vmcp_ratelimit::policy::{LimitPolicy, Limits, Override, Overrides, Size, Who};

use super::quota::windows;
use super::{Callers, PATH};
use crate::config::convert::Findings;
use crate::config::file::{GoDuration, RateLimitOverride};
use crate::config::report::item;

/// Names every caller or value that no other override is for.
pub(super) const REST: &str = "*";

/// Those of a limit per user at `path`, of which the only window has this period.
pub(super) fn per_user(
    file: Vec<RateLimitOverride>,
    period: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Overrides {
    convert(file, period, path, findings, caller)
}

/// Those of a limit for each value of a claim, argument or header.
pub(super) fn per_value(
    file: Vec<RateLimitOverride>,
    of: &str,
    period: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Overrides {
    let of: Arc<str> = of.into();
    convert(file, period, path, findings, |file, path, findings| value(file, &of, path, findings))
}

fn convert(
    file: Vec<RateLimitOverride>,
    period: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
    who: impl Fn(&RateLimitOverride, &str, &mut Findings<'_>) -> Option<Who>,
) -> Overrides {
    let mut overrides: Vec<Override> = Vec::new();
    for (index, file) in file.into_iter().enumerate() {
        let path = item(&format!("{path}.overrides"), index);
        let who = who(&file, &path, findings);
        if who.as_ref().is_some_and(|who| overrides.iter().any(|one| one.who == *who)) {
            findings.problem(&path, "names whom an earlier override names").hint =
                Some("the first would count; remove one of them".to_owned());
        }
        if let (Some(who), Some(size)) = (who, size(file, period, &path, findings)) {
            overrides.push(Override { who, size });
        }
    }
    Overrides::new(overrides)
}

/// Whom an override of a limit per user names.
pub(super) fn caller(file: &RateLimitOverride, path: &str, findings: &mut Findings<'_>) -> Option<Who> {
    let RateLimitOverride { subject, issuer, api_key, group, claim, value, .. } = file;
    let named = [subject, api_key, group, claim];
    let given: Vec<&String> = named.into_iter().flatten().collect();
    if given.len() != 1 {
        let text = if given.is_empty() { "names no caller" } else { "names callers in several ways" };
        findings.problem(path, text).hint =
            Some("write one of `subject`, `apiKey`, `group`, or `claim` with `value`".to_owned());
        return None;
    }
    if given.iter().any(|name| name.trim().is_empty()) {
        findings.problem(path, "names a caller by an empty text");
        return None;
    }
    if issuer.is_some() && (subject.is_none() || subject.as_deref() == Some(REST)) {
        findings.problem(format!("{path}.issuer"), "has no effect without a `subject`");
    }
    if value.is_some() != claim.is_some() {
        let key = if value.is_some() { "claim" } else { "value" };
        findings.problem(format!("{path}.{key}"), "is missing: `claim` and `value` go together").hint =
            Some("`value: \"*\"` is for every caller with the claim".to_owned());
        return None;
    }
    match (subject, api_key, group, claim) {
        (Some(subject), ..) if subject == REST => Some(Who::Rest),
        (Some(subject), ..) => {
            Some(Who::Subject { subject: subject.as_str().into(), issuer: issuer.as_deref().map(Into::into) })
        }
        (_, Some(key), ..) => {
            Some(Who::Subject { subject: key.as_str().into(), issuer: Some(API_KEY_ISSUER.into()) })
        }
        (_, _, Some(group), _) if group == REST => {
            findings.problem(format!("{path}.group"), "`*` is no group").hint =
                Some("`subject: \"*\"` is for callers that no other override is for".to_owned());
            None
        }
        (_, _, Some(group), _) => Some(Who::Group(group.as_str().into())),
        (_, _, _, claim) => {
            let value = value.clone()?.into_text();
            let value = (value != REST).then(|| value.into());
            Some(Who::Claim { claim: claim.as_deref()?.into(), value })
        }
    }
}

/// Which value an override of a limit for each value names.
fn value(file: &RateLimitOverride, of: &Arc<str>, path: &str, findings: &mut Findings<'_>) -> Option<Who> {
    let RateLimitOverride { subject, issuer, api_key, group, claim: other, value, .. } = file;
    if [subject, issuer, api_key, group, other].into_iter().any(Option::is_some) {
        findings.problem(path, "names callers, but the bucket is that of a value").hint =
            Some("name a `value`, or write the override in `perUser`".to_owned());
        return None;
    }
    let Some(value) = value.clone() else {
        findings.problem(format!("{path}.value"), "is missing").hint =
            Some("name a value; `\"*\"` is for every value that has no override".to_owned());
        return None;
    };
    let value = value.into_text();
    if value == REST {
        return Some(Who::Rest);
    }
    Some(Who::Claim { claim: of.clone(), value: Some(value.into()) })
}

/// What an override allows.
fn size(
    file: RateLimitOverride,
    period: Option<GoDuration>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<Size> {
    let RateLimitOverride { max_tokens, refill_period, burst, windows: further, quota, unlimited, .. } = file;
    let says_more = refill_period.is_some() || burst.is_some() || !further.is_empty() || quota.is_some();
    if unlimited == Some(true) {
        if says_more || max_tokens.is_some() {
            findings.problem(format!("{path}.unlimited"), "contradicts the size that is written beside it");
        }
        return Some(Size::Unlimited);
    }
    if max_tokens == Some(0) {
        if says_more {
            findings
                .problem(format!("{path}.maxTokens"), "of 0 allows no call, whatever is written beside it");
        }
        return Some(Size::Blocked);
    }
    let refill_period = refill_period.or_else(|| period.filter(|_| max_tokens.is_some()));
    let windows = windows((max_tokens, refill_period, burst), (further, quota), path, findings);
    (!windows.is_empty()).then_some(Size::Windows(windows))
}

/// An API key that is not there never calls.
pub(super) fn check(policy: &LimitPolicy, callers: &Callers, findings: &mut Findings<'_>) {
    let overrides = policy.limits().flat_map(Limits::quotas).flat_map(|quota| quota.overrides.iter());
    for one in overrides {
        let Who::Subject { subject, issuer: Some(issuer) } = &one.who else { continue };
        if **issuer == *API_KEY_ISSUER && !callers.api_keys.iter().any(|name| **name == **subject) {
            let text = format!("names the API key `{subject}`, which is not configured");
            findings.problem(PATH, text).hint = Some("name one of `incomingAuth.apiKeys`".to_owned());
        }
    }
}
