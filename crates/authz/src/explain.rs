//! A decision for people: which policies decided, as they were written, and what went wrong.

use std::fmt;

use vmcp_domain::Caller;

use crate::decide::Decision;
use crate::policy::AuthzPolicy;
use crate::words::AccessRequest;

/// What a policy does when it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It permits.
    Permit,
    /// It forbids, whatever others permit.
    Forbid,
}

/// One policy as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedPolicy {
    /// Where it stands: `policies[2]`.
    pub location: String,
    /// Its `@id(…)`, if it has one.
    pub id: Option<String>,
    /// The first line of it that says something.
    pub first_line: String,
    /// What it does.
    pub effect: Effect,
}

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the caller may.
    pub allowed: bool,
    /// The policies that decided; none when no policy applies, or when something went wrong.
    pub policies: Vec<ExplainedPolicy>,
    /// What went wrong, by the policy's place, or `request`. Anything here denies.
    pub errors: Vec<(String, String)>,
}

impl AuthzPolicy {
    /// Decides, and says why.
    #[must_use]
    pub fn explain(&self, caller: &Caller, ask: &AccessRequest<'_>) -> Explanation {
        let Decision { allowed, policy_numbers: policies, failures } = self.decide(caller, ask);
        let place =
            |number: usize| self.explained_policy(number).map_or_else(String::new, |policy| policy.location);
        Explanation {
            allowed,
            policies: policies.into_iter().filter_map(|number| self.explained_policy(number)).collect(),
            errors: failures
                .into_iter()
                .map(|failure| {
                    (failure.policy_number.map_or_else(|| "request".to_owned(), place), failure.message)
                })
                .collect(),
        }
    }

    /// The policy of this number, as decisions tell it.
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
        for ExplainedPolicy { location: place, id, first_line, effect } in &self.policies {
            let effect = match effect {
                Effect::Permit => "permitted",
                Effect::Forbid => "forbidden",
            };
            let id = id.as_ref().map(|id| format!(" @id(\"{id}\")")).unwrap_or_default();
            write!(f, "\n  {effect} by {place}{id}: {first_line}")?;
        }
        for (place, message) in &self.errors {
            write!(f, "\n  error in {place}: {message}")?;
        }
        Ok(())
    }
}
