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
use crate::value::convert;
use crate::words::{ANONYMOUS, ANONYMOUS_CLAIMS, CLAIM, GROUP_CLAIMS};

/// One caller, ready for any number of decisions by the policies that recognised it.
#[derive(Clone)]
pub struct Asker {
    facts: Result<Facts, Unknown>,
    /// The same caller as a member of every group that policies name, where the groups are unknown.
    suspected: Option<Box<Facts>>,
}

impl Asker {
    pub(crate) fn new(policy: &AuthzPolicy, caller: &Caller) -> Self {
        let none = Members::new();
        let (subject, fixed, claims) = match caller {
            Caller::Anonymous => (ANONYMOUS, ANONYMOUS_CLAIMS.to_vec(), &none),
            Caller::Known(identity) => {
                let Identity { issuer, subject, claims } = &**identity;
                (subject.as_str(), vec![("iss", issuer.as_str())], claims)
            }
        };
        let build = |groups| Facts::build(policy, subject, &fixed, claims, groups);
        let facts = build(Groups::Said);
        let is_unknown = matches!(facts, Ok(Facts { groups_unknown: true, .. }));
        let suspected = if is_unknown { build(Groups::Every).ok().map(Box::new) } else { None };
        Self { facts, suspected }
    }

    pub(crate) fn facts(&self) -> Result<&Facts, Unknown> {
        self.facts.as_ref().map_err(|unknown| *unknown)
    }

    /// What holds of the caller in the worst case, where its groups are unknown.
    pub(crate) fn suspected(&self) -> Option<&Facts> {
        self.suspected.as_deref()
    }
}

impl fmt::Debug for Asker {
    /// Names nobody: claims are personal data and do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("recognised", &self.facts.is_ok()).finish_non_exhaustive()
    }
}

/// What policies are told of the caller.
#[derive(Clone)]
pub(crate) struct Facts {
    pub(crate) uid: EntityUid,
    /// Groups, roles and everything above them, as far as some policy could ask for them.
    pub(crate) above: Vec<EntityUid>,
    pub(crate) entity: Entity,
    /// The caller's entity with everything declared that can be got to from it.
    pub(crate) alone: Entities,
    /// The claims that some policy reads from the context.
    pub(crate) context: Context,
    /// Declared entities that can be got to from the caller's declared attributes.
    pub(crate) reach: HashSet<EntityUid>,
    /// The caller may belong to groups that its token does not say.
    pub(crate) groups_unknown: bool,
}

/// Which groups a caller is taken to belong to.
#[derive(Clone, Copy)]
enum Groups {
    /// Those that its claims say.
    Said,
    /// Also every one that policies name.
    Every,
}

/// Why a caller cannot be made out. Nothing is allowed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("the caller has no subject")]
    NoSubject,
    #[error("a claim that a policy reads cannot be read")]
    Claim,
    #[error("the caller's groups cannot be brought into order")]
    Groups,
}

impl Facts {
    /// `fixed` claims win over `claims`, and the subject over both.
    fn build(
        policy: &AuthzPolicy,
        subject: &str,
        fixed: &[(&str, &str)],
        claims: &Members,
        groups: Groups,
    ) -> Result<Self, Unknown> {
        if subject.is_empty() {
            return Err(Unknown::NoSubject);
        }
        let uid = policy.types.client(subject);
        let claims = Claims(claims);
        let mut read = claims.read(policy)?;
        for (name, value) in fixed.iter().chain(&[("sub", subject)]) {
            read.insert(format!("{CLAIM}{name}"), RestrictedExpression::new_string((*value).to_owned()));
        }
        let (above, groups_unknown) = claims.above(policy, &uid, groups)?;
        let declared = policy.world.get(&uid);
        let (mut attributes, tags) =
            declared.map(|declared| (declared.attributes.clone(), declared.tags.clone())).unwrap_or_default();
        let wanted = |(name, _): &(&String, &RestrictedExpression)| policy.names.attribute(name);
        attributes.extend(read.iter().filter(wanted).map(|(name, value)| (name.clone(), value.clone())));
        let entity = Entity::new_with_tags(uid.clone(), attributes, above.iter().cloned(), tags)
            .map_err(|_| Unknown::Claim)?;
        let context = Context::from_pairs(read.into_iter().filter(|(name, _)| policy.names.in_context(name)))
            .map_err(|_| Unknown::Claim)?;
        let reach =
            declared.map(|declared| policy.world.reach(declared.reach.iter().cloned())).unwrap_or_default();
        let near = reach.iter().filter(|near| **near != uid).filter_map(|near| policy.world.entity(near));
        let alone =
            Entities::from_entities(near.chain([&entity]).cloned(), None).map_err(|_| Unknown::Groups)?;
        Ok(Self { uid, above, entity, alone, context, reach, groups_unknown })
    }
}

