//! The caller as policies see it: `Client::"<subject>"` with its claims, below its groups and roles.
//!
//! The subject alone names the entity, as in ToolHive's policies; who vouches for it stands beside it as `claim_iss`.
//! Subject and issuer come from the identity, whatever the claims say.
//!
//! Groups that a token has but does not say, or says in a form that cannot be read, are unknown. Such a caller belongs to
//! none of them where policies permit, and to each of them where policies forbid.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use cedar_policy::{Context, Entities, Entity, EntityUid, RestrictedExpression};
use serde_json::Value;
use vmcp_domain::{Caller, Identity, Json, Members};

use crate::policy::AuthzPolicy;
use crate::value::to_cedar;
use crate::words::{ANONYMOUS, ANONYMOUS_CLAIMS, CLAIM_PREFIX, GROUP_CLAIMS};

/// One caller, ready for any number of decisions by the policies that recognised it.
#[derive(Clone)]
pub struct Principal {
    attributes: Result<PrincipalAttributes, PrincipalError>,
    /// The same caller as a member of every group that policies name, where the groups are unknown.
    worst_case: Option<Box<PrincipalAttributes>>,
}

impl Principal {
    pub(crate) fn new(policy: &AuthzPolicy, caller: &Caller) -> Self {
        let none = Members::new();
        let (subject, fixed, claims) = match caller {
            Caller::Anonymous => (ANONYMOUS, ANONYMOUS_CLAIMS.to_vec(), &none),
            Caller::Known(identity) => {
                let Identity { issuer, subject, claims } = &**identity;
                (subject.as_str(), vec![("iss", issuer.as_str())], claims)
            }
        };
        let build = |groups| PrincipalAttributes::build(policy, subject, &fixed, claims, groups);
        let facts = build(GroupMembership::FromClaims);
        let is_unknown = matches!(facts, Ok(PrincipalAttributes { has_unknown_groups: true, .. }));
        let suspected = if is_unknown { build(GroupMembership::AllNamed).ok().map(Box::new) } else { None };
        Self { attributes: facts, worst_case: suspected }
    }

    pub(crate) fn attributes(&self) -> Result<&PrincipalAttributes, PrincipalError> {
        self.attributes.as_ref().map_err(|unknown| *unknown)
    }

    /// What holds of the caller in the worst case, where its groups are unknown.
    pub(crate) fn worst_case(&self) -> Option<&PrincipalAttributes> {
        self.worst_case.as_deref()
    }
}

impl fmt::Debug for Principal {
    /// Names nobody: claims are personal data and do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("recognised", &self.attributes.is_ok()).finish_non_exhaustive()
    }
}

/// What policies are told of the caller.
#[derive(Clone)]
pub(crate) struct PrincipalAttributes {
    pub(crate) uid: EntityUid,
    /// Groups, roles and everything above them, as far as some policy could ask for them.
    pub(crate) ancestors: Vec<EntityUid>,
    pub(crate) entity: Entity,
    /// The caller's entity with everything declared that can be got to from it.
    pub(crate) entities: Entities,
    /// The claims that some policy reads from the context.
    pub(crate) context: Context,
    /// Declared entities that can be got to from the caller's declared attributes.
    pub(crate) reachable: HashSet<EntityUid>,
    /// The caller may belong to groups that its token does not say.
    pub(crate) has_unknown_groups: bool,
}

/// Which groups a caller is taken to belong to.
#[derive(Clone, Copy)]
enum GroupMembership {
    /// Those that its claims say.
    FromClaims,
    /// Also every one that policies name.
    AllNamed,
}

/// Why a caller cannot be made out. Nothing is allowed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrincipalError {
    #[error("the caller has no subject")]
    NoSubject,
    #[error("a claim that a policy reads cannot be read")]
    UnreadableClaim,
    #[error("the caller's groups cannot be brought into order")]
    InvalidGroups,
}

impl PrincipalAttributes {
    /// `fixed` claims win over `claims`, and the subject over both.
    fn build(
        policy: &AuthzPolicy,
        subject: &str,
        fixed: &[(&str, &str)],
        claims: &Members,
        groups: GroupMembership,
    ) -> Result<Self, PrincipalError> {
        if subject.is_empty() {
            return Err(PrincipalError::NoSubject);
        }
        let uid = policy.types.client(subject);
        let claims = Claims(claims);
        let mut read = claims.read(policy)?;
        for (name, value) in fixed.iter().chain(&[("sub", subject)]) {
            read.insert(
                format!("{CLAIM_PREFIX}{name}"),
                RestrictedExpression::new_string((*value).to_owned()),
            );
        }
        let (above, groups_unknown) = claims.ancestors(policy, &uid, groups)?;
        let declared = policy.entities.get(&uid);
        let (mut attributes, tags) =
            declared.map(|declared| (declared.attributes.clone(), declared.tags.clone())).unwrap_or_default();
        let wanted =
            |(name, _): &(&String, &RestrictedExpression)| policy.referenced_names.reads_attribute(name);
        attributes.extend(read.iter().filter(wanted).map(|(name, value)| (name.clone(), value.clone())));
        let entity = Entity::new_with_tags(uid.clone(), attributes, above.iter().cloned(), tags)
            .map_err(|_| PrincipalError::UnreadableClaim)?;
        let context = Context::from_pairs(
            read.into_iter().filter(|(name, _)| policy.referenced_names.reads_context_member(name)),
        )
        .map_err(|_| PrincipalError::UnreadableClaim)?;
        let reach = declared
            .map(|declared| policy.entities.reachable_from(declared.reachable.iter().cloned()))
            .unwrap_or_default();
        let near =
            reach.iter().filter(|near| **near != uid).filter_map(|near| policy.entities.cedar_entity(near));
        let alone = Entities::from_entities(near.chain([&entity]).cloned(), None)
            .map_err(|_| PrincipalError::InvalidGroups)?;
        Ok(Self {
            uid,
            ancestors: above,
            entity,
            entities: alone,
            context,
            reachable: reach,
            has_unknown_groups: groups_unknown,
        })
    }
}

