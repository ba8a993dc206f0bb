//! `perClaim`: limits for callers by what their claims say.

use vmcp_ratelimit::policy::{ClaimQuota, LimitPolicy, Lists, MissingClaim};

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
) -> Vec<ClaimQuota> {
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
        let sizes = overrides::per_claim(overrides, &claim, period, &path, findings);
        let overrides = Vec::new();
        let bucket = RateLimitBucket {
            max_tokens,
            refill_period,
            burst,
            windows,
            quota,
            overrides,
            mode: own,
            enforce_percent,
        };
        let Some(quota) = sized(bucket, sizes, &path, mode, findings) else { continue };
        let missing = match missing {
            Some(MissingClaimOutcome::Refuse) | None => MissingClaim::Refuse,
            Some(MissingClaimOutcome::Shared) => MissingClaim::Shared,
        };
        let lists = match lists {
            None => Lists::Missing,
            Some(ClaimLists::Each) => Lists::Each,
            Some(ClaimLists::Largest) => Lists::Largest,
        };
        limits.push(ClaimQuota { claim: claim.into(), missing, lists, quota });
    }
    limits
}

/// Without identities there are no claims.
pub(super) fn check_anonymous(policy: &LimitPolicy, findings: &mut Findings<'_>) {
    if policy
        .limits()
        .flat_map(|limits| &limits.per_claim)
        .any(|limit| limit.missing == MissingClaim::Refuse && limit.quota.enforced_percent() > 0)
    {
        findings.problem(format!("{PATH}.perClaim"), "refuses every call, since no caller has claims").hint =
            Some("let callers authenticate, or write `missing: shared`".to_owned());
    }
}
