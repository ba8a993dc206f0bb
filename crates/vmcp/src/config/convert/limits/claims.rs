//! `perClaim`: limits for callers by what their claims say.

use vmcp_ratelimit::policy::{LimitPolicy, Lists, MissingValue, ValueOf, ValueQuota};

use super::quota::sized;
use super::{PATH, overrides};
use crate::config::convert::Findings;
use crate::config::file::{ClaimLists, ClaimRateLimit, LimitMode, MissingClaimOutcome, RateLimitBucket};
use crate::config::report::item;

/// The limits of a rule at `path`.
pub(super) fn convert(
    file: Vec<ClaimRateLimit>,
    path: &str,
    mode: LimitMode,
    findings: &mut Findings<'_>,
) -> Vec<ValueQuota> {
    let mut names = std::collections::HashSet::new();
    let mut limits = Vec::new();
    for (index, limit) in file.into_iter().enumerate() {
        let path = item(&format!("{path}.perClaim"), index);
        let ClaimRateLimit {
            claim,
            missing,
            lists,
            max_tokens,
            refill_period,
            burst,
            windows,
            quota,
            overrides,
            mode: own,
            enforce_percent,
        } = limit;
        if claim.trim().is_empty() {
            findings.problem(format!("{path}.claim"), "must not be empty");
        }
        if !names.insert(claim.clone()) {
            findings.problem(format!("{path}.claim"), format!("`{claim}` has a limit here already")).hint =
                Some("put both into one, as `windows`".to_owned());
        }
        let period = refill_period.filter(|_| windows.is_empty());
        let sizes = overrides::per_value(overrides, &claim, period, &path, findings);
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
        let Some(quota) = sized(bucket, sizes, &path, mode, findings) else { continue };
        let missing = match missing {
            Some(MissingClaimOutcome::Refuse) | None => MissingValue::Refuse,
            Some(MissingClaimOutcome::Shared) => MissingValue::Shared,
        };
        let lists = match lists {
            None => Lists::Missing,
            Some(ClaimLists::Each) => Lists::Each,
            Some(ClaimLists::Largest) => Lists::Largest,
        };
        limits.push(ValueQuota { of: ValueOf::Claim(claim.into()), missing, lists, quota });
    }
    limits
}

/// Without identities there are no claims.
pub(super) fn check_anonymous(policy: &LimitPolicy, findings: &mut Findings<'_>) {
    if policy
        .limits()
        .flat_map(|limits| &limits.per_value)
        .filter(|limit| matches!(limit.of, ValueOf::Claim(_)))
        .any(|limit| limit.missing == MissingValue::Refuse && limit.quota.enforced_percent() > 0)
    {
        findings.problem(format!("{PATH}.perClaim"), "refuses every call, since no caller has claims").hint =
            Some("let callers authenticate, or write `missing: shared`".to_owned());
    }
}
