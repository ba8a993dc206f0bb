//! A decision with its reasons, for operators: the policies that decided, as written, and the evaluation
//! errors.

use std::fmt;

use vmcp_domain::Caller;

use crate::decide::Decision;
use crate::policy::AuthzPolicy;
use crate::policy::names::AccessRequest;

/// The effect of a policy that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The policy permits the request, unless another policy forbids it.
    Permit,
    /// The policy forbids the request, whatever other policies permit.
    Forbid,
}

/// One policy as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedPolicy {
    /// Where the policy was read from, for example `policies[2]`.
    pub location: String,
    /// The value of its `@id(…)` annotation, if it has one.
    pub id: Option<String>,
    /// The first line of its text that is neither empty, a comment nor an annotation.
    pub first_line: String,
    /// Whether the policy permits or forbids.
    pub effect: Effect,
}

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the request is allowed.
    pub allowed: bool,
    /// The policies that decided. Empty when no policy applies, and when an evaluation error alone caused the
    /// denial.
    pub policies: Vec<ExplainedPolicy>,
    /// Evaluation errors: the location of the policy (or `request`) and the message. Any error denies the
    /// request.
    pub errors: Vec<(String, String)>,
}

impl AuthzPolicy {
    /// Decides like [`AuthzPolicy::decide`], and returns the reasons with the outcome.
    #[must_use]
    pub fn explain(&self, caller: &Caller, access: &AccessRequest<'_>) -> Explanation {
        let Decision { allowed, policy_numbers: policies, failures } = self.decide(caller, access);
        let location =
            |number: usize| self.explained_policy(number).map_or_else(String::new, |policy| policy.location);
        Explanation {
            allowed,
            policies: policies.into_iter().filter_map(|number| self.explained_policy(number)).collect(),
            errors: failures
                .into_iter()
                .map(|failure| {
                    (failure.policy_number.map_or_else(|| "request".to_owned(), location), failure.message)
                })
                .collect(),
        }
    }

    /// The policy with this number, as in [`Decision::policy_numbers`]; `None` when there is no such policy.
    #[must_use]
    pub fn explained_policy(&self, number: usize) -> Option<ExplainedPolicy> {
        let record = self.records.get(number)?;
        Some(ExplainedPolicy {
            location: record.location.clone(),
            id: record.id_annotation.clone(),
            first_line: record.first_line.clone(),
            effect: if record.permits { Effect::Permit } else { Effect::Forbid },
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.allowed { "allowed" } else { "denied" })?;
        if self.policies.is_empty() && self.errors.is_empty() {
            f.write_str(": no policy permits it")?;
        }
        for ExplainedPolicy { location, id, first_line, effect } in &self.policies {
            let effect = match effect {
                Effect::Permit => "permitted",
                Effect::Forbid => "forbidden",
            };
            let id = id.as_ref().map(|id| format!(" @id(\"{id}\")")).unwrap_or_default();
            write!(f, "\n  {effect} by {location}{id}: {first_line}")?;
        }
        for (location, message) in &self.errors {
            write!(f, "\n  error in {location}: {message}")?;
        }
        Ok(())
    }
}
