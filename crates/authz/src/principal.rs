//! The caller as policies see it: `Client::"<subject>"` with its claims, as a member of its groups and roles.
//!
//! The subject alone identifies the entity, as in ToolHive's policies; the issuer is the attribute
//! `claim_iss`. Subject and issuer come from the authenticated identity, whatever the claims contain.
//!
//! Groups are unknown when the token has them but does not list them, or lists them in an unreadable form.
//! For permitting policies such a caller belongs to none of the unknown groups, and for forbidding policies
//! to every one of them.

pub(crate) mod principal_cache;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use cedar_policy::{Context, Entities, Entity, EntityUid, RestrictedExpression};
use serde_json::Value;
use vmcp_domain::{Caller, Identity};
use vmcp_json::{Json, Members};

use crate::policy::AuthzPolicy;
use crate::policy::names::{ANONYMOUS, ANONYMOUS_CLAIMS, CLAIM_PREFIX, GROUP_CLAIMS};
use crate::policy::value::to_cedar;

/// One resolved caller, usable for any number of decisions by the policies that resolved it.
#[derive(Clone)]
pub struct Principal {
    attributes: Result<PrincipalAttributes, PrincipalError>,
    /// The same caller as a member of every group that policies name. Set only where the groups are unknown.
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
        let attributes = build(GroupMembership::FromClaims);
        let is_unknown = matches!(attributes, Ok(PrincipalAttributes { has_unknown_groups: true, .. }));
        let worst_case = if is_unknown { build(GroupMembership::AllNamed).ok().map(Box::new) } else { None };
        Self { attributes, worst_case }
    }

    pub(crate) fn attributes(&self) -> Result<&PrincipalAttributes, PrincipalError> {
        self.attributes.as_ref().map_err(|unknown| *unknown)
    }

    /// The attributes in the worst case; `None` when all groups are known.
    pub(crate) fn worst_case(&self) -> Option<&PrincipalAttributes> {
        self.worst_case.as_deref()
    }
}

impl fmt::Debug for Principal {
    /// Omits subject and claims: they are personal data and do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("recognised", &self.attributes.is_ok()).finish_non_exhaustive()
    }
}

/// What Cedar receives about the caller.
#[derive(Clone)]
pub(crate) struct PrincipalAttributes {
    pub(crate) uid: EntityUid,
    /// Groups, roles and all their ancestors, as far as a policy can name them.
    pub(crate) ancestors: Vec<EntityUid>,
    pub(crate) entity: Entity,
    /// The caller's entity with all declared entities that it reaches.
    pub(crate) entities: Entities,
    /// The claims that some policy reads from the context.
    pub(crate) context: Context,
    /// Declared entities that the caller's declared attributes reach.
    pub(crate) reachable: HashSet<EntityUid>,
    /// The caller may belong to groups that its token does not list.
    pub(crate) has_unknown_groups: bool,
}

/// The groups that a caller is assumed to belong to.
#[derive(Clone, Copy)]
enum GroupMembership {
    /// The groups in its claims.
    FromClaims,
    /// The groups in its claims, and every group that policies name.
    AllNamed,
}

