//! Bearer tokens that are got once for each caller and kept: what token exchange and cross-app access share. How a token
//! is got is each [`Grant`]'s.

use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use vmcp_domain::{BoxFuture, Scope, Secret};

use crate::cache::{Fresh, Key};
use crate::error::{CredentialError, Failure};
use crate::exchanges::Exchanges;
use crate::scope;
use crate::source::{Applied, CredentialSource, Outgoing, Subject};

/// The subject of what the gateway gets on its own account: no token has this digest.
const NOBODY: [u8; 32] = [0; 32];

/// A fresh value of `Authorization`, or why there is none.
pub(crate) type Granted = Result<Fresh<HeaderValue>, Failure>;

/// A way of getting tokens.
pub(crate) trait Grant: Send + Sync + 'static {
    /// The strategy's name in the config file.
    const NAME: &'static str;

    /// Tells two grants apart whose tokens are not the same.
    fn fingerprint(&self) -> [u8; 32];
    /// Where tokens come from, for errors.
    fn place(&self) -> &Arc<str>;
    /// Whether the gateway can get a token for itself.
    fn has_own(&self) -> bool;
    /// Gets a token for the caller whose own is `token`.
    fn get(&self, exchanges: &Exchanges, token: &Secret) -> impl Future<Output = Granted> + Send;
    /// Gets a token for the gateway itself.
    fn get_own(&self, exchanges: &Exchanges) -> impl Future<Output = Granted> + Send;
}

/// The source of one backend's tokens.
pub(crate) struct Bearer<G> {
    /// Shared with exchanges that outlive their request.
    grant: Arc<G>,
    exchanges: Arc<Exchanges>,
    fingerprint: [u8; 32],
}

impl<G: Grant> Bearer<G> {
    /// A source of what `grant` gets.
    pub(crate) fn new(grant: G, exchanges: Arc<Exchanges>) -> Self {
        let fingerprint = grant.fingerprint();
        Self { grant: Arc::new(grant), exchanges, fingerprint }
    }

    async fn kept<W>(&self, subject: [u8; 32], fetch: impl FnOnce() -> W) -> Result<Applied, CredentialError>
    where
        W: Future<Output = Granted> + Send + 'static,
    {
        let key = Key { strategy: self.fingerprint, subject };
        let (value, receipt) = self.exchanges.tokens.get(key, self.grant.place(), fetch).await?;
        Ok(Applied::kept(vec![(AUTHORIZATION, value)], receipt))
    }

    fn shared(&self) -> (Arc<G>, Arc<Exchanges>) {
        (Arc::clone(&self.grant), Arc::clone(&self.exchanges))
    }
}

/// The caller, if there is one with a token.
pub(crate) fn known<'c, 'a>(
    caller: Option<&'c Subject<'a>>,
    strategy: &'static str,
) -> Result<&'c Subject<'a>, CredentialError> {
    let caller = caller.filter(|caller| !caller.token.expose().is_empty());
    caller.ok_or(CredentialError::NeedsCaller(strategy))
}

impl<G: Grant> CredentialSource for Bearer<G> {
    fn name(&self) -> &'static str {
        G::NAME
    }

    fn scope(&self, caller: Option<&Subject<'_>>) -> Result<Scope, CredentialError> {
        Ok(scope::of_caller(&self.fingerprint, known(caller, G::NAME)?.identity, &[]))
    }

    fn apply<'a>(
        &'a self,
        caller: Option<&'a Subject<'a>>,
        _request: &'a Outgoing<'a>,
    ) -> BoxFuture<'a, Result<Applied, CredentialError>> {
        Box::pin(async move {
            let caller = known(caller, G::NAME)?;
            let fetch = || {
                let ((grant, exchanges), token) = (self.shared(), caller.token.clone());
                async move { grant.get(&exchanges, &token).await }
            };
            self.kept(caller.token.digest(), fetch).await
        })
    }

    fn probe<'a>(&'a self, _request: &'a Outgoing<'a>) -> BoxFuture<'a, Result<Applied, CredentialError>> {
        Box::pin(async move {
            if !self.grant.has_own() {
                return Ok(Applied::fixed(Vec::new()));
            }
            let fetch = || {
                let (grant, exchanges) = self.shared();
                async move { grant.get_own(&exchanges).await }
            };
            self.kept(NOBODY, fetch).await
        })
    }

    fn forget(&self, applied: &Applied) -> bool {
        applied.receipt().is_some_and(|receipt| self.exchanges.tokens.forget(receipt))
    }
}
