//! What all strategies that exchange share: the way to token endpoints, the kept credentials, the clock.

use std::sync::Arc;

use aws_credential_types::Credentials;
use http::HeaderValue;

use crate::cache::CredentialCache;
use crate::client::TokenClient;
use crate::clock::Clock;

/// Made once per process and given to every strategy that exchanges, so that backends which ask for the same token
/// of the same issuer share it.
pub struct ExchangeContext {
    pub(crate) client: TokenClient,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whole values of `Authorization`.
    pub(crate) token_cache: CredentialCache<HeaderValue>,
    /// Keys of AWS roles.
    pub(crate) aws_cache: CredentialCache<Credentials>,
}

impl ExchangeContext {
    /// Nothing connected and nothing kept yet. Exchanges run on the Tokio runtime of whoever asks first.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Arc<Self>, rustls::Error> {
        let client = TokenClient::new()?;
        let (tokens, keys) =
            (CredentialCache::new(Arc::clone(&clock)), CredentialCache::new(Arc::clone(&clock)));
        Ok(Arc::new(Self { client, clock, token_cache: tokens, aws_cache: keys }))
    }
}
