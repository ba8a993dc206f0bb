//! Who a caller is to limits that tell callers apart by more than their names: the values of claims, the overrides that
//! are for the caller, and whether the caller is among those on whom a limit is tried out.

use std::net::IpAddr;

use sha2::Digest;
use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error, Identity, counted_address};

use super::values::{Told, is_value};
use super::{Arguments, Bound, Limiter, Sharing, User};
use crate::claims::{belongs, said};
use crate::plan::{KeptValues, Overridden};
use crate::policy::{Anonymous, Who};
use crate::remote::{SharedUser, user_digest};
use crate::table::UserKey;

/// What [`crate::plan::Variation`] keeps of a caller: the values of claims, and the places of sizes.
type Traits = (SmallVec<[KeptValues; 1]>, SmallVec<[Option<u16>; 2]>);

impl Limiter {
    /// Who the caller is to the limits; refuses a caller without identity where the policy says so.
    pub(super) fn user(&self, bound: &Bound, ctx: &CallContext) -> Result<User, Error> {
        if !bound.plan.needs_user {
            return Ok(User::default());
        }
        match self.who(&ctx.caller, ctx.peer) {
            Some(user) => Ok(user),
            None if bound.plan.enforces_user() => Err(Error::Denied),
            // Rules on trial refuse nobody.
            None => Ok(User::default()),
        }
    }

    /// Who a caller is to the limits; nobody for a caller without identity where the policy says so.
    pub(super) fn who(&self, caller: &Caller, peer: Option<IpAddr>) -> Option<User> {
        let identity = match (caller, self.planner.policy().anonymous) {
            (Caller::Known(identity), _) => return Some(self.name(identity)),
            (Caller::Anonymous, Anonymous::Refuse) => return None,
            (Caller::Anonymous, Anonymous::Shared) => "",
            (Caller::Anonymous, Anonymous::Address) => {
                return peer.map(|address| self.name(&at_address(address)));
            }
        };
        Some(self.name(&unnamed(identity)))
    }

    fn name(&self, identity: &Identity) -> User {
        let shared = |sharing: &Sharing| SharedUser {
            digest: user_digest(identity),
            subject: self.has_former(sharing).then(|| identity.subject.clone()),
        };
        User { local: Some(self.key(identity)), shared: self.sharing.as_ref().map(shared) }
    }

    pub(super) fn key(&self, identity: &Identity) -> UserKey {
        let parts = (&identity.issuer, &identity.subject);
        let (high, low) = (self.hashers.0.hash_one(parts), self.hashers.1.hash_one(parts));
        UserKey::new(u128::from(high) << 64 | u128::from(low))
    }

    /// What a caller's claims and name, and what the call says, make of the limits.
    ///
    /// # Errors
    /// [`Error::Denied`] for a caller without a claim or an identity that a limit in force is kept for.
    pub(super) fn traits(
        &self,
        bound: &Bound,
        (ctx, arguments): (&CallContext, Arguments<'_>),
        place: u8,
    ) -> Result<Traits, Error> {
        let varies = &bound.plan.varies;
        let told: Result<Vec<Vec<Told>>, Error> =
            varies.values.iter().map(|needed| self.values(bound, (ctx, arguments), needed, place)).collect();
        let told = told?;
        let mut sizes = SmallVec::new();
        for Overridden { overrides, value, rule: _ } in &varies.overridden {
            match value.and_then(|value| told.get(value)) {
                None => sizes.push(overrides.find(|who| self.is(&ctx.caller, who))),
                Some(values) => {
                    let of = |(text, _): &Told| overrides.find(|who| is_value(text.as_deref(), who));
                    sizes.extend(values.iter().map(of));
                }
            }
        }
        let values = |told: Vec<Told>| told.into_iter().map(|(_, value)| value).collect();
        Ok((told.into_iter().map(values).collect(), sizes))
    }

    /// Whether an override of a limit per user names a caller.
    fn is(&self, caller: &Caller, who: &Who) -> bool {
        let Caller::Known(identity) = caller else { return matches!(who, Who::Rest) };
        match who {
            Who::Rest => true,
            Who::Subject { subject, issuer } => {
                *identity.subject == **subject
                    && issuer.as_ref().is_none_or(|issuer| *identity.issuer == **issuer)
            }
            Who::Group(group) => belongs(identity, &self.planner.policy().group_claims, group),
            Who::Claim { claim, value } => {
                let said = said(identity, claim);
                said.values().iter().any(|text| value.as_ref().is_none_or(|value| **text == **value))
            }
        }
    }

    /// Where a caller stands among a hundred: always at the same place, on every replica. A caller who cannot be told from
    /// others is at the first, where every percentage counts.
    pub(super) fn place(&self, ctx: &CallContext) -> u8 {
        match (&ctx.caller, self.planner.policy().anonymous, ctx.peer) {
            (Caller::Known(identity), ..) => place_among_hundred(identity),
            (Caller::Anonymous, Anonymous::Address, Some(address)) => {
                place_among_hundred(&at_address(address))
            }
            (Caller::Anonymous, ..) => 0,
        }
    }
}

/// The identity of a caller who is known by an address alone.
pub(super) fn at_address(address: IpAddr) -> Identity {
    unnamed(&counted_address(address).to_string())
}

/// A user made of something that is no identity; no issuer is empty, so it never meets a real one.
pub(super) fn unnamed(subject: &str) -> Identity {
    Identity { issuer: String::new(), subject: subject.to_owned(), claims: vmcp_domain::Members::new() }
}

/// Evenly spread over 0 to 99.
fn place_among_hundred(identity: &Identity) -> u8 {
    let digest = sha2::Sha256::digest(user_digest(identity).as_bytes());
    let number = digest.iter().take(4).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    u8::try_from((number * 100) >> 32).unwrap_or(99)
}
