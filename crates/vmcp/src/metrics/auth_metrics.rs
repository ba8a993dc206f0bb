//! Counts the outcomes of authentication on the client listener, by class. The wrapped authenticator decides
//! which credentials it accepts.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use vmcp_domain::{Authentication, Authenticator, BoxFuture, Challenge, Unauthorized};

use crate::metrics::Metrics;

/// Wraps an authenticator and counts each outcome.
pub(crate) struct CountedAuthenticator {
    inner: Arc<dyn Authenticator>,
    metrics: Arc<Metrics>,
}

impl CountedAuthenticator {
    /// Wraps `inner`.
    pub(crate) fn wrap(inner: Arc<dyn Authenticator>, metrics: Arc<Metrics>) -> Arc<dyn Authenticator> {
        Arc::new(Self { inner, metrics })
    }
}

impl fmt::Debug for CountedAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
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