struct Claims<'a>(&'a Members);

impl Claims<'_> {
    /// The claims that some policy reads, under their attribute names.
    fn read(&self, policy: &AuthzPolicy) -> Result<BTreeMap<String, RestrictedExpression>, Unknown> {
        let mut read = BTreeMap::new();
        for (key, value) in self.0.iter() {
            let name = format!("{CLAIM}{key}");
            if !policy.names.in_context(&name) {
                continue;
            }
            // The last of several claims of one name counts, also when it is one that does not exist for policies.
            read.remove(&name);
            let value: Value = value.decode().map_err(|_| Unknown::Claim)?;
            if let Some(value) = convert(&value, 0) {
                read.insert(name, value);
            }
        }
        Ok(read)
    }

    /// Groups and roles with everything above them, as far as a policy could ask for it; and whether there may be more.
    fn above(
        &self,
        policy: &AuthzPolicy,
        uid: &EntityUid,
        groups: Groups,
    ) -> Result<(Vec<EntityUid>, bool), Unknown> {
        let (mut names, mut unknown) = (Vec::new(), self.says_groups_elsewhere());
        let claims = policy.group_claim.as_deref().into_iter().chain(GROUP_CLAIMS);
        for claim in claims {
            let said = self.list(claim)?;
            unknown |= said.is_incomplete;
            names.extend(said.names);
            // A claim that holds a list is the one that counts; the reference passes over everything else.
            if said.is_list {
                break;
            }
        }
        if let Some(claim) = &policy.role_claim {
            let said = self.list(claim)?;
            unknown |= said.is_incomplete;
            names.extend(said.names);
        }
        let mut belongs: Vec<EntityUid> = names.iter().map(|group| policy.types.group(group)).collect();
        if let Groups::Every = groups {
            let is_group = |uid: &&EntityUid| uid.type_name() == policy.types.group_type();
            belongs.extend(policy.askable.iter().filter(is_group).cloned());
        }
        let mut above: HashSet<EntityUid> = HashSet::new();
        for group in belongs {
            for higher in policy.world.above(&group) {
                above.insert(higher.clone());
            }
            if policy.askable.contains(&group) {
                above.insert(group);
            }
        }
        for higher in policy.world.above(uid) {
            above.insert(higher.clone());
        }
        above.remove(uid);
        Ok((above.into_iter().collect(), unknown))
    }

    /// Microsoft Entra leaves the groups of a user with more than 200 out of the token and says where to ask for them
    /// (OpenID Connect Core 1.0, section 5.6.2, distributed claims).
    fn says_groups_elsewhere(&self) -> bool {
        let elsewhere = self.0.get("_claim_names").and_then(|names| names.members().ok());
        elsewhere.is_some_and(|names| GROUP_CLAIMS.iter().any(|claim| names.get(claim).is_some()))
            || self.0.get("hasgroups").is_some_and(|value| *value == Json::boolean(true))
    }

    /// The texts that a claim lists; one text is a list of one. A claim of exactly this name goes before a path of names
    /// separated by dots.
    fn list(&self, claim: &str) -> Result<Said, Unknown> {
        let found = match self.0.get(claim) {
            Some(value) => Some(value.decode::<Value>().map_err(|_| Unknown::Groups)?),
            None => match claim.split_once('.').and_then(|(first, rest)| Some((self.0.get(first)?, rest))) {
                Some((value, rest)) => {
                    let value: Value = value.decode().map_err(|_| Unknown::Groups)?;
                    rest.split('.').try_fold(&value, |value, name| value.get(name)).cloned()
                }
                None => None,
            },
        };
        Ok(match found {
            None | Some(Value::Null) => Said::default(),
            Some(Value::String(text)) => Said { names: vec![text], ..Said::default() },
            Some(Value::Array(elements)) => {
                let count = elements.len();
                let names = elements.into_iter().filter_map(|element| match element {
                    Value::String(text) => Some(text),
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        None
                    }
                });
                let names: Vec<String> = names.collect();
                Said { is_incomplete: names.len() < count, names, is_list: true }
            }
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                Said { is_incomplete: true, ..Said::default() }
            }
        })
    }
}

/// What one claim says of groups.
#[derive(Debug, Default)]
struct Said {
    names: Vec<String>,
    /// It is a list, be it an empty one.
    is_list: bool,
    /// It holds something that is no text, so there may be groups that cannot be read.
    is_incomplete: bool,
}