struct Claims<'a>(&'a Members);

impl Claims<'_> {
    /// The claims that some policy reads, under their attribute names.
    fn read(&self, policy: &AuthzPolicy) -> Result<BTreeMap<String, RestrictedExpression>, PrincipalError> {
        let mut read = BTreeMap::new();
        for (key, value) in self.0.iter() {
            let name = format!("{CLAIM_PREFIX}{key}");
            if !policy.referenced_names.reads_context_member(&name) {
                continue;
            }
            // The last of several claims of one name counts, also when it is one that does not exist for policies.
            read.remove(&name);
            let value: Value = value.decode().map_err(|_| PrincipalError::UnreadableClaim)?;
            if let Some(value) = to_cedar(&value, 0) {
                read.insert(name, value);
            }
        }
        Ok(read)
    }

    /// Groups and roles with everything above them, as far as a policy could ask for it; and whether there may be more.
    fn ancestors(
        &self,
        policy: &AuthzPolicy,
        uid: &EntityUid,
        groups: GroupMembership,
    ) -> Result<(Vec<EntityUid>, bool), PrincipalError> {
        let (mut names, mut unknown) = (Vec::new(), self.has_distributed_groups());
        let claims = policy.group_claim.as_deref().into_iter().chain(GROUP_CLAIMS);
        for claim in claims {
            let said = self.read_list(claim)?;
            unknown |= said.is_incomplete;
            names.extend(said.texts);
            // A claim that holds a list is the one that counts; the reference passes over everything else.
            if said.is_list {
                break;
            }
        }
        if let Some(claim) = &policy.role_claim {
            let said = self.read_list(claim)?;
            unknown |= said.is_incomplete;
            names.extend(said.texts);
        }
        let mut belongs: Vec<EntityUid> = names.iter().map(|group| policy.types.group(group)).collect();
        if let GroupMembership::AllNamed = groups {
            let is_group = |uid: &&EntityUid| uid.type_name() == policy.types.group_type();
            belongs.extend(policy.referenced_entities.iter().filter(is_group).cloned());
        }
        let mut above: HashSet<EntityUid> = HashSet::new();
        for group in belongs {
            for higher in policy.entities.ancestors(&group) {
                above.insert(higher.clone());
            }
            if policy.referenced_entities.contains(&group) {
                above.insert(group);
            }
        }
        for higher in policy.entities.ancestors(uid) {
            above.insert(higher.clone());
        }
        above.remove(uid);
        Ok((above.into_iter().collect(), unknown))
    }

    /// Microsoft Entra leaves the groups of a user with more than 200 out of the token and says where to ask for them
    /// (OpenID Connect Core 1.0, section 5.6.2, distributed claims).
    fn has_distributed_groups(&self) -> bool {
        let elsewhere = self.0.get("_claim_names").and_then(|names| names.members().ok());
        elsewhere.is_some_and(|names| GROUP_CLAIMS.iter().any(|claim| names.get(claim).is_some()))
            || self.0.get("hasgroups").is_some_and(|value| *value == Json::boolean(true))
    }

    /// The texts that a claim lists; one text is a list of one. A claim of exactly this name goes before a path of names
    /// separated by dots.
    fn read_list(&self, claim: &str) -> Result<ClaimTexts, PrincipalError> {
        let found = match self.0.get(claim) {
            Some(value) => Some(value.decode::<Value>().map_err(|_| PrincipalError::InvalidGroups)?),
            None => match claim.split_once('.').and_then(|(first, rest)| Some((self.0.get(first)?, rest))) {
                Some((value, rest)) => {
                    let value: Value = value.decode().map_err(|_| PrincipalError::InvalidGroups)?;
                    rest.split('.').try_fold(&value, |value, name| value.get(name)).cloned()
                }
                None => None,
            },
        };
        Ok(match found {
            None | Some(Value::Null) => ClaimTexts::default(),
            Some(Value::String(text)) => ClaimTexts { texts: vec![text], ..ClaimTexts::default() },
            Some(Value::Array(elements)) => {
                let count = elements.len();
                let names = elements.into_iter().filter_map(|element| match element {
                    Value::String(text) => Some(text),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        None
                    }
                });
                let names: Vec<String> = names.collect();
                ClaimTexts { is_incomplete: names.len() < count, texts: names, is_list: true }
            }
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                ClaimTexts { is_incomplete: true, ..ClaimTexts::default() }
            }
        })
    }
}

/// What one claim says of groups.
#[derive(Debug, Default)]
struct ClaimTexts {
    texts: Vec<String>,
    /// It is a list, be it an empty one.
    is_list: bool,
    /// It holds something that is no text, so there may be groups that cannot be read.
    is_incomplete: bool,
}
