//! The [`CredentialSource`] trait, its inputs and its results.

pub(crate) mod bearer_source;
pub(crate) mod fixed_headers;
pub(crate) mod scope;

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use vmcp_domain::{BoxFuture, Identity, IsolationScope, Secret};

use crate::cache::CredentialVersion;
use crate::error::CredentialError;

/// The caller on whose behalf a request is made: the identity, and the token it came from. Both are already
/// verified.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The caller's identity.
    pub identity: &'a Identity,
    /// The caller's own token. It goes to token endpoints and never to a backend.
    pub token: &'a Secret,
}

/// A request to a backend, as it will be sent.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The HTTP method.
    pub method: &'a Method,
    /// The absolute URI, encoded as on the wire.
    pub uri: &'a Uri,
    /// The headers that a signature covers, in addition to `host`. They must be sent unchanged. Others are
    /// added afterwards.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// The headers that authenticate the gateway at a backend. Their values are marked as sensitive.
pub struct CredentialHeaders {
    headers: Vec<(HeaderName, HeaderValue)>,
    version: Option<CredentialVersion>,
}

impl CredentialHeaders {
    pub(crate) fn uncached(headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { headers, version: None }
    }

    pub(crate) fn cached(headers: Vec<(HeaderName, HeaderValue)>, version: CredentialVersion) -> Self {
        Self { headers, version: Some(version) }
    }

    pub(crate) fn version(&self) -> Option<&CredentialVersion> {
        self.version.as_ref()
    }

    /// The headers; at most one per name.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Sets the headers and replaces existing ones of the same names.
    pub fn apply_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}

impl fmt::Debug for CredentialHeaders {
    /// Shows the names of the headers without their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.headers.iter().map(|(name, _)| name)).finish()
    }
}

/// The source of one backend's credentials.
pub trait CredentialSource: Send + Sync {
    /// The strategy's name in the configuration file.
    fn name(&self) -> &'static str;

    /// Which other callers' connections, sessions and catalogues this caller may share. It does not block.
    ///
    /// # Errors
    /// When the strategy cannot serve this caller, or requires a caller.
    fn scope(&self, caller: Option<&Subject<'_>>) -> Result<IsolationScope, CredentialError>;

    /// Returns the headers for one request of a caller. A cached credential takes microseconds. Otherwise it
    /// takes one or two requests to token endpoints of at most 10 seconds each. Dropping the future does not
    /// stop an exchange that other requests wait for.
    ///
    /// # Errors
    /// When there is no credential. The request must then not be sent, because without a credential it means
    /// something else.
    fn headers_for_caller<'a>(
        &'a self,
        caller: Option<&'a Subject<'a>>,
        request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>>;

    /// Returns the headers for a health check of the gateway itself. They must never be used for a client's
    /// request, not even an anonymous one, because they may carry rights of the gateway's own account. There
    /// may be no headers.
    ///
    /// # Errors
    /// When the gateway has its own account for this and gets no credential.
    fn headers_for_gateway<'a>(
        &'a self,
        request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>>;

    /// Reports that the backend answered 401 to these headers. It drops the credential they came from, once
    /// for any number of reports. True when another call returns a newer credential, so that one retry makes
    /// sense.
    fn invalidate(&self, applied: &CredentialHeaders) -> bool;
}
