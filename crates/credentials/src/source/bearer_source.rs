//! Bearer tokens that are obtained once per caller and cached: the common part of token exchange and
//! cross-app access. Each [`Grant`] defines how a token is obtained.

use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use vmcp_domain::{BoxFuture, IsolationScope, Secret};

use crate::cache::{CacheKey, FetchedCredential};
use crate::error::{CredentialError, FetchFailure};
use crate::exchange_context::ExchangeContext;
use crate::source::scope;
use crate::source::{CredentialHeaders, CredentialSource, RequestView, Subject};

/// The cache subject of the gateway's own tokens. No token has this digest.
const GATEWAY_SUBJECT: [u8; 32] = [0; 32];

/// A new `Authorization` value, or the reason why there is none.
pub(crate) type GrantOutcome = Result<FetchedCredential<HeaderValue>, FetchFailure>;

/// A way to obtain tokens.
pub(crate) trait Grant: Send + Sync + 'static {
    /// The strategy's name in the configuration file.
    const NAME: &'static str;

    /// A digest that differs between grants with different tokens.
    fn fingerprint(&self) -> [u8; 32];
    /// The host and port of the token endpoint, for errors.
    fn authority(&self) -> &Arc<str>;
    /// True when the gateway can obtain a token for itself.
    fn has_gateway_account(&self) -> bool;
    /// Obtains a token for the caller whose own token is `token`.
    fn fetch(&self, exchanges: &ExchangeContext, token: &Secret)
    -> impl Future<Output = GrantOutcome> + Send;
    /// Obtains a token for the gateway itself.
    fn fetch_for_gateway(&self, exchanges: &ExchangeContext) -> impl Future<Output = GrantOutcome> + Send;
}

/// The source of one backend's tokens.
pub(crate) struct BearerSource<G> {
    /// Shared with exchanges that outlive their request.
    grant: Arc<G>,
    exchange_context: Arc<ExchangeContext>,
    fingerprint: [u8; 32],
}

impl<G: Grant> BearerSource<G> {
    /// Builds a source of the tokens of `grant`.
    pub(crate) fn new(grant: G, exchange_context: Arc<ExchangeContext>) -> Self {
        let fingerprint = grant.fingerprint();
        Self { grant: Arc::new(grant), exchange_context, fingerprint }
    }

    async fn cached_or_fetched<W>(
        &self,
        subject: [u8; 32],
        fetch: impl FnOnce() -> W,
    ) -> Result<CredentialHeaders, CredentialError>
    where
        W: Future<Output = GrantOutcome> + Send + 'static,
    {
        let key = CacheKey { strategy: self.fingerprint, subject };
        let (value, receipt) =
            self.exchange_context.token_cache.get(key, self.grant.authority(), fetch).await?;
        Ok(CredentialHeaders::cached(vec![(AUTHORIZATION, value)], receipt))
    }

    fn clone_shared(&self) -> (Arc<G>, Arc<ExchangeContext>) {
        (Arc::clone(&self.grant), Arc::clone(&self.exchange_context))
    }
}

/// The caller, if there is one with a token.
pub(crate) fn require_caller<'c, 'a>(
    caller: Option<&'c Subject<'a>>,
    strategy: &'static str,
) -> Result<&'c Subject<'a>, CredentialError> {
    let caller = caller.filter(|caller| !caller.token.expose().is_empty());
    caller.ok_or(CredentialError::NeedsCaller(strategy))
}

impl<G: Grant> CredentialSource for BearerSource<G> {
    fn name(&self) -> &'static str {
        G::NAME
    }

    fn scope(&self, caller: Option<&Subject<'_>>) -> Result<IsolationScope, CredentialError> {
        Ok(scope::caller_scope(&self.fingerprint, require_caller(caller, G::NAME)?.identity, &[]))
    }

    fn headers_for_caller<'a>(
        &'a self,
        caller: Option<&'a Subject<'a>>,
        _request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>> {
        Box::pin(async move {
            let caller = require_caller(caller, G::NAME)?;
            let fetch = || {
                let ((grant, exchange_context), token) = (self.clone_shared(), caller.token.clone());
                async move { grant.fetch(&exchange_context, &token).await }
            };
            self.cached_or_fetched(caller.token.digest(), fetch).await
        })
    }

    fn headers_for_gateway<'a>(
        &'a self,
        _request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>> {
        Box::pin(async move {
            if !self.grant.has_gateway_account() {
                return Ok(CredentialHeaders::uncached(Vec::new()));
            }
            let fetch = || {
                let (grant, exchange_context) = self.clone_shared();
                async move { grant.fetch_for_gateway(&exchange_context).await }
            };
            self.cached_or_fetched(GATEWAY_SUBJECT, fetch).await
        })
    }

    fn invalidate(&self, credential_headers: &CredentialHeaders) -> bool {
        credential_headers
            .version()
            .is_some_and(|receipt| self.exchange_context.token_cache.invalidate(receipt))
    }
}
