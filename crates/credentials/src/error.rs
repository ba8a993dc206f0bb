//! Errors of settings and of getting a credential. No text contains anything that was sent to or received
//! from a token endpoint, except well-known error codes.

use std::borrow::Cow;
use std::sync::Arc;

/// An invalid setting and the reason. It repeats no secret and no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct PolicyError {
    field: Cow<'static, str>,
    why: Cow<'static, str>,
}

impl PolicyError {
    pub(crate) fn new(field: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), why: why.into() }
    }

    /// Why the strategy `upstream_inject` cannot be used.
    #[must_use]
    pub fn no_upstream_inject() -> Self {
        Self::new(
            "type",
            "upstream_inject sends the token of a login at an upstream provider, and this gateway keeps no such \
             logins; use token_exchange",
        )
    }

    /// Why the strategy `obo` (on behalf of, Microsoft Entra) cannot be used.
    #[must_use]
    pub fn no_obo() -> Self {
        Self::new(
            "type",
            "obo is not possible in this gateway; use token_exchange with an issuer that supports RFC 8693",
        )
    }

    /// The error for `subjectProviderName` and similar settings: the gateway keeps no logins at upstream
    /// providers to take tokens from.
    #[must_use]
    pub fn no_upstream(field: &'static str) -> Self {
        Self::new(
            field,
            "names a login at an upstream provider, and this gateway keeps none; leave it out to use the caller's own \
             token",
        )
    }

    /// The key, relative to the strategy's section, in the spelling of the configuration file:
    /// `roleMappings[2].matcher`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong with the setting, and what would be valid.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// Why there is no credential for a request. The text is for the log. A client learns at most that the
/// backend is not available.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The strategy acts on behalf of a caller, and the request has none.
    #[error("the strategy {0} acts for an authenticated caller, and the request has none")]
    NeedsCaller(&'static str),
    /// No role mapping matches the caller, and there is no fallback role.
    #[error("no AWS role is mapped to the caller's claims, and there is no fallback")]
    NoRole,
    /// A claim that the strategy needs is missing or unusable.
    #[error("the caller's claim {claim:?} {why}")]
    Claim {
        /// The claim's name in the configuration.
        claim: Arc<str>,
        /// What is wrong with the claim.
        why: &'static str,
    },
    /// The token endpoint is unreachable, overloaded or timed out. A later attempt may succeed.
    #[error("{authority}: {why}")]
    Unavailable {
        /// Host and port of the token endpoint.
        authority: Arc<str>,
        /// The failure.
        why: Arc<str>,
    },
    /// The token endpoint refuses a credential for this caller.
    #[error("{authority} refuses the exchange ({})", code.unwrap_or("without a known error code"))]
    Refused {
        /// Host and port of the token endpoint.
        authority: Arc<str>,
        /// The error code of OAuth or AWS, if it is a known one.
        code: Option<&'static str>,
    },
    /// The settings do not match the token endpoint. Only a change of one or the other helps.
    #[error("{authority}: {why}")]
    Misconfigured {
        /// Host and port of the token endpoint.
        authority: Arc<str>,
        /// What does not match.
        why: Arc<str>,
    },
    /// The request cannot be signed in this form.
    #[error("the request cannot be signed: {0}")]
    Unsignable(&'static str),
}

/// Why an exchange failed, and whether the failure is cached for a moment.
#[derive(Clone, Debug)]
pub(crate) struct FetchFailure {
    pub(crate) error: CredentialError,
    /// The endpoint answered 4xx: the same request would get the same answer a moment later.
    pub(crate) is_cacheable: bool,
}

impl FetchFailure {
    pub(crate) fn unavailable(authority: &Arc<str>, why: impl Into<Arc<str>>) -> Self {
        let error = CredentialError::Unavailable { authority: Arc::clone(authority), why: why.into() };
        Self { error, is_cacheable: false }
    }

    pub(crate) fn misconfigured(authority: &Arc<str>, why: impl Into<Arc<str>>) -> Self {
        let error = CredentialError::Misconfigured { authority: Arc::clone(authority), why: why.into() };
        Self { error, is_cacheable: false }
    }

    pub(crate) fn refused(authority: &Arc<str>, code: Option<&'static str>) -> Self {
        Self {
            error: CredentialError::Refused { authority: Arc::clone(authority), code },
            is_cacheable: false,
        }
    }
}
