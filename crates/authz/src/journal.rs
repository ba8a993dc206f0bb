//! Writes down refusals and failures. Callers are never named, nor are values of claims or arguments.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::decide::{Decision, GROUPS_UNKNOWN};
use crate::policy::AuthzPolicy;
use crate::words::AccessRequest;

/// Remembers which policies have failed before, so that the log is not filled with one policy's mistake.
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

    /// A policy could not be evaluated: a warning the first time.
    pub(crate) fn log_failures(&self, policy: &AuthzPolicy, ask: &AccessRequest<'_>, decision: &Decision) {
        for failure in &decision.failures {
            let first = failure.message == GROUPS_UNKNOWN
                && !self.has_logged_unknown_groups.swap(true, Ordering::Relaxed);
            if first {
                tracing::warn!(
                    action = ask.action().name(),
                    "the groups of a caller cannot be read from its token, so it is denied what policies forbid to groups; \
                     let the issuer list groups as texts"
                );
            }
            let place = failure
                .policy_number
                .and_then(|number| policy.records.get(number))
                .map(|record| &*record.location);
            let (action, item) = (ask.action().name(), ask.name());
            let first = failure
                .policy_number
                .and_then(|number| self.has_failed.get(number))
                .is_some_and(|failed| !failed.swap(true, Ordering::Relaxed));
            if first {
                tracing::warn!(
                    policy = place,
                    action,
                    item,
                    "a policy cannot be evaluated for a request, so the request is denied; `vmcp authz explain` says why"
                );
            } else {
                tracing::debug!(
                    policy = place,
                    action,
                    item,
                    "denied, because something cannot be evaluated"
                );
            }
        }
    }

    /// A request was refused because no list or template that the caller sees names its address.
    pub(crate) fn log_unlisted(&self, ask: &AccessRequest<'_>) {
        tracing::info!(
            action = ask.action().name(),
            item = ask.name(),
            "denied: nothing leads to the address"
        );
    }

    /// A request was refused.
    pub(crate) fn log_denial(&self, policy: &AuthzPolicy, ask: &AccessRequest<'_>, decision: &Decision) {
        self.log_failures(policy, ask, decision);
        let by = decision.policy_numbers.first().and_then(|number| policy.records.get(*number));
        let by = by.map(|record| &*record.location);
        tracing::info!(policy = by, action = ask.action().name(), item = ask.name(), "denied");
    }
}
