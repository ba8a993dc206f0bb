//! The credential of the requests on one connection. It is added to each request when the request is sent,
//! and invalidated when the backend refuses it. `vmcp-credentials` obtains credentials.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use parking_lot::Mutex;
use vmcp_credentials::{CredentialError, CredentialHeaders, CredentialSource, RequestView, Subject};
use vmcp_domain::{CallContext, Identity, Secret};

use crate::failure::{Failure, FailureClass};
use crate::http::outbound::OutboundRequest;

/// A caller and the token that authenticates it.
#[derive(Clone, Debug)]
pub(crate) struct AuthenticatedCaller {
    identity: Arc<Identity>,
    token: Secret,
}

impl AuthenticatedCaller {
    /// The caller of a request, if it presented a token.
    pub(crate) fn from_context(ctx: &CallContext) -> Option<Self> {
        match (&ctx.caller, &ctx.token) {
            (vmcp_domain::Caller::Known(identity), Some(token)) => {
                Some(Self { identity: Arc::clone(identity), token: token.clone() })
            }
            (vmcp_domain::Caller::Known(_) | vmcp_domain::Caller::Anonymous, _) => None,
        }
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { identity: &self.identity, token: &self.token }
    }
}

/// The source of the credentials for a backend's requests.
#[derive(Clone)]
pub(crate) struct Credentials(pub(crate) Arc<dyn CredentialSource>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

/// Adds credentials to requests.
#[derive(Debug)]
pub(crate) struct RequestCredentials {
    source: Credentials,
    /// The caller on whose behalf requests are sent; `None` for requests of the gateway itself.
    caller: Option<Mutex<AuthenticatedCaller>>,
}

impl RequestCredentials {
    /// Credentials for requests of the gateway itself, never for a client's request.
    pub(crate) fn for_gateway(credentials: Credentials) -> Self {
        Self { source: credentials, caller: None }
    }

    /// Credentials for requests on behalf of a caller.
    pub(crate) fn for_caller(credentials: Credentials, caller: AuthenticatedCaller) -> Self {
        Self { source: credentials, caller: Some(Mutex::new(caller)) }
    }

    /// Stores the caller's newest token. Returns true if it differs from the token before.
    pub(crate) fn update_caller(&self, newest: AuthenticatedCaller) -> bool {
        let Some(caller) = &self.caller else {
            return false;
        };
        let mut caller = caller.lock();
        let has_changed = caller.token != newest.token;
        *caller = newest;
        has_changed
    }

    /// The credential headers for one request. If the issuer gives the gateway no credential for its own
    /// requests, they are sent without one: a refusal by the backend still shows that it is reachable.
    pub(crate) async fn headers_for(
        &self,
        outbound: &OutboundRequest,
    ) -> Result<Option<CredentialHeaders>, Failure> {
        let mut signed = HeaderMap::new();
        if let Some(kind) = outbound.header(&CONTENT_TYPE) {
            signed.insert(CONTENT_TYPE, kind.clone());
        }
        let (method, uri, body) = (&outbound.method, &outbound.uri, &outbound.body);
        let request_view = RequestView { method, uri, headers: &signed, body };
        let source = &self.source.0;
        let caller = self.caller.as_ref().map(|holder| holder.lock().clone());
        let credential_headers = match &caller {
            Some(holder) => source.headers_for_caller(Some(&holder.subject()), &request_view).await,
            None => match source.headers_for_gateway(&request_view).await {
                Err(error @ (CredentialError::Refused { .. } | CredentialError::Misconfigured { .. })) => {
                    tracing::debug!(%error, "the gateway has no credential of its own for a look at a backend");
                    return Ok(None);
                }
                probed => probed,
            },
        };
        credential_headers.map(Some).map_err(|error| to_failure(&error))
    }

    /// Reports that the backend refused these headers. Returns true if a retry with others makes sense.
    pub(crate) fn invalidate(&self, credential_headers: &CredentialHeaders) -> bool {
        self.source.0.invalidate(credential_headers)
    }
}

/// Converts a credential error. It is the caller's own (class `Auth`), or that of the token endpoint or its
/// settings (class `Credential`).
pub(crate) fn to_failure(error: &CredentialError) -> Failure {
    let class = match error {
        CredentialError::NeedsCaller(_)
        | CredentialError::NoRole
        | CredentialError::Claim { .. }
        | CredentialError::Refused { .. } => FailureClass::Auth,
        CredentialError::Unavailable { .. }
        | CredentialError::Misconfigured { .. }
        | CredentialError::Unsignable(_) => FailureClass::Credential,
    };
    Failure::not_sent(class, error)
}
