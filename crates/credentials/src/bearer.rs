//! Bearer tokens that are got once for each caller and kept: what token exchange and cross-app access share. How a token
//! is got is each [`Grant`]'s.

use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use vmcp_domain::{BoxFuture, IsolationScope, Secret};

use crate::cache::{CacheKey, FetchedCredential};
use crate::error::{CredentialError, FetchFailure};
use crate::exchanges::ExchangeContext;
use crate::scope;
use crate::source::{CredentialHeaders, CredentialSource, RequestView, Subject};

/// The subject of what the gateway gets on its own account: no token has this digest.
const GATEWAY_SUBJECT: [u8; 32] = [0; 32];

/// A fresh value of `Authorization`, or why there is none.
pub(crate) type GrantOutcome = Result<FetchedCredential<HeaderValue>, FetchFailure>;

/// A way of getting tokens.
pub(crate) trait Grant: Send + Sync + 'static {
    /// The strategy's name in the config file.
    const NAME: &'static str;

    /// Tells two grants apart whose tokens are not the same.
    fn fingerprint(&self) -> [u8; 32];
    /// Where tokens come from, for errors.
    fn authority(&self) -> &Arc<str>;
    /// Whether the gateway can get a token for itself.
    fn has_gateway_account(&self) -> bool;
    /// Gets a token for the caller whose own is `token`.
    fn fetch(&self, exchanges: &ExchangeContext, token: &Secret)
    -> impl Future<Output = GrantOutcome> + Send;
    /// Gets a token for the gateway itself.
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
    /// A source of what `grant` gets.
    pub(crate) fn new(grant: G, exchanges: Arc<ExchangeContext>) -> Self {
        let fingerprint = grant.fingerprint();
        Self { grant: Arc::new(grant), exchange_context: exchanges, fingerprint }
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
                let ((grant, exchanges), token) = (self.clone_shared(), caller.token.clone());
                async move { grant.fetch(&exchanges, &token).await }
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
                let (grant, exchanges) = self.clone_shared();
                async move { grant.fetch_for_gateway(&exchanges).await }
            };
            self.cached_or_fetched(GATEWAY_SUBJECT, fetch).await
        })
    }

    fn invalidate(&self, applied: &CredentialHeaders) -> bool {
        applied.version().is_some_and(|receipt| self.exchange_context.token_cache.invalidate(receipt))
    }
}
