//! Logs refusals and evaluation failures. The log never contains callers, or values of claims or arguments.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::decide::{Decision, GROUPS_UNKNOWN};
use crate::policy::AuthzPolicy;
use crate::policy::names::AccessRequest;

/// Remembers which policies have failed before, so that one faulty policy does not fill the log.
#[derive(Debug)]
pub(crate) struct DenialLog {
    has_failed: Vec<AtomicBool>,
    has_logged_unknown_groups: AtomicBool,
}

impl DenialLog {
    pub(crate) fn new(policy: &AuthzPolicy) -> Self {
        let failed = policy.records.iter().map(|_| AtomicBool::new(false)).collect();
        Self { has_failed: failed, has_logged_unknown_groups: AtomicBool::new(false) }
    }

    /// Logs each failure in `decision`. The first failure of a policy is a warning, and so is the first
    /// denial because of unknown groups; others are debug events.
    pub(crate) fn log_failures(&self, policy: &AuthzPolicy, access: &AccessRequest<'_>, decision: &Decision) {
        for failure in &decision.failures {
            let first = failure.message == GROUPS_UNKNOWN
                && !self.has_logged_unknown_groups.swap(true, Ordering::Relaxed);
            if first {
                tracing::warn!(
                    action = access.action().name(),
                    "the groups of a caller cannot be read from its token, so it is denied what policies forbid to groups; \
                     let the issuer list groups as texts"
                );
            }
            let location = failure
                .policy_number
                .and_then(|number| policy.records.get(number))
                .map(|record| &*record.location);
            let (action, item) = (access.action().name(), access.name());
            let first = failure
                .policy_number
                .and_then(|number| self.has_failed.get(number))
                .is_some_and(|failed| !failed.swap(true, Ordering::Relaxed));
            if first {
                tracing::warn!(
                    policy = location,
                    action,
                    item,
                    "a policy cannot be evaluated for a request, so the request is denied; `vmcp authz explain` says why"
                );
            } else {
                tracing::debug!(
                    policy = location,
                    action,
                    item,
                    "denied, because something cannot be evaluated"
                );
            }
        }
    }

    /// Logs a request that was refused because no list or template that the caller sees contains its URI.
    pub(crate) fn log_unlisted(&self, access: &AccessRequest<'_>) {
        tracing::info!(
            action = access.action().name(),
            item = access.name(),
            "denied: nothing leads to the address"
        );
    }

    /// Logs a refused request at info level, and its failures as [`Self::log_failures`] does.
    pub(crate) fn log_denial(&self, policy: &AuthzPolicy, access: &AccessRequest<'_>, decision: &Decision) {
        self.log_failures(policy, access, decision);
        let deciding_policy = decision.policy_numbers.first().and_then(|number| policy.records.get(*number));
        let deciding_policy = deciding_policy.map(|record| &*record.location);
        tracing::info!(
            policy = deciding_policy,
            action = access.action().name(),
            item = access.name(),
            "denied"
        );
    }
}
