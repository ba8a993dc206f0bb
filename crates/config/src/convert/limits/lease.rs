//! Converts `consistency` and `lease`: whether and how replicas take tokens in advance.

use vmcp_ratelimit::lease::{LEASE, LEASE_MAX, LEASE_MIN};
use vmcp_ratelimit::policy::{Consistency, LeasePolicy, LimitPolicy};

use super::PATH;
use crate::convert::Findings;
use crate::file::duration::format;
use crate::file::{LimitConsistency, LimitLease};

/// How replicas share buckets. With the memory store it is always exact.
pub(super) fn consistency(
    kind: Option<LimitConsistency>,
    file: Option<LimitLease>,
    is_shared: bool,
    findings: &mut Findings<'_>,
) -> Consistency {
    let LimitLease { duration, hold_back } = file.unwrap_or_default();
    let duration = duration.map_or(LEASE, |duration| duration.0);
    if !(LEASE_MIN..=LEASE_MAX).contains(&duration) {
        let message = format!("must be from {} to {}", format(LEASE_MIN), format(LEASE_MAX));
        findings.add_problem(format!("{PATH}.lease.duration"), message).hint = Some(
            "a lease must be long against the way to Redis, and what a killed replica holds is lost for that long"
                .to_owned(),
        );
    }
    let policy = LeasePolicy { duration, hold_back: hold_back == Some(true) };
    let consistency = match kind {
        None | Some(LimitConsistency::Exact) => Consistency::Exact,
        Some(LimitConsistency::Lease) => Consistency::Lease(policy),
        Some(LimitConsistency::Split) => Consistency::Split(policy),
    };
    if file.is_some() && consistency == Consistency::Exact {
        findings
            .add_warning(format!("{PATH}.lease"), "has no effect without `consistency: lease` or `split`");
    }
    if consistency != Consistency::Exact && !is_shared {
        findings.add_warning(
            format!("{PATH}.consistency"),
            "has no effect with the memory store, which is exact and has no requests to save",
        );
        return Consistency::Exact;
    }
    consistency
}

/// Warns if no bucket can be leased: then `lease` and `split` change nothing, which is probably a mistake.
pub(super) fn check(policy: &LimitPolicy, findings: &mut Findings<'_>) {
    let Some(lease) = policy.consistency.lease_policy() else { return };
    let rules = policy.tools.iter().map(|rule| (&rule.limits, rule.cost.minimum));
    let mut all = std::iter::once((&policy.server, std::num::NonZeroU32::MIN)).chain(rules);
    let covered = all.any(|(limits, cost)| {
        limits
            .shared
            .iter()
            .flat_map(|quota| &quota.windows)
            .any(|window| lease.is_leased(&window.rate, cost))
    });
    if !covered {
        findings.add_warning(
            format!("{PATH}.consistency"),
            format!(
                "no shared bucket earns 8 tokens or more in {} and holds twice as many as it earns then, so all stay exact",
                format(lease.duration)
            ),
        );
    }
}
