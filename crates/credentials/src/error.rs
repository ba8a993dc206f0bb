//! What can be wrong with settings, and with getting a credential. No text here contains anything that was sent to or
//! came from a token endpoint, apart from error codes that are known beforehand.

use std::borrow::Cow;
use std::sync::Arc;

/// A setting that cannot be: which, and why. Repeats no secret and no URL.
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

    /// The error of `subjectProviderName` and its like: there are no logins at upstream providers to take tokens from.
    #[must_use]
    pub fn no_upstream(field: &'static str) -> Self {
        Self::new(
            field,
            "names a login at an upstream provider, and this gateway keeps none; leave it out to use the caller's own \
             token",
        )
    }

    /// The key, relative to its strategy's section, as the config file spells it: `roleMappings[2].matcher`.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong with it and what would be right.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// Why there is no credential for a request. For the log; a client learns at most that the backend cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The strategy acts on behalf of a caller, and the request has none.
    #[error("the strategy {0} acts for an authenticated caller, and the request has none")]
    NeedsCaller(&'static str),
    /// No role mapping fits the caller, and there is no fallback role.
    #[error("no AWS role is mapped to the caller's claims, and there is no fallback")]
    NoRole,
    /// A claim that the strategy needs is missing or cannot be used.
    #[error("the caller's claim {claim:?} {why}")]
    Claim {
        /// The claim's name, as the operator configured it.
        claim: Arc<str>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The token endpoint cannot be reached, is overloaded or did not answer in time: trying later may help.
    #[error("{authority}: {why}")]
    Unavailable {
        /// Host and port of the token endpoint.
        authority: Arc<str>,
        /// What happened.
        why: Arc<str>,
    },
    /// The token endpoint does not give this caller a credential.
    #[error("{authority} refuses the exchange ({})", code.unwrap_or("without a known error code"))]
    Refused {
        /// Host and port of the token endpoint.
        authority: Arc<str>,
        /// The error code of OAuth or AWS, when it is a known one.
        code: Option<&'static str>,
    },
    /// The settings do not fit the token endpoint; nothing but changing one or the other helps.
    #[error("{authority}: {why}")]
    Misconfigured {
        /// Host and port of the token endpoint.
        authority: Arc<str>,
        /// What does not fit.
        why: Arc<str>,
    },
    /// The request cannot be signed as it is.
    #[error("the request cannot be signed: {0}")]
    Unsignable(&'static str),
}

/// Why an exchange failed, and whether that is worth remembering for a moment.
#[derive(Clone, Debug)]
pub(crate) struct FetchFailure {
    pub(crate) error: CredentialError,
    /// The endpoint answered 4xx: the same request a moment later gets the same answer.
    pub(crate) is_cacheable: bool,
}

impl FetchFailure {
    pub(crate) fn unavailable(place: &Arc<str>, why: impl Into<Arc<str>>) -> Self {
        let error = CredentialError::Unavailable { authority: Arc::clone(place), why: why.into() };
        Self { error, is_cacheable: false }
    }

    pub(crate) fn misconfigured(place: &Arc<str>, why: impl Into<Arc<str>>) -> Self {
        let error = CredentialError::Misconfigured { authority: Arc::clone(place), why: why.into() };
        Self { error, is_cacheable: false }
    }

    pub(crate) fn refused(place: &Arc<str>, code: Option<&'static str>) -> Self {
        Self { error: CredentialError::Refused { authority: Arc::clone(place), code }, is_cacheable: false }
    }
}
