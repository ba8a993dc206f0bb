//! Whose credential the requests on one line carry: it is put on each request as that is sent, and taken off again
//! when the backend refuses it. How credentials are got is `vmcp-credentials`'.

use std::sync::Arc;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use vmcp_credentials::{Applied, CredentialError, Outgoing, Subject};
use vmcp_domain::{CallContext, Identity, Secret};

use crate::failure::{Class, Failure};
use crate::http::Outbound;
use crate::policy::Credentials;
use crate::sync::Guarded;

/// A caller and the token that proves who it is.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    identity: Arc<Identity>,
    token: Secret,
}

impl Holder {
    /// The caller of a request, if it has shown a token.
    pub(crate) fn of(ctx: &CallContext) -> Option<Self> {
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

/// Puts credentials on requests.
#[derive(Debug)]
pub(crate) struct Bearing {
    credentials: Credentials,
    /// On whose behalf; `None` for what the gateway asks on its own account.
    holder: Option<Guarded<Holder>>,
}

impl Bearing {
    /// For what the gateway asks on its own account, and never for a client's request.
    pub(crate) fn own(credentials: Credentials) -> Self {
        Self { credentials, holder: None }
    }

    /// On behalf of a caller.
    pub(crate) fn of(credentials: Credentials, holder: Holder) -> Self {
        Self { credentials, holder: Some(Guarded::new(holder)) }
    }

    /// Takes the caller's newest token. True when it is another than before.
    pub(crate) fn renew(&self, newest: Holder) -> bool {
        let Some(holder) = &self.holder else {
            return false;
        };
        let mut holder = holder.lock();
        let is_other = holder.token != newest.token;
        *holder = newest;
        is_other
    }

    /// The headers for one request. What the gateway asks on its own account goes without any where its issuer gives
    /// it none: being turned away by the backend is a sign of life, too.
    pub(crate) async fn apply(&self, outbound: &Outbound) -> Result<Option<Applied>, Failure> {
        let mut signed = HeaderMap::new();
        if let Some(kind) = outbound.header(&CONTENT_TYPE) {
            signed.insert(CONTENT_TYPE, kind.clone());
        }
        let (method, uri, body) = (&outbound.method, &outbound.uri, &outbound.body);
        let outgoing = Outgoing { method, uri, headers: &signed, body };
        let source = &self.credentials.0;
        let holder = self.holder.as_ref().map(|holder| holder.lock().clone());
        let applied = match &holder {
            Some(holder) => source.apply(Some(&holder.subject()), &outgoing).await,
            None => match source.probe(&outgoing).await {
                Err(error @ (CredentialError::Refused { .. } | CredentialError::Misconfigured { .. })) => {
                    tracing::debug!(%error, "the gateway has no credential of its own for a look at a backend");
                    return Ok(None);
                }
                probed => probed,
            },
        };
        applied.map(Some).map_err(|error| failure(&error))
    }

    /// The backend refused these headers. True when asking once more with others makes sense.
    pub(crate) fn forget(&self, applied: &Applied) -> bool {
        self.credentials.0.forget(applied)
    }
}

/// What a missing credential means: it is the caller's own, or the token endpoint's.
pub(crate) fn failure(error: &CredentialError) -> Failure {
    let class = match error {
        CredentialError::NeedsCaller(_)
        | CredentialError::NoRole
        | CredentialError::Claim { .. }
        | CredentialError::Refused { .. } => Class::Auth,
        CredentialError::Unavailable { .. }
        | CredentialError::Misconfigured { .. }
        | CredentialError::Unsignable(_) => Class::Credential,
    };
    Failure::not_sent(class, error)
}
