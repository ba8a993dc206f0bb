//! `perClaim`: limits for callers by what their claims say.

use vmcp_ratelimit::policy::{ClaimQuota, LimitPolicy, MissingClaim};

use super::{PATH, quota};
use crate::config::convert::Findings;
use crate::config::file::{ClaimRateLimit, LimitMode, MissingClaimOutcome, RateLimitBucket};
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
        let ClaimRateLimit { claim, missing, max_tokens, refill_period, windows, mode: own, enforce_percent } =
            limit;
        if claim.trim().is_empty() {
            findings.problem(format!("{path}.claim"), "must not be empty");
        }
        if !names.insert(claim.clone()) {
            findings.problem(format!("{path}.claim"), format!("`{claim}` has a limit here already")).hint =
                Some("put both into one, as `windows`".to_owned());
        }
        let bucket = RateLimitBucket { max_tokens, refill_period, windows, mode: own, enforce_percent };
        let Some(quota) = quota(Some(bucket), &path, mode, findings) else { continue };
        let missing = match missing {
            Some(MissingClaimOutcome::Refuse) | None => MissingClaim::Refuse,
            Some(MissingClaimOutcome::Shared) => MissingClaim::Shared,
        };
        limits.push(ClaimQuota { claim: claim.into(), missing, quota });
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