/// Why a caller cannot be resolved. Every request of such a caller is denied.
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
    /// Builds the attributes. `fixed` claims replace `claims` of the same name, and the subject replaces
    /// both.
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
        let (ancestors, groups_unknown) = claims.ancestors(policy, &uid, groups)?;
        let declared = policy.entities.get(&uid);
        let (mut attributes, tags) =
            declared.map(|declared| (declared.attributes.clone(), declared.tags.clone())).unwrap_or_default();
        let is_read =
            |(name, _): &(&String, &RestrictedExpression)| policy.referenced_names.reads_attribute(name);
        attributes.extend(read.iter().filter(is_read).map(|(name, value)| (name.clone(), value.clone())));
        let entity = Entity::new_with_tags(uid.clone(), attributes, ancestors.iter().cloned(), tags)
            .map_err(|_| PrincipalError::UnreadableClaim)?;
        let context = Context::from_pairs(
            read.into_iter().filter(|(name, _)| policy.referenced_names.reads_context_member(name)),
        )
        .map_err(|_| PrincipalError::UnreadableClaim)?;
        let reachable = declared
            .map(|declared| policy.entities.reachable_from(declared.reachable.iter().cloned()))
            .unwrap_or_default();
        let near = reachable
            .iter()
            .filter(|near| **near != uid)
            .filter_map(|near| policy.entities.cedar_entity(near));
        let entities = Entities::from_entities(near.chain([&entity]).cloned(), None)
            .map_err(|_| PrincipalError::InvalidGroups)?;
        Ok(Self { uid, ancestors, entity, entities, context, reachable, has_unknown_groups: groups_unknown })
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
            // The last of several claims of one name counts, even when it is a value that policies do not
            // see.
            read.remove(&name);
            let value: Value = value.decode().map_err(|_| PrincipalError::UnreadableClaim)?;
            if let Some(value) = to_cedar(&value, 0) {
                read.insert(name, value);
            }
        }
        Ok(read)
    }

    /// Groups and roles with all their ancestors, as far as a policy can name them, and whether there may be
    /// more.
    fn ancestors(
        &self,
        policy: &AuthzPolicy,
        uid: &EntityUid,
        groups: GroupMembership,
    ) -> Result<(Vec<EntityUid>, bool), PrincipalError> {
        let (mut names, mut unknown) = (Vec::new(), self.has_distributed_groups());
        let claims = policy.group_claim.as_deref().into_iter().chain(GROUP_CLAIMS);
        for claim in claims {
            let texts = self.read_list(claim)?;
            unknown |= texts.is_incomplete;
            names.extend(texts.texts);
            // The search ends at the first claim that holds a list. ToolHive skips claims of any other shape;
            // here a single text counts as a group, and the search continues.
            if texts.is_list {
                break;
            }
        }
        if let Some(claim) = &policy.role_claim {
            let texts = self.read_list(claim)?;
            unknown |= texts.is_incomplete;
            names.extend(texts.texts);
        }
        let mut groups_of_caller: Vec<EntityUid> =
            names.iter().map(|group| policy.types.group(group)).collect();
        if let GroupMembership::AllNamed = groups {
            let is_group = |uid: &&EntityUid| uid.type_name() == policy.types.group_type();
            groups_of_caller.extend(policy.referenced_entities.iter().filter(is_group).cloned());
        }
        let mut ancestors: HashSet<EntityUid> = HashSet::new();
        for group in groups_of_caller {
            for ancestor in policy.entities.ancestors(&group) {
                ancestors.insert(ancestor.clone());
            }
            if policy.referenced_entities.contains(&group) {
                ancestors.insert(group);
            }
        }
        for ancestor in policy.entities.ancestors(uid) {
            ancestors.insert(ancestor.clone());
        }
        ancestors.remove(uid);
        Ok((ancestors.into_iter().collect(), unknown))
    }

    /// Whether the token refers to groups elsewhere. Microsoft Entra omits the groups of a user with more
    /// than 200, and names the source instead (OpenID Connect Core 1.0, section 5.6.2, distributed claims).
    fn has_distributed_groups(&self) -> bool {
        let claim_names = self.0.get("_claim_names").and_then(|names| names.members().ok());
        claim_names.is_some_and(|names| GROUP_CLAIMS.iter().any(|claim| names.get(claim).is_some()))
            || self.0.get("hasgroups").is_some_and(|value| *value == Json::boolean(true))
    }

    /// The texts in a claim; a single text is a list of one. A claim of exactly this name takes precedence
    /// over a path of names separated by dots.
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

/// The groups that one claim contains.
#[derive(Debug, Default)]
struct ClaimTexts {
    texts: Vec<String>,
    /// The claim is a list, possibly empty.
    is_list: bool,
    /// The claim contains something that is no text, so the caller may belong to groups that cannot be read.
    is_incomplete: bool,
}
