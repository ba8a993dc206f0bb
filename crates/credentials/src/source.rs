//! The seam: who asks, what is about to be sent, and the headers it gets.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use vmcp_domain::{BoxFuture, Identity, IsolationScope, Secret};

use crate::cache::CredentialVersion;
use crate::error::CredentialError;

/// The caller on whose behalf a request is made: the identity and the token it was read from, both already verified.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Who calls.
    pub identity: &'a Identity,
    /// The caller's own token. It goes to token endpoints and never to a backend.
    pub token: &'a Secret,
}

/// A request to a backend, as it will be sent.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its absolute URI, encoded as on the wire.
    pub uri: &'a Uri,
    /// The headers a signature covers, besides `host`: they must be sent exactly so. Others are added afterwards.
    pub headers: &'a HeaderMap,
    /// Its whole body.
    pub body: &'a [u8],
}

/// The headers that prove the gateway to a backend; their values are marked as sensitive.
pub struct CredentialHeaders {
    headers: Vec<(HeaderName, HeaderValue)>,
    version: Option<CredentialVersion>,
}

impl CredentialHeaders {
    pub(crate) fn uncached(headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { headers, version: None }
    }

    pub(crate) fn cached(headers: Vec<(HeaderName, HeaderValue)>, receipt: CredentialVersion) -> Self {
        Self { headers, version: Some(receipt) }
    }

    pub(crate) fn version(&self) -> Option<&CredentialVersion> {
        self.version.as_ref()
    }

    /// The headers; at most one of each name.
    #[must_use]
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Sets the headers, each in place of any of its name.
    pub fn apply_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }
}

impl fmt::Debug for CredentialHeaders {
    /// Names the headers without their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.headers.iter().map(|(name, _)| name)).finish()
    }
}

/// Where the credentials of one backend come from.
pub trait CredentialSource: Send + Sync {
    /// The strategy's name, as the config file spells it.
    fn name(&self) -> &'static str;

    /// Which other callers' connections, sessions and catalogues this caller may share. Waits for nothing.
    ///
    /// # Errors
    /// When the strategy cannot serve this caller, or needs one.
    fn scope(&self, caller: Option<&Subject<'_>>) -> Result<IsolationScope, CredentialError>;

    /// The headers for one request of a caller. Takes microseconds when the credential is kept, else one or two
    /// requests to token endpoints of at most 10 seconds each. Dropping the future does not stop an exchange that
    /// others wait for.
    ///
    /// # Errors
    /// When there is no credential. The request must then not be sent: without a credential it is another request.
    fn headers_for_caller<'a>(
        &'a self,
        caller: Option<&'a Subject<'a>>,
        request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>>;

    /// The headers for a check the gateway makes on its own account, for nobody. Never to be used for a client's
    /// request, not even an anonymous one: it may carry rights of the gateway's own. May have no headers at all.
    ///
    /// # Errors
    /// When the gateway has an account of its own for this and gets no credential.
    fn headers_for_gateway<'a>(
        &'a self,
        request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>>;

    /// The backend answered 401 to these headers: drops the credential they were made of, once, however many requests
    /// report it. True when another `apply` gives a newer credential, so that trying the request once more makes sense.
    fn invalidate(&self, applied: &CredentialHeaders) -> bool;
}
