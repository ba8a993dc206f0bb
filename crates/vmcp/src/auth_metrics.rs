//! Counts what becomes of credentials at the door. Who is let in is the authenticator's to say.

use std::net::IpAddr;
use std::sync::Arc;

use vmcp_domain::{Authentication, Authenticator, BoxFuture, Challenge, Unauthorized};
use vmcp_edge::policy::IncomingAuth;

use crate::metrics::Metrics;

/// An authenticator whose outcomes are counted.
pub(crate) struct CountedAuthenticator {
    inner: Arc<dyn Authenticator>,
    metrics: Arc<Metrics>,
}

impl CountedAuthenticator {
    /// Counts the outcomes of the authenticator, where callers present credentials.
    pub(crate) fn wrap_in(incoming: &mut IncomingAuth, metrics: &Arc<Metrics>) {
        if let IncomingAuth::Bearer(inner) = incoming {
            let counted = Self { inner: inner.clone(), metrics: metrics.clone() };
            *inner = Arc::new(counted);
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
