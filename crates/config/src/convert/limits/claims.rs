//! Converts `perClaim`: limits for callers by the value of a claim.

use vmcp_ratelimit::policy::{LimitPolicy, ListHandling, MissingValue, ValueQuota, ValueSource};

use super::quota::quota_with_overrides;
use super::{PATH, overrides};
use crate::convert::Findings;
use crate::file::{ClaimLists, ClaimRateLimit, LimitMode, MissingClaimOutcome, RateLimitBucket};
use crate::report::item_path;

/// The limits by claim of the rule at `path`.
pub(super) fn convert(
    file: Vec<ClaimRateLimit>,
    path: &str,
    mode: LimitMode,
    findings: &mut Findings<'_>,
) -> Vec<ValueQuota> {
    let mut names = std::collections::HashSet::new();
    let mut limits = Vec::new();
    for (index, limit) in file.into_iter().enumerate() {
        let path = item_path(&format!("{path}.perClaim"), index);
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
            mode: bucket_mode,
            enforce_percent,
        } = limit;
        if claim.trim().is_empty() {
            findings.add_problem(format!("{path}.claim"), "must not be empty");
        }
        if !names.insert(claim.clone()) {
            findings
                .add_problem(format!("{path}.claim"), format!("`{claim}` has a limit here already"))
                .hint = Some("put both into one, as `windows`".to_owned());
        }
        let period = refill_period.filter(|_| windows.is_empty());
        let sizes = overrides::per_value(overrides, &claim, period, &path, findings);
        let bucket = RateLimitBucket {
            max_tokens,
            refill_period,
            burst,
            windows,
            quota,
            mode: bucket_mode,
            enforce_percent,
            ..RateLimitBucket::default()
        };
        let Some(quota) = quota_with_overrides(bucket, sizes, &path, mode, findings) else { continue };
        let missing = match missing {
            Some(MissingClaimOutcome::Refuse) | None => MissingValue::Refuse,
            Some(MissingClaimOutcome::Shared) => MissingValue::Shared,
        };
        let lists = match lists {
            None => ListHandling::Missing,
            Some(ClaimLists::Each) => ListHandling::Each,
            Some(ClaimLists::Largest) => ListHandling::Largest,
        };
        limits.push(ValueQuota {
            source: ValueSource::Claim(claim.into()),
            missing,
            list_handling: lists,
            quota,
        });
    }
    limits
}

/// Reports limits that would refuse every call, because callers without identity have no claims.
pub(super) fn check_anonymous(policy: &LimitPolicy, findings: &mut Findings<'_>) {
    if policy
        .limits()
        .flat_map(|limits| &limits.per_value)
        .filter(|limit| matches!(limit.source, ValueSource::Claim(_)))
        .any(|limit| limit.missing == MissingValue::Refuse && limit.quota.enforced_percent() > 0)
    {
        findings
            .add_problem(format!("{PATH}.perClaim"), "refuses every call, since no caller has claims")
            .hint = Some("let callers authenticate, or write `missing: shared`".to_owned());
    }
}
