//! Writes down refusals and failures. Callers are never named, nor are values of claims or arguments.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::decide::{Decision, GROUPS_UNKNOWN};
use crate::policy::AuthzPolicy;
use crate::words::Ask;

/// Remembers which policies have failed before, so that the log is not filled with one policy's mistake.
#[derive(Debug)]
pub(crate) struct Journal {
    failed: Vec<AtomicBool>,
    groups_unknown: AtomicBool,
}

impl Journal {
    pub(crate) fn new(policy: &AuthzPolicy) -> Self {
        let failed = policy.records.iter().map(|_| AtomicBool::new(false)).collect();
        Self { failed, groups_unknown: AtomicBool::new(false) }
    }

    /// A policy could not be evaluated: a warning the first time.
    pub(crate) fn failures(&self, policy: &AuthzPolicy, ask: &Ask<'_>, decision: &Decision) {
        for failure in &decision.failures {
            let first =
                failure.message == GROUPS_UNKNOWN && !self.groups_unknown.swap(true, Ordering::Relaxed);
            if first {
                tracing::warn!(
                    action = ask.verb().action(),
                    "the groups of a caller cannot be read from its token, so it is denied what policies forbid to groups; \
                     let the issuer list groups as texts"
                );
            }
            let place =
                failure.policy.and_then(|number| policy.records.get(number)).map(|record| &*record.place);
            let (action, item) = (ask.verb().action(), ask.name());
            let first = failure
                .policy
                .and_then(|number| self.failed.get(number))
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
    pub(crate) fn unlisted(&self, ask: &Ask<'_>) {
        tracing::info!(
            action = ask.verb().action(),
            item = ask.name(),
            "denied: nothing leads to the address"
        );
    }

    /// A request was refused.
    pub(crate) fn refusal(&self, policy: &AuthzPolicy, ask: &Ask<'_>, decision: &Decision) {
        self.failures(policy, ask, decision);
        let by = decision.policies.first().and_then(|number| policy.records.get(*number));
        let by = by.map(|record| &*record.place);
        tracing::info!(policy = by, action = ask.verb().action(), item = ask.name(), "denied");
    }
}
