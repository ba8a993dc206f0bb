//! What a client presents to be recognised, and what comes of it. An edge holds an [`Authenticator`] and hands it one
//! header value; how credentials are checked is the authenticator's, how a refusal looks on the wire the edge's.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::caller::Caller;
use crate::gateway::BoxFuture;
use crate::secret::Secret;

/// Recognises callers by what they present.
pub trait Authenticator: Send + Sync {
    /// Who presents `authorization`, the value of the request's one `Authorization` header, if it has one. `address` is
    /// where the request came from: what one address asks for is bounded.
    ///
    /// Waits at most for the identity provider's own deadline. The same credential gets the same shared identity as
    /// long as it is remembered. Dropping the future is safe at any point.
    ///
    /// # Errors
    /// [`Unauthorized`], never with a part of the credential in it.
    fn authenticate<'a>(
        &'a self,
        authorization: Option<&'a [u8]>,
        address: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Authentication, Unauthorized>>;

    /// What a client is told that has to come back with another credential.
    fn challenge(&self) -> &Challenge;
}

/// A caller who was recognised.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// Who it is.
    pub caller: Caller,
    /// The token that was presented, where an issuer can exchange it for others; an API key is none.
    pub token: Option<Secret>,
    /// For how long from now the credential stands; `None` when it has no end. A stream does not outlive it.
    pub valid_for: Option<Duration>,
}

/// What a client is told that has to come back with another credential (RFC 6750 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The name of what is protected, usually the issuer's URL.
    pub realm: String,
    /// The scopes every token needs.
    pub scopes: Vec<String>,
    /// What the metadata document says, when there is one.
    pub resource: Option<ProtectedResource>,
}

/// What RFC 9728 publishes about a protected resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// The URL of the MCP endpoint as clients know it.
    pub resource: String,
    /// The issuers whose tokens are taken.
    pub authorization_servers: Vec<String>,
    /// The scopes every token needs.
    pub scopes: Vec<String>,
    /// Its name for people.
    pub name: Option<String>,
}

/// Why a caller was not recognised, named by what the client can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// Nothing was presented.
    #[error("no credential was presented")]
    Missing,
    /// What was presented is no bearer credential.
    #[error("what was presented is no bearer credential")]
    Malformed,
    /// The credential is not good, or no longer.
    #[error("the credential is refused: {0}")]
    InvalidToken(InvalidTokenReason),
    /// The credential is good and does not reach far enough.
    #[error("the credential lacks a scope")]
    InsufficientScope {
        /// Every scope it needs.
        required: Arc<[String]>,
    },
    /// Whoever has to be asked about the credential does not answer.
    #[error("the credential cannot be checked at present")]
    Unavailable,
}

impl Unauthorized {
    /// The class for logs and metrics, out of a fixed set.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::InvalidToken(fault) => fault.as_str(),
            Self::InsufficientScope { .. } => "scope",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What is wrong with a credential. For logs and metrics; a client learns no more than
/// that its credential is not good, or has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvalidTokenReason {
    /// It is larger than a token may be.
    TooLarge,
    /// It has not the shape of any kind of credential that is taken here.
    Shape,
    /// Its header cannot be read, or names something critical that is not understood.
    Header,
    /// It is signed in a way that is not taken.
    Algorithm,
    /// It is a token of another kind: an ID token, say.
    Kind,
    /// No key of the issuer's fits it.
    UnknownKey,
    /// The signature is not the issuer's.
    Signature,
    /// A claim is missing, twice there, or has the wrong form.
    Claims,
    /// It comes from somebody else.
    Issuer,
    /// It is meant for somebody else.
    Audience,
    /// It names nobody.
    Subject,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    Premature,
    /// It belongs to a key whose possession cannot be proved here.
    SenderConstrained,
    /// The issuer says it is not, or no longer, good.
    Inactive,
    /// No such API key.
    UnknownApiKey,
}

impl InvalidTokenReason {
    /// The fault's name in logs and metrics.
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
