//! Converts `concurrency` and `concurrencyLease`: how many calls may be in flight, and for how long the slots
//! of a silent replica stay taken.

use std::num::NonZeroU32;
use std::time::Duration;

use vmcp_ratelimit::SLOT_LEASE;
use vmcp_ratelimit::policy::{Concurrency, LimitPolicy, Limits, Mode};

use super::PATH;
use crate::convert::Findings;
use crate::file::duration::format;
use crate::file::{ConcurrencyLimit, GoDuration, LimitMode};
use crate::settings::RedisSettings;

/// The shortest and the longest slot lease. A shorter one expires while a machine is merely busy; a longer
/// one keeps the slots of a killed replica from all other replicas.
const LEASE_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How many decision deadlines of Redis must fit into a slot lease. With fewer, a slow decision would let the
/// lease expire.
const DEADLINES_MIN: u32 = 8;

/// The bounds on calls in flight of one rule.
pub(super) fn convert_concurrency(
    file: Option<ConcurrencyLimit>,
    path: &str,
    mode: LimitMode,
    findings: &mut Findings<'_>,
) -> Concurrency {
    let Some(ConcurrencyLimit { shared, per_user }) = file else { return Concurrency::default() };
    if shared.is_none() && per_user.is_none() {
        findings.add_problem(path, "needs `shared` or `perUser`");
    }
    let mut count = |count: Option<u32>, key: &str| {
        if count == Some(0) {
            findings.add_problem(format!("{path}.{key}"), "must be at least 1; leave it out for no bound");
        }
        count.and_then(NonZeroU32::new)
    };
    let (shared, per_user) = (count(shared, "shared"), count(per_user, "perUser"));
    match mode {
        LimitMode::Enforce => Concurrency { shared, per_user, mode: Mode::Enforce },
        LimitMode::Shadow => Concurrency { shared, per_user, mode: Mode::Shadow },
        LimitMode::Off => Concurrency::default(),
    }
}

/// Sets how long slots are leased in Redis: `concurrencyLease`, else the default, but at least
/// [`DEADLINES_MIN`] decision deadlines.
pub(super) fn apply_slot_lease(
    file: Option<GoDuration>,
    policy: &LimitPolicy,
    redis: Option<&mut RedisSettings>,
    findings: &mut Findings<'_>,
) {
    let path = format!("{PATH}.concurrencyLease");
    let bounds_calls = |limits: &Limits| {
        let Concurrency { shared, per_user, mode: _ } = limits.concurrency;
        shared.is_some() || per_user.is_some()
    };
    if file.is_some()
        && !std::iter::once(&policy.server)
            .chain(policy.tools.iter().map(|rule| &rule.limits))
            .any(bounds_calls)
    {
        findings.add_warning(&path, "has no effect without `concurrency`");
    }
    let Some(redis) = redis else {
        if file.is_some() {
            findings.add_warning(
                &path,
                "has no effect with the memory store, where each process counts for itself",
            );
        }
        return;
    };
    let lease_min = redis.deadline * DEADLINES_MIN;
    let Some(GoDuration(lease)) = file else {
        redis.slot_lease = SLOT_LEASE.max(lease_min);
        return;
    };
    let (lease_min_checked, lease_max) = (LEASE_BOUNDS.0.max(lease_min), LEASE_BOUNDS.1);
    if !(lease_min_checked..=lease_max).contains(&lease) {
        let message = format!("must be from {} to {}", format(lease_min_checked), format(lease_max));
        findings.add_problem(&path, message).hint = Some(
            "it must be long against `redis.deadline`, and what a killed replica held is free only after it"
                .to_owned(),
        );
    }
    redis.slot_lease = lease;
}
