//! Selects the AWS role of a caller. The decision is pure: it depends on the claims only.

use std::fmt;
use std::sync::Arc;

use vmcp_domain::Identity;

use crate::aws::cel_matcher::{CelClaims, CelMatcher};
use crate::error::{CredentialError, PolicyError};
use crate::validation;

const MAPPINGS_MAX: usize = 256;
const DEFAULT_CLAIM: &str = "groups";

/// Which callers a mapping matches.
#[derive(Clone, Debug)]
pub enum RoleMatch {
    /// Callers whose role claim equals this text or is a list that contains it.
    Claim(String),
    /// Callers that satisfy this CEL expression over `claims`.
    Cel(String),
}

/// A role for callers whose claims match.
#[derive(Clone, Debug)]
pub struct RoleMapping {
    /// Which callers it matches.
    pub condition: RoleMatch,
    /// The role's ARN, such as `arn:aws:iam::123456789012:role/name`.
    pub role_arn: String,
    /// Of the mappings that match, the smallest number wins; `None` comes last. Of equal ones the first in
    /// the configuration wins.
    pub priority: Option<i64>,
}

/// The roles of one backend, in the order in which they are tried.
#[derive(Clone)]
pub struct Roles {
    claim: String,
    mappings: Vec<CompiledMapping>,
    fallback: Option<Arc<str>>,
}

#[derive(Clone)]
struct CompiledMapping {
    condition: CompiledCondition,
    role: Arc<str>,
}

#[derive(Clone)]
enum CompiledCondition {
    Claim(String),
    Cel(Arc<CelMatcher>),
}

impl Roles {
    /// Builds roles that depend on a claim (`roleClaim`, by default `groups`), with a fallback for callers
    /// that no mapping matches.
    ///
    /// # Errors
    /// When there is no role at all, or a value is invalid; the field names the mapping.
    pub fn new(
        claim: Option<&str>,
        mappings: Vec<RoleMapping>,
        fallback: Option<&str>,
    ) -> Result<Self, PolicyError> {
        let claim = validation::check_text("roleClaim", claim.unwrap_or(DEFAULT_CLAIM))?;
        if mappings.is_empty() && fallback.is_none() {
            return Err(PolicyError::new("roleMappings", "needs a mapping, or fallbackRoleArn"));
        }
        if mappings.len() > MAPPINGS_MAX {
            return Err(PolicyError::new("roleMappings", format!("at most {MAPPINGS_MAX}")));
        }
        let fallback = fallback.map(|arn| parse_role_arn("fallbackRoleArn".to_owned(), arn)).transpose()?;
        let mut ranked = Vec::with_capacity(mappings.len());
        for (index, RoleMapping { condition, role_arn, priority }) in mappings.into_iter().enumerate() {
            let field = |key: &str| format!("roleMappings[{index}].{key}");
            let condition = match condition {
                RoleMatch::Claim(value) if value.is_empty() => {
                    return Err(PolicyError::new(field("claim"), "must not be empty"));
                }
                RoleMatch::Claim(value) => CompiledCondition::Claim(value),
                RoleMatch::Cel(text) => {
                    let matcher =
                        CelMatcher::compile(&text).map_err(|why| PolicyError::new(field("matcher"), why))?;
                    CompiledCondition::Cel(Arc::new(matcher))
                }
            };
            let role = parse_role_arn(field("roleArn"), &role_arn)?;
            ranked.push((
                priority.map_or((true, 0), |number| (false, number)),
                CompiledMapping { condition, role },
            ));
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let mappings = ranked.into_iter().map(|(_, mapping)| mapping).collect();
        Ok(Self { claim, mappings, fallback })
    }

    /// Selects the caller's role: the first mapping that matches, else the fallback. A matcher that cannot be
    /// evaluated, for example because a claim is missing, does not match.
    pub(crate) fn select_role(&self, identity: &Identity) -> Result<&Arc<str>, CredentialError> {
        let mut claim_values: Option<Vec<String>> = None;
        let mut claims: Option<CelClaims> = None;
        for mapping in &self.mappings {
            let fits = match &mapping.condition {
                CompiledCondition::Claim(value) => {
                    claim_values.get_or_insert_with(|| self.claim_values(identity)).contains(value)
                }
                CompiledCondition::Cel(matcher) => {
                    let claims = match &mut claims {
                        Some(claims) => claims,
                        empty => empty.insert(CelClaims::from_identity(identity)?),
                    };
                    matcher.is_match(claims)
                }
            };
            if fits {
                return Ok(&mapping.role);
            }
        }
        self.fallback.as_ref().ok_or(CredentialError::NoRole)
    }

    /// The caller's values of the role claim.
    fn claim_values(&self, identity: &Identity) -> Vec<String> {
        let Some(value) = identity.claims.get(&self.claim) else {
            return if self.claim == "sub" { vec![identity.subject.clone()] } else { Vec::new() };
        };
        match value.decode_string() {
            Some(one) => vec![one],
            // Elements of the list that are not texts are ignored.
            None => value
                .elements()
                .unwrap_or_default()
                .iter()
                .filter_map(vmcp_json::Json::decode_string)
                .collect(),
        }
    }
}

/// Omits the matchers, because they describe who may do what.
impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mappings over {:?}, fallback {:?}", self.mappings.len(), self.claim, self.fallback)
    }
}

/// Parses a role ARN of any partition: `arn:<partition>:iam::<12 digits>:role/<path and name>`.
fn parse_role_arn(field: String, arn: &str) -> Result<Arc<str>, PolicyError> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let fits = match parts.as_slice() {
        ["arn", partition, "iam", "", account, resource] => {
            let is_partition = partition.starts_with("aws")
                && partition.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
            let is_name = resource.strip_prefix("role/").is_some_and(|name| {
                !name.is_empty() && !name.ends_with('/') && name.bytes().all(|byte| byte.is_ascii_graphic())
            });
            is_partition && is_account && is_name
        }
        _other => false,
    };
    if !fits || arn.len() > 2048 {
        return Err(PolicyError::new(
            field,
            "must be the ARN of a role, such as arn:aws:iam::123456789012:role/name",
        ));
    }
    Ok(Arc::from(arn))
}

#[cfg(test)]
mod tests;
