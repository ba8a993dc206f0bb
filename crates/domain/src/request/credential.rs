//! The [`Authenticator`] trait and its results. An edge passes one header value to the authenticator, which
//! checks the credential. The edge writes the refusal to the wire.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::future::BoxFuture;
use crate::request::caller::Caller;
use crate::request::secret::Secret;

/// Authenticates callers by the credential that they present.
pub trait Authenticator: Debug + Send + Sync {
    /// Authenticates the value of the request's single `Authorization` header, if it has one. `address` is
    /// the request's origin; the number of identity-provider requests per address is limited.
    ///
    /// It waits at most until the identity provider's own time-out. While a credential is cached, it yields
    /// the same shared identity. Dropping the future is safe at any point.
    ///
    /// # Errors
    /// [`Unauthorized`], which never contains a part of the credential.
    fn authenticate<'a>(
        &'a self,
        authorization: Option<&'a [u8]>,
        address: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Authentication, Unauthorized>>;

    /// What a client learns when it has to present another credential.
    fn challenge(&self) -> &Challenge;
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// The authenticated party.
    pub caller: Caller,
    /// The presented token, when an issuer can exchange it for others. `None` for an API key.
    pub token: Option<Secret>,
    /// How long from now the credential remains valid; `None` when it does not expire. A stream ends with it.
    pub valid_for: Option<Duration>,
}

/// The contents of a `WWW-Authenticate` challenge (RFC 6750 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The realm of the protected resource, usually the issuer's URL.
    pub realm: String,
    /// The scopes that every token needs.
    pub scopes: Vec<String>,
    /// The contents of the metadata document, if one is published.
    pub resource: Option<ProtectedResource>,
}

/// The protected resource metadata of RFC 9728.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// The URL of the MCP endpoint as clients know it.
    pub resource: String,
    /// The issuers that tokens are accepted from.
    pub authorization_servers: Vec<String>,
    /// The scopes that every token needs.
    pub scopes: Vec<String>,
    /// The display name.
    pub name: Option<String>,
}

/// Why a caller was not authenticated, grouped by what the client can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// The request has no credential.
    #[error("no credential was presented")]
    Missing,
    /// The header value is not a bearer credential.
    #[error("the credential is not a bearer token")]
    Malformed,
    /// The credential is invalid or no longer valid.
    #[error("the credential is refused: {0}")]
    InvalidToken(InvalidTokenReason),
    /// The credential is valid but lacks a required scope.
    #[error("a required scope is missing")]
    InsufficientScope {
        /// All required scopes.
        required: Arc<[String]>,
    },
    /// The identity provider that must be asked about the credential does not answer.
    #[error("the credential cannot be checked at present")]
    Unavailable,
}

impl Unauthorized {
    /// The class for logs and metrics, from a fixed set.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::InvalidToken(reason) => reason.as_str(),
            Self::InsufficientScope { .. } => "scope",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What is wrong with a credential, for logs and metrics. A client learns only that its credential is invalid
/// or has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvalidTokenReason {
    /// It is larger than the maximum for a token.
    TooLarge,
    /// It does not have the form of any accepted kind of credential.
    Shape,
    /// Its header cannot be parsed, or contains a critical extension that is not understood.
    Header,
    /// It is signed with an algorithm that is not accepted.
    Algorithm,
    /// It is a token of another kind, for example an ID token.
    Kind,
    /// No key of the issuer matches it.
    UnknownKey,
    /// The signature is not valid under the issuer's key.
    Signature,
    /// A claim is missing, duplicated, or malformed.
    Claims,
    /// Another issuer issued it.
    Issuer,
    /// It is for another audience.
    Audience,
    /// It has no subject.
    Subject,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    Premature,
    /// It is bound to a key (`cnf`), and proof of possession is not supported here.
    SenderConstrained,
    /// The issuer's introspection says it is not active.
    Inactive,
    /// No such API key is configured.
    UnknownApiKey,
}

impl InvalidTokenReason {
    /// The reason's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Shape => "shape",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::Kind => "kind",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Subject => "subject",
            Self::Expired => "expired",
            Self::Premature => "premature",
            Self::SenderConstrained => "bound",
            Self::Inactive => "inactive",
            Self::UnknownApiKey => "unknown_api_key",
        }
    }
}

impl std::fmt::Display for InvalidTokenReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
