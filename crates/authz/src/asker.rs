//! The caller as policies see it: `Client::"<subject>"` with its claims, below its groups and roles.
//!
//! The subject alone names the entity, as in ToolHive's policies; who vouches for it stands beside it as `claim_iss`.
//! Subject and issuer come from the identity, whatever the claims say.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use cedar_policy::{Context, Entities, Entity, EntityUid, RestrictedExpression};
use serde_json::Value;
use vmcp_domain::{Caller, Identity, Members};

use crate::policy::AuthzPolicy;
use crate::value::convert;
use crate::words::{ANONYMOUS, ANONYMOUS_CLAIMS, CLAIM, GROUP_CLAIMS};

/// One caller, ready for any number of decisions by the policies that recognised it.
#[derive(Clone)]
pub struct Asker(Result<Facts, Unknown>);

impl Asker {
    pub(crate) fn new(policy: &AuthzPolicy, caller: &Caller) -> Self {
        Self(match caller {
            Caller::Anonymous => Facts::build(policy, ANONYMOUS, &ANONYMOUS_CLAIMS, &Members::new()),
            Caller::Known(identity) => {
                let Identity { issuer, subject, claims } = &**identity;
                Facts::build(policy, subject, &[("iss", issuer)], claims)
            }
        })
    }

    pub(crate) fn facts(&self) -> Result<&Facts, Unknown> {
        self.0.as_ref().map_err(|unknown| *unknown)
    }
}

impl fmt::Debug for Asker {
    /// Names nobody: claims are personal data and do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("recognised", &self.0.is_ok()).finish_non_exhaustive()
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
        let above = claims.above(policy, &uid)?;
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
        Ok(Self { uid, above, entity, alone, context, reach })
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

    /// Groups and roles with everything above them, as far as a policy could ask for it.
    fn above(&self, policy: &AuthzPolicy, uid: &EntityUid) -> Result<Vec<EntityUid>, Unknown> {
        let mut groups = match &policy.group_claim {
            Some(claim) => self.list(claim)?,
            None => None,
        };
        for claim in GROUP_CLAIMS {
            if groups.is_some() {
                break;
            }
            groups = self.list(claim)?;
        }
        let roles = match &policy.role_claim {
            Some(claim) => self.list(claim)?,
            None => None,
        };
        let mut above: HashSet<EntityUid> = HashSet::new();
        for group in groups.into_iter().chain(roles).flatten() {
            let group = policy.types.group(&group);
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
        Ok(above.into_iter().collect())
    }

    /// The texts in the claim's array; `None` when there is no such array. A claim of exactly this name goes before
    /// a path of names separated by dots.
    fn list(&self, claim: &str) -> Result<Option<Vec<String>>, Unknown> {
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
        let Some(Value::Array(elements)) = found else { return Ok(None) };
        let text = |element: Value| match element {
            Value::String(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        };
        Ok(Some(elements.into_iter().filter_map(text).collect()))
    }
}
