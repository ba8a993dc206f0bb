//! Which AWS role a caller gets. The decision is pure: the claims are its only argument.

use std::fmt;
use std::sync::Arc;

use vmcp_domain::Identity;

use super::matcher::{CelClaims, CelMatcher};
use crate::error::{CredentialError, PolicyError};
use crate::words;

const MAPPINGS_MAX: usize = 256;
const DEFAULT_CLAIM: &str = "groups";

/// Whom a mapping fits.
#[derive(Clone, Debug)]
pub enum RoleMatch {
    /// Callers whose role claim is this text or a list that contains it.
    Claim(String),
    /// Callers for whom this CEL expression over `claims` is true.
    Cel(String),
}

/// A role for callers whose claims fit.
#[derive(Clone, Debug)]
pub struct RoleMapping {
    /// Whom it fits.
    pub condition: RoleMatch,
    /// The role, as `arn:aws:iam::123456789012:role/name`.
    pub role_arn: String,
    /// The smallest number of those that fit wins; without one it comes last. Of equals the one written first wins.
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
    /// Roles by claim (`roleClaim`, usually `groups`), with one for callers that no mapping fits.
    ///
    /// # Errors
    /// When there is no role at all, or something is not what it should be; the field names the mapping.
    pub fn new(
        claim: Option<&str>,
        mappings: Vec<RoleMapping>,
        fallback: Option<&str>,
    ) -> Result<Self, PolicyError> {
        let claim = words::check_text("roleClaim", claim.unwrap_or(DEFAULT_CLAIM))?;
        if mappings.is_empty() && fallback.is_none() {
            return Err(PolicyError::new("roleMappings", "needs a mapping, or fallbackRoleArn"));
        }
        if mappings.len() > MAPPINGS_MAX {
            return Err(PolicyError::new("roleMappings", format!("at most {MAPPINGS_MAX}")));
        }
        let fallback = fallback.map(|arn| parse_role_arn("fallbackRoleArn".to_owned(), arn)).transpose()?;
        let mut read = Vec::with_capacity(mappings.len());
        for (index, RoleMapping { condition: who, role_arn, priority }) in mappings.into_iter().enumerate() {
            let field = |key: &str| format!("roleMappings[{index}].{key}");
            let who = match who {
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
            read.push((
                priority.map_or((true, 0), |number| (false, number)),
                CompiledMapping { condition: who, role },
            ));
        }
        read.sort_by_key(|(rank, _)| *rank);
        let mappings = read.into_iter().map(|(_, mapping)| mapping).collect();
        Ok(Self { claim, mappings, fallback })
    }

    /// The caller's role: the first mapping that fits, else the fallback. A matcher that cannot be evaluated, such as
    /// one that asks for a claim the caller has not, does not fit.
    pub(crate) fn select_role(&self, identity: &Identity) -> Result<&Arc<str>, CredentialError> {
        let mut named: Option<Vec<String>> = None;
        let mut claims: Option<CelClaims> = None;
        for mapping in &self.mappings {
            let fits = match &mapping.condition {
                CompiledCondition::Claim(value) => {
                    named.get_or_insert_with(|| self.claim_values(identity)).contains(value)
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
            // Whatever else stands in the list, its texts count.
            None => value
                .elements()
                .unwrap_or_default()
                .iter()
                .filter_map(vmcp_domain::Json::decode_string)
                .collect(),
        }
    }
}

/// Without the matchers: they say who may do what.
impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} mappings over {:?}, fallback {:?}", self.mappings.len(), self.claim, self.fallback)
    }
}

/// A role's name as AWS writes it, in any partition: `arn:<partition>:iam::<12 digits>:role/<path and name>`.
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
