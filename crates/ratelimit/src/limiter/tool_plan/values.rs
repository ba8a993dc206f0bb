//! The values, other than the caller itself, that limits count by: of claims, of arguments and of headers.

use std::sync::Arc;

use vmcp_domain::{CallContext, Caller, Error, Identity, RequiredIdentity};
use vmcp_json::Ambiguity;

use crate::bucket::user_key::UserKey;
use crate::limiter::tool_plan::synthetic_identity::synthetic_identity;
use crate::limiter::{Arguments, Limiter, ToolPlan};
use crate::plan::claims::{ClaimValue, claim_value};
use crate::plan::policy::{
    CallValue, CallerSelector, LimitSizeRef, ListHandling, MissingValue, Quota, ValueSource,
};
use crate::plan::{BucketValue, RequiredValue};
use crate::shared::store::user_digest;

/// The most values of a list that are charged at once, each in its own bucket. A caller with more is treated
/// as one without the claim.
const CHARGED_VALUE_COUNT_MAX: usize = 16;

/// One value with its text; the text is `None` for callers and calls without a value.
pub(in crate::limiter) type ValueWithText = (Option<String>, BucketValue);

impl Limiter {
    /// The values that a call is charged for, in the order of their keys; none where the call's arguments are
    /// unknown.
    ///
    /// # Errors
    /// [`Error::IdentityRequired`] for a caller without a claim or an identity that an enforced limit needs.
    /// [`Error::InvalidRequest`] where an argument or header has no single value.
    pub(in crate::limiter) fn required_values(
        &self,
        tool_plan: &ToolPlan,
        (ctx, arguments): (&CallContext, Arguments<'_>),
        required: &RequiredValue,
        percentile: u8,
    ) -> Result<Vec<ValueWithText>, Error> {
        match (&required.source, arguments) {
            (ValueSource::Claim(claim), _) => {
                self.claim_values(tool_plan, &ctx.caller, (required, claim), percentile)
            }
            (ValueSource::Call(_), Arguments::Unknown) => Ok(Vec::new()),
            (ValueSource::Call(value), Arguments::Sent(arguments)) => {
                match crate::plan::call_values::call_value_text(value, arguments, &ctx.passthrough_headers) {
                    Ok(text) => self.call_part_value(tool_plan, ctx, (required, value, text), percentile),
                    Err(fault) => self.ambiguous_value(tool_plan, required, percentile, &fault),
                }
                .map(|value_with_text| vec![value_with_text])
            }
        }
    }

    /// The value of a part of a call. Callers choose it, so without a list of allowed values it counts for
    /// its caller alone.
    fn call_part_value(
        &self,
        tool_plan: &ToolPlan,
        ctx: &CallContext,
        (required, value, text): (&RequiredValue, &CallValue, Option<String>),
        percentile: u8,
    ) -> Result<ValueWithText, Error> {
        let kind = required.source.kind().key_stem();
        if let Some(listed) = &value.listed {
            let text = text.filter(|text| listed.iter().any(|one| **one == **text));
            let bucket_value =
                self.bucket_value(&(kind, required.source.name(), &text), text.as_deref(), None);
            return Ok((text, bucket_value));
        }
        let owner = self.find_user(&ctx.caller, ctx.peer_address);
        let Some(user) = owner.as_ref().and_then(|user| user.local) else {
            if self.is_value_enforced(tool_plan, required, percentile, "the caller has no identity") {
                return Err(Error::IdentityRequired(RequiredIdentity::Identity));
            }
            return Ok(self.refused_in_shadow(required));
        };
        // A caller without a verified identity creates no buckets.
        let text = text.filter(|_| matches!(ctx.caller, Caller::Known(_)));
        let parts = (kind, required.source.name(), &text, user.number());
        let digest = owner.and_then(|user| user.shared).map(|shared| shared.digest);
        let bucket_value = self.bucket_value(&parts, text.as_deref(), digest.as_deref());
        Ok((text, BucketValue { chosen_by: Some(user), ..bucket_value }))
    }

    /// The charged values of a caller's claim.
    fn claim_values(
        &self,
        tool_plan: &ToolPlan,
        caller: &Caller,
        (required, claim): (&RequiredValue, &Arc<str>),
        percentile: u8,
    ) -> Result<Vec<ValueWithText>, Error> {
        let texts = match caller {
            Caller::Known(identity) => charged_texts(
                claim_value(identity, claim),
                required.list_handling,
                required.largest_quota.as_ref(),
            ),
            Caller::Anonymous => Vec::new(),
        };
        let bucket_value = |text: Option<&str>| self.bucket_value(&(&**claim, text), text, None);
        if texts.is_empty() {
            let lacks = "the caller has no value for the claim";
            let is_refused = required.missing == MissingValue::Refuse;
            if is_refused && self.is_value_enforced(tool_plan, required, percentile, lacks) {
                return Err(Error::IdentityRequired(RequiredIdentity::Claim(claim.to_string())));
            }
            return Ok(vec![(None, BucketValue { is_refused, ..bucket_value(None) })]);
        }
        let value_with_text = |text: String| {
            let bucket_value = bucket_value(Some(&text));
            (Some(text), bucket_value)
        };
        let mut value_with_text: Vec<ValueWithText> = texts.into_iter().map(value_with_text).collect();
        // The order in which their buckets are locked.
        value_with_text.sort_by_key(|(_, bucket_value)| bucket_value.key);
        Ok(value_with_text)
    }

    /// Handles the value of an argument or header that the backend may read differently.
    fn ambiguous_value(
        &self,
        tool_plan: &ToolPlan,
        required: &RequiredValue,
        percentile: u8,
        fault: &Ambiguity,
    ) -> Result<ValueWithText, Error> {
        if self.is_value_enforced(tool_plan, required, percentile, "an argument or header has no one value") {
            let rule = required.source.config_path();
            return Err(Error::InvalidRequest(format!("{fault}, and `{rule}` counts by it")));
        }
        Ok(self.refused_in_shadow(required))
    }

    /// Whether a limit refuses this caller; logs the refusal, or what a rule in shadow mode would have
    /// refused.
    fn is_value_enforced(
        &self,
        tool_plan: &ToolPlan,
        required: &RequiredValue,
        percentile: u8,
        reason: &str,
    ) -> bool {
        let rule = required.source.config_path();
        let is_in_force = percentile < required.enforced_percent;
        let would = if is_in_force { "" } else { "a rule in shadow mode would have " };
        tracing::info!(asked = %tool_plan.limited, rule, "{would}refused: {reason}");
        is_in_force
    }

    /// The value of a call that a limit in shadow mode would have refused because it has none.
    fn refused_in_shadow(&self, required: &RequiredValue) -> ValueWithText {
        let parts = (required.source.kind().key_stem(), required.source.name(), None::<&str>);
        (None, BucketValue { is_refused: true, ..self.bucket_value(&parts, None, None) })
    }

    /// The bucket of a value. In this process `parts` identify it. In a shared store its text does, for the
    /// caller with this digest or for all callers.
    fn bucket_value(
        &self,
        parts: &impl std::hash::Hash,
        text: Option<&str>,
        caller: Option<&str>,
    ) -> BucketValue {
        // Hashing an option adds one byte, which distinguishes a missing value from an empty one.
        let (high, low) = (self.hashers.0.hash_one(parts), self.hashers.1.hash_one(parts));
        let key = UserKey::new(u128::from(high) << 64 | u128::from(low));
        let of_caller = caller.unwrap_or_default();
        let digest = match (&self.sharing, text) {
            (None, _) => Arc::from(""),
            (Some(_), None) => Arc::from(caller.unwrap_or("none")),
            (Some(_), Some(text)) => {
                user_digest(&Identity { subject: text.to_owned(), ..identity_from_issuer(of_caller) }).into()
            }
        };
        BucketValue { key, digest, chosen_by: None, is_refused: false }
    }
}

fn identity_from_issuer(issuer: &str) -> Identity {
    Identity { issuer: issuer.to_owned(), ..synthetic_identity("") }
}

/// Whether an override of a limit by value selects this value.
pub(in crate::limiter) fn selects_value(text: Option<&str>, selector: &CallerSelector) -> bool {
    match selector {
        CallerSelector::Others | CallerSelector::Claim { value: None, .. } => true,
        CallerSelector::Claim { value: Some(value), .. } => text == Some(&**value),
        CallerSelector::Subject { .. } | CallerSelector::Group(_) => false,
    }
}

/// The values that are charged: the only one; or, of a list, each value or the one that a limit allows most.
fn charged_texts(claim_value: ClaimValue, lists: ListHandling, largest_of: Option<&Quota>) -> Vec<String> {
    let mut texts = match (claim_value, lists) {
        (ClaimValue::Missing, _) | (ClaimValue::List(_), ListHandling::Missing) => return Vec::new(),
        (ClaimValue::One(text), _) => return vec![text],
        (ClaimValue::List(texts), ListHandling::Each | ListHandling::Largest) => texts,
    };
    texts.sort_unstable();
    texts.dedup();
    match largest_of {
        Some(quota) => most_allowed(texts, quota).into_iter().collect(),
        None if texts.len() > CHARGED_VALUE_COUNT_MAX => Vec::new(),
        None => texts,
    }
}

/// The value that a limit allows most. Of several the last in text order, because tokens list values in any
/// order.
fn most_allowed(texts: Vec<String>, quota: &Quota) -> Option<String> {
    let size = |text: &String| -> LimitSizeRef<'_> {
        quota
            .overrides
            .size(quota.overrides.find(|selector| selects_value(Some(text), selector)), &quota.windows)
    };
    texts.into_iter().max_by(|one, other| size(one).compare(&size(other)))
}
