//! Identifies a caller for limits that need more than the name: the values of claims, the overrides that
//! apply to the caller, and whether a gradual rollout of a limit includes the caller.

use std::net::IpAddr;

use sha2::Digest;
use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error, Identity, RequiredIdentity};

use super::synthetic_identity::{address_identity, synthetic_identity};
use super::values::{ValueWithText, selects_value};
use crate::bucket::user_key::UserKey;
use crate::limiter::{Arguments, LimitedUser, Limiter, Sharing, ToolPlan};
use crate::plan::claims::{claim_value, is_in_group};
use crate::plan::policy::{Anonymous, CallerSelector};
use crate::plan::{BucketValues, OverriddenLimit};
use crate::shared::store::{SharedUser, user_digest};

/// The parts of [`crate::plan::Variation`] that depend on a caller: values of claims, and indexes of sizes.
type CallerVariation = (SmallVec<[BucketValues; 1]>, SmallVec<[Option<u16>; 2]>);

impl Limiter {
    /// The caller as the limits see it; refuses a caller without identity where the policy says so.
    pub(in crate::limiter) fn limited_user(
        &self,
        tool_plan: &ToolPlan,
        ctx: &CallContext,
    ) -> Result<LimitedUser, Error> {
        if !tool_plan.plan.needs_user {
            return Ok(LimitedUser::default());
        }
        match self.find_user(&ctx.caller, ctx.peer_address) {
            Some(user) => Ok(user),
            None if tool_plan.plan.has_enforced_per_user() => {
                Err(Error::IdentityRequired(RequiredIdentity::Identity))
            }
            // Rules in shadow mode refuse no call.
            None => Ok(LimitedUser::default()),
        }
    }

    /// The caller as the limits see it; `None` for a caller without identity where the policy refuses these.
    pub(in crate::limiter) fn find_user(&self, caller: &Caller, peer: Option<IpAddr>) -> Option<LimitedUser> {
        let identity = match (caller, self.planner.policy().anonymous) {
            (Caller::Known(identity), _) => return Some(self.user_from_identity(identity)),
            (Caller::Anonymous, Anonymous::Refuse) => return None,
            (Caller::Anonymous, Anonymous::Shared) => "",
            (Caller::Anonymous, Anonymous::Address) => {
                return peer.map(|address| self.user_from_identity(&address_identity(address)));
            }
        };
        Some(self.user_from_identity(&synthetic_identity(identity)))
    }

    fn user_from_identity(&self, identity: &Identity) -> LimitedUser {
        let shared = |sharing: &Sharing| SharedUser {
            digest: user_digest(identity),
            subject: self.has_legacy_keys(sharing).then(|| identity.subject.clone()),
        };
        LimitedUser { local: Some(self.user_key(identity)), shared: self.sharing.as_ref().map(shared) }
    }

    pub(in crate::limiter) fn user_key(&self, identity: &Identity) -> UserKey {
        let parts = (&identity.issuer, &identity.subject);
        let (high, low) = (self.hashers.0.hash_one(parts), self.hashers.1.hash_one(parts));
        UserKey::new(u128::from(high) << 64 | u128::from(low))
    }

    /// What a caller's claims and name, and the call's arguments and headers, change in the limits.
    ///
    /// # Errors
    /// [`Error::IdentityRequired`] for a caller without a claim or an identity that an enforced limit needs.
    /// [`Error::InvalidRequest`] where an argument or header that a limit counts by is ambiguous.
    pub(in crate::limiter) fn caller_variation(
        &self,
        tool_plan: &ToolPlan,
        (ctx, arguments): (&CallContext, Arguments<'_>),
        percentile: u8,
    ) -> Result<CallerVariation, Error> {
        let variation_inputs = &tool_plan.plan.variation_inputs;
        let values_with_text: Result<Vec<Vec<ValueWithText>>, Error> = variation_inputs
            .values
            .iter()
            .map(|required| self.required_values(tool_plan, (ctx, arguments), required, percentile))
            .collect();
        let values_with_text = values_with_text?;
        let mut sizes = SmallVec::new();
        for OverriddenLimit { overrides, value_index: value, rule: _ } in &variation_inputs.overridden {
            match value.and_then(|value| values_with_text.get(value)) {
                None => sizes.push(overrides.find(|selector| self.is_selected(&ctx.caller, selector))),
                Some(values) => {
                    let of = |(text, _): &ValueWithText| {
                        overrides.find(|selector| selects_value(text.as_deref(), selector))
                    };
                    sizes.extend(values.iter().map(of));
                }
            }
        }
        let values = |values_with_text: Vec<ValueWithText>| {
            values_with_text.into_iter().map(|(_, value)| value).collect()
        };
        Ok((values_with_text.into_iter().map(values).collect(), sizes))
    }

    /// Whether an override of a limit per user selects a caller.
    fn is_selected(&self, caller: &Caller, selector: &CallerSelector) -> bool {
        let Caller::Known(identity) = caller else { return matches!(selector, CallerSelector::Others) };
        match selector {
            CallerSelector::Others => true,
            CallerSelector::Subject { subject, issuer } => {
                *identity.subject == **subject
                    && issuer.as_ref().is_none_or(|issuer| *identity.issuer == **issuer)
            }
            CallerSelector::Group(group) => is_in_group(identity, &self.planner.policy().group_claims, group),
            CallerSelector::Claim { claim, value } => {
                let claim_value = claim_value(identity, claim);
                claim_value.values().iter().any(|text| value.as_ref().is_none_or(|value| **text == **value))
            }
        }
    }

    /// The percentile of a caller, 0 to 99: always the same, on every replica. A caller who cannot be
    /// distinguished from others has percentile 0, to which every percentage applies.
    pub(in crate::limiter) fn percentile(&self, ctx: &CallContext) -> u8 {
        match (&ctx.caller, self.planner.policy().anonymous, ctx.peer_address) {
            (Caller::Known(identity), ..) => identity_percentile(identity),
            (Caller::Anonymous, Anonymous::Address, Some(address)) => {
                identity_percentile(&address_identity(address))
            }
            (Caller::Anonymous, ..) => 0,
        }
    }
}

/// Distributes identities evenly over 0 to 99.
fn identity_percentile(identity: &Identity) -> u8 {
    let digest = sha2::Sha256::digest(user_digest(identity).as_bytes());
    let number = digest.iter().take(4).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    u8::try_from((number * 100) >> 32).unwrap_or(99)
}
