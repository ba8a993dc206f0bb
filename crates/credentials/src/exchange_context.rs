//! [`ExchangeContext`]: what all exchanging strategies share: the client for token endpoints, the cached
//! credentials and the clock.

use std::sync::Arc;

use aws_credential_types::Credentials;
use http::HeaderValue;
use vmcp_http_client::TlsError;
use vmcp_timing::Clock;

use crate::cache::CredentialCache;

use crate::token_endpoint::token_client::TokenClient;

/// Created once per process and given to every exchanging strategy, so that backends that request the same
/// token from the same issuer share it.
pub struct ExchangeContext {
    pub(crate) client: TokenClient,
    pub(crate) clock: Arc<dyn Clock>,
    /// Complete `Authorization` values.
    pub(crate) token_cache: CredentialCache<HeaderValue>,
    /// Keys of AWS roles.
    pub(crate) aws_cache: CredentialCache<Credentials>,
}

impl ExchangeContext {
    /// Builds a context with no open connections and empty caches. Exchanges run on the Tokio runtime of the
    /// request that starts them.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Arc<Self>, TlsError> {
        let client = TokenClient::new()?;
        let (token_cache, aws_cache) =
            (CredentialCache::new(Arc::clone(&clock)), CredentialCache::new(Arc::clone(&clock)));
        Ok(Arc::new(Self { client, clock, token_cache, aws_cache }))
    }
}
