//! What makes calls of one tool differ to the limits: what they cost, whose claims their callers have, and who is among
//! those on whom a limit is tried out.

use std::num::NonZeroU32;
use std::sync::Arc;

use sha2::Digest;
use smallvec::SmallVec;
use vmcp_domain::{CallContext, Caller, Error, Identity, Json};

use super::{Bound, Limiter, unnamed};
use crate::plan::{ClaimValue, Variation};
use crate::policy::{Anonymous, MissingClaim, Price};
use crate::price::Priced;
use crate::remote::user_digest;
use crate::table::UserKey;

/// What is known of a call's arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arguments<'a> {
    /// These, if any were sent.
    Sent(Option<&'a Json>),
    /// Nothing: nobody calls yet. Prices are then what the rules say at least.
    Unknown,
}

impl Limiter {
    /// The plan of one call.
    ///
    /// # Errors
    /// [`Error::Denied`] for a caller without a claim that a limit is kept for, [`Error::InvalidRequest`] where the
    /// arguments leave the price open.
    pub(crate) fn vary(
        &self,
        bound: &Arc<Bound>,
        ctx: &CallContext,
        arguments: Arguments<'_>,
    ) -> Result<Arc<Bound>, Error> {
        let varies = &bound.plan.varies;
        if varies.is_empty() {
            return Ok(bound.clone());
        }
        let variation = Variation {
            cost: price(bound, arguments)?,
            claims: self.claims(bound, &ctx.caller)?,
            standing: self.standing(&varies.percents, ctx),
        };
        Ok(bound.variant((&self.planner, self.leases.as_deref()), variation, self.clock.now()))
    }

    fn claims(&self, bound: &Bound, caller: &Caller) -> Result<SmallVec<[ClaimValue; 1]>, Error> {
        let value = |(claim, missing): &(Arc<str>, MissingClaim)| match (claimed(caller, claim), missing) {
            (Some(value), _) => Ok(self.claim_value(claim, Some(&value))),
            (None, MissingClaim::Shared) => Ok(self.claim_value(claim, None)),
            (None, MissingClaim::Refuse) => {
                tracing::info!(asked = %bound.limited, claim = &**claim, "refused: the caller lacks the claim");
                Err(Error::Denied)
            }
        };
        bound.plan.varies.claims.iter().map(value).collect()
    }

    fn claim_value(&self, claim: &str, value: Option<&str>) -> ClaimValue {
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
        ClaimValue { key, digest }
    }

    /// Where a caller stands among a hundred: always at the same place, on every replica. Who cannot be told from others
    /// stands first, where every percentage counts.
    fn standing(&self, percents: &[u8], ctx: &CallContext) -> u8 {
        if percents.is_empty() {
            return 0;
        }
        let place = match (&ctx.caller, self.planner.policy().anonymous, ctx.peer) {
            (Caller::Known(identity), ..) => place_among_hundred(identity),
            (Caller::Anonymous, Anonymous::Address, Some(address)) => {
                place_among_hundred(&unnamed(&address.to_string()))
            }
            (Caller::Anonymous, ..) => return 0,
        };
        percents.iter().copied().take_while(|percent| *percent <= place).last().unwrap_or(0)
    }
}

/// Evenly spread over 0 to 99.
fn place_among_hundred(identity: &Identity) -> u8 {
    let digest = sha2::Sha256::digest(user_digest(identity).as_bytes());
    let number = digest.iter().take(4).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    u8::try_from((number * 100) >> 32).unwrap_or(99)
}

/// What a caller's claim says, as text.
fn claimed(caller: &Caller, claim: &str) -> Option<String> {
    let Caller::Known(identity) = caller else { return None };
    let value = match claim {
        "iss" => return Some(identity.issuer.clone()),
        "sub" => return Some(identity.subject.clone()),
        _other => identity.claims.get(claim)?,
    };
    // A list or an object is no one value; neither is null.
    let plain = !value.as_str().starts_with(['[', '{']) && !value.is_null();
    plain.then(|| value.to_text().unwrap_or_else(|| value.as_str().to_owned()))
}

fn price(bound: &Bound, arguments: Arguments<'_>) -> Result<Option<NonZeroU32>, Error> {
    let Arguments::Sent(arguments) = arguments else { return Ok(None) };
    let Some(tool) = bound.asked.tool() else { return Ok(None) };
    let priced = Priced { tool, arguments, after: None };
    let mut largest = None;
    for price in &bound.plan.varies.prices {
        let cost = price.of(&priced).map_err(|error| unpriced(bound, price, &error))?;
        largest = largest.max(NonZeroU32::new(cost));
    }
    Ok(largest)
}

/// Nobody knows what the call would cost, so it is not made.
fn unpriced(bound: &Bound, price: &Price, error: &crate::policy::PriceError) -> Error {
    let tool = &bound.limited;
    tracing::warn!(%tool, %price, %error, "a call is refused: its price cannot be computed from its arguments");
    Error::InvalidRequest(format!("the price of this call of tool `{tool}` cannot be computed: {error}"))
}
