//! The values by which limits tell calls apart besides their callers: of claims, of arguments and of headers.

use std::sync::Arc;

use vmcp_domain::{Ambiguity, CallContext, Caller, Error, Identity};

use super::who::unnamed;
use super::{Arguments, Bound, Limiter};
use crate::claims::{Said, said};
use crate::plan::{KeptValue, NeededValue};
use crate::policy::{CallValue, Lists, MissingValue, Quota, SizeRef, ValueOf, Who};
use crate::remote::user_digest;
use crate::table::UserKey;

/// The most values of a list that are charged at once, each in its own bucket. A caller with more is one without the claim.
const CHARGED_COUNT_MAX: usize = 16;

/// One value with its text; no text for callers and calls without one.
pub(super) type Told = (Option<String>, KeptValue);

impl Limiter {
    /// The values that a call is charged for, in the order of their keys; none where it is not known what the call says.
    ///
    /// # Errors
    /// [`Error::Denied`] for a caller without a claim or an identity that a limit in force is kept for,
    /// [`Error::InvalidRequest`] where an argument leaves open which value it has.
    pub(super) fn values(
        &self,
        bound: &Bound,
        (ctx, arguments): (&CallContext, Arguments<'_>),
        needed: &NeededValue,
        place: u8,
    ) -> Result<Vec<Told>, Error> {
        match (&needed.of, arguments) {
            (ValueOf::Claim(claim), _) => self.claimed(bound, &ctx.caller, (needed, claim), place),
            (ValueOf::Call(_), Arguments::Unknown) => Ok(Vec::new()),
            (ValueOf::Call(value), Arguments::Sent(arguments)) => {
                match crate::call_values::text(value, arguments, &ctx.passthrough_headers) {
                    Ok(text) => self.chosen(bound, ctx, (needed, value, text), place),
                    Err(fault) => self.unclear(bound, needed, place, &fault),
                }
                .map(|told| vec![told])
            }
        }
    }

    /// The value of a part of a call. Callers choose it: without a list of values it counts for its caller alone.
    fn chosen(
        &self,
        bound: &Bound,
        ctx: &CallContext,
        (needed, value, text): (&NeededValue, &CallValue, Option<String>),
        place: u8,
    ) -> Result<Told, Error> {
        let kind = needed.of.kind().stem();
        if let Some(listed) = &value.listed {
            let text = text.filter(|text| listed.iter().any(|one| **one == **text));
            let kept = self.kept(&(kind, needed.of.name(), &text), text.as_deref(), None);
            return Ok((text, kept));
        }
        let owner = self.who(&ctx.caller, ctx.peer);
        let Some(user) = owner.as_ref().and_then(|user| user.local) else {
            if self.is_in_force(bound, needed, place, "the caller has no identity") {
                return Err(Error::Denied);
            }
            return Ok(self.refused_on_trial(needed));
        };
        // Who is not verified makes up no buckets.
        let text = text.filter(|_| matches!(ctx.caller, Caller::Known(_)));
        let parts = (kind, needed.of.name(), &text, user.number());
        let digest = owner.and_then(|user| user.shared).map(|shared| shared.digest);
        let kept = self.kept(&parts, text.as_deref(), digest.as_deref());
        Ok((text, KeptValue { owner: Some(user), ..kept }))
    }

    /// The values that count of what a caller's claim says.
    fn claimed(
        &self,
        bound: &Bound,
        caller: &Caller,
        (needed, claim): (&NeededValue, &Arc<str>),
        place: u8,
    ) -> Result<Vec<Told>, Error> {
        let texts = match caller {
            Caller::Known(identity) => {
                charged(said(identity, claim), needed.lists, needed.largest_of.as_ref())
            }
            Caller::Anonymous => Vec::new(),
        };
        let kept = |text: Option<&str>| self.kept(&(&**claim, text), text, None);
        if texts.is_empty() {
            let lacks = "the caller lacks the claim";
            let is_refused = needed.missing == MissingValue::Refuse;
            if is_refused && self.is_in_force(bound, needed, place, lacks) {
                return Err(Error::Denied);
            }
            return Ok(vec![(None, KeptValue { is_refused, ..kept(None) })]);
        }
        let told = |text: String| {
            let kept = kept(Some(&text));
            (Some(text), kept)
        };
        let mut told: Vec<Told> = texts.into_iter().map(told).collect();
        // The order in which their buckets are locked.
        told.sort_by_key(|(_, kept)| kept.key);
        Ok(told)
    }

    /// The value of an argument or header that the backend may read otherwise.
    fn unclear(
        &self,
        bound: &Bound,
        needed: &NeededValue,
        place: u8,
        fault: &Ambiguity,
    ) -> Result<Told, Error> {
        if self.is_in_force(bound, needed, place, "an argument or header has no one value") {
            let rule = needed.of.title();
            return Err(Error::InvalidRequest(format!("{fault}, and `{rule}` counts by it")));
        }
        Ok(self.refused_on_trial(needed))
    }

    /// Whether a limit refuses this caller; logs that it does, or would have.
    fn is_in_force(&self, bound: &Bound, needed: &NeededValue, place: u8, reason: &str) -> bool {
        let rule = needed.of.title();
        let is_in_force = place < needed.enforced_percent;
        let would = if is_in_force { "" } else { "a rule in shadow mode would have " };
        tracing::info!(asked = %bound.limited, rule, "{would}refused: {reason}");
        is_in_force
    }

    /// The value of a call that a limit on trial would have refused for want of one.
    fn refused_on_trial(&self, needed: &NeededValue) -> Told {
        let parts = (needed.of.kind().stem(), needed.of.name(), None::<&str>);
        (None, KeptValue { is_refused: true, ..self.kept(&parts, None, None) })
    }

    /// What keeps a value apart: in this process by `parts`, in a shared store by its text, of the caller with this digest or
    /// of all callers.
    fn kept(&self, parts: &impl std::hash::Hash, text: Option<&str>, caller: Option<&str>) -> KeptValue {
        // One byte more tells a missing value from an empty one.
        let (high, low) = (self.hashers.0.hash_one(parts), self.hashers.1.hash_one(parts));
        let key = UserKey::new(u128::from(high) << 64 | u128::from(low));
        let of_caller = caller.unwrap_or_default();
        let digest = match (&self.sharing, text) {
            (None, _) => Arc::from(""),
            (Some(_), None) => Arc::from(caller.unwrap_or("none")),
            (Some(_), Some(text)) => {
                user_digest(&Identity { subject: text.to_owned(), ..from_issuer(of_caller) }).into()
            }
        };
        KeptValue { key, digest, owner: None, is_refused: false }
    }
}

fn from_issuer(issuer: &str) -> Identity {
    Identity { issuer: issuer.to_owned(), ..unnamed("") }
}

/// Whether an override of a limit for each value names one.
pub(super) fn is_value(text: Option<&str>, who: &Who) -> bool {
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
