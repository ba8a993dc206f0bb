//! Who a caller is to limits that tell callers apart by more than their names: the values of claims, the overrides that
//! are for the caller, and whether the caller is among those on whom a limit is tried out.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::Digest;
use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error, Identity, counted_address};

use super::{Bound, Limiter, Sharing, User};
use crate::claims::{Said, belongs, said};
use crate::plan::{ClaimValue, ClaimValues, NeededClaim, Overridden};
use crate::policy::{Anonymous, Lists, MissingClaim, Quota, SizeRef, Who};
use crate::remote::{SharedUser, user_digest};
use crate::table::UserKey;

/// What [`crate::plan::Variation`] keeps of a caller: the values of claims, and the places of sizes.
type Traits = (SmallVec<[ClaimValues; 1]>, SmallVec<[Option<u16>; 2]>);

/// The most values of a list that are charged at once, each in its own bucket. A caller with more is one without the claim.
const CHARGED_COUNT_MAX: usize = 16;

/// One value of a claim with its text; no text for callers without one.
type Told = (Option<String>, ClaimValue);

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

    /// What a caller's claims and name make of the limits.
    ///
    /// # Errors
    /// [`Error::Denied`] for a caller without a claim that a limit in force is kept for.
    pub(super) fn traits(&self, bound: &Bound, caller: &Caller, place: u8) -> Result<Traits, Error> {
        let varies = &bound.plan.varies;
        let told: Result<Vec<Vec<Told>>, Error> =
            varies.claims.iter().map(|needed| self.values(bound, caller, needed, place)).collect();
        let told = told?;
        let mut sizes = SmallVec::new();
        for Overridden { overrides, claim, rule: _ } in &varies.overridden {
            match claim.and_then(|claim| told.get(claim)) {
                None => sizes.push(overrides.find(|who| self.is(caller, who))),
                Some(values) => {
                    let of = |(text, _): &Told| overrides.find(|who| is_value(text.as_deref(), who));
                    sizes.extend(values.iter().map(of));
                }
            }
        }
        let values = |told: Vec<Told>| told.into_iter().map(|(_, value)| value).collect();
        Ok((told.into_iter().map(values).collect(), sizes))
    }

    /// The values that count of what a caller's claim says, in the order of their keys.
    fn values(
        &self,
        bound: &Bound,
        caller: &Caller,
        needed: &NeededClaim,
        place: u8,
    ) -> Result<Vec<Told>, Error> {
        let NeededClaim { claim, missing, lists, largest_of, enforced_percent } = needed;
        let texts = match caller {
            Caller::Known(identity) => charged(said(identity, claim), *lists, largest_of.as_ref()),
            Caller::Anonymous => Vec::new(),
        };
        match (texts.is_empty(), missing) {
            (false, _) => {}
            (true, MissingClaim::Refuse) if place < *enforced_percent => {
                tracing::info!(asked = %bound.limited, claim = &**claim, "refused: the caller lacks the claim");
                return Err(Error::Denied);
            }
            (true, MissingClaim::Refuse) => {
                tracing::info!(asked = %bound.limited, claim = &**claim, "a rule in shadow mode would have refused: the caller lacks the claim");
                return Ok(vec![(None, self.claim_value(claim, None, true))]);
            }
            (true, MissingClaim::Shared) => return Ok(vec![(None, self.claim_value(claim, None, false))]),
        }
        let value = |text: String| {
            let value = self.claim_value(claim, Some(&text), false);
            (Some(text), value)
        };
        let mut told: Vec<Told> = texts.into_iter().map(value).collect();
        // The order in which their buckets are locked.
        told.sort_by_key(|(_, value)| value.key);
        Ok(told)
    }

    fn claim_value(&self, claim: &str, value: Option<&str>, is_refused: bool) -> ClaimValue {
        // One byte more tells a missing value from an empty one.
        let parts = (claim, value);
        let (high, low) = (self.hashers.0.hash_one(parts), self.hashers.1.hash_one(parts));
        let key = UserKey::new(u128::from(high) << 64 | u128::from(low));
        let digest = match (&self.sharing, value) {
            (None, _) => Arc::from(""),
            (Some(_), None) => Arc::from("none"),
            (Some(_), Some(value)) => {
                user_digest(&Identity { subject: value.to_owned(), ..unnamed("") }).into()
            }
        };
        ClaimValue { key, digest, is_refused }
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

/// Whether an override of a limit per claim names a value of it.
fn is_value(text: Option<&str>, who: &Who) -> bool {
    match who {
        Who::Rest | Who::Claim { value: None, .. } => true,
        Who::Claim { value: Some(value), .. } => text == Some(&**value),
        Who::Subject { .. } | Who::Group(_) => false,
    }
}

/// The values that are charged: the only one, or of a list each or the one that a limit allows most.
fn charged(said: Said, lists: Lists, largest_of: Option<&Quota>) -> Vec<String> {
    let mut texts = match (said, lists) {
        (Said::Nothing, _) | (Said::List(_), Lists::Missing) => return Vec::new(),
        (Said::One(text), _) => return vec![text],
        (Said::List(texts), Lists::Each | Lists::Largest) => texts,
    };
    texts.sort_unstable();
    texts.dedup();
    match largest_of {
        Some(quota) => largest(texts, quota).into_iter().collect(),
        None if texts.len() > CHARGED_COUNT_MAX => Vec::new(),
        None => texts,
    }
}

/// The value that a limit allows most; of several the last in the order of texts, as tokens list values in any order.
fn largest(texts: Vec<String>, quota: &Quota) -> Option<String> {
    let size = |text: &String| -> SizeRef<'_> {
        quota.overrides.size(quota.overrides.find(|who| is_value(Some(text), who)), &quota.windows)
    };
    texts.into_iter().max_by(|one, other| size(one).compare(&size(other)))
}

/// Evenly spread over 0 to 99.
fn place_among_hundred(identity: &Identity) -> u8 {
    let digest = sha2::Sha256::digest(user_digest(identity).as_bytes());
    let number = digest.iter().take(4).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    u8::try_from((number * 100) >> 32).unwrap_or(99)
}
