//! Counts the outcomes of authentication on the client listener, by class. The wrapped authenticator decides
//! which credentials it accepts.

use std::net::IpAddr;
use std::sync::Arc;

use vmcp_domain::{Authentication, Authenticator, BoxFuture, Challenge, Unauthorized};
use vmcp_edge::policy::IncomingAuth;

use crate::metrics::Metrics;

/// Wraps an authenticator and counts each outcome.
pub(crate) struct CountedAuthenticator {
    inner: Arc<dyn Authenticator>,
    metrics: Arc<Metrics>,
}

impl CountedAuthenticator {
    /// Wraps the authenticator of `incoming` if callers present a bearer token. Other kinds of `incoming`
    /// have no authenticator and stay unchanged.
    pub(crate) fn wrap_in(incoming: &mut IncomingAuth, metrics: &Arc<Metrics>) {
        if let IncomingAuth::Bearer(inner) = incoming {
            let authenticator = Self { inner: inner.clone(), metrics: metrics.clone() };
            *inner = Arc::new(authenticator);
        }
    }
}

impl Authenticator for CountedAuthenticator {
    fn authenticate<'a>(
        &'a self,
        authorization: Option<&'a [u8]>,
        address: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Authentication, Unauthorized>> {
        Box::pin(async move {
            let outcome = self.inner.authenticate(authorization, address).await;
            self.metrics
                .count_authentication(outcome.as_ref().map_or_else(Unauthorized::class, |_| "admitted"));
            outcome
        })
    }

    fn challenge(&self) -> &Challenge {
        self.inner.challenge()
    }
}
