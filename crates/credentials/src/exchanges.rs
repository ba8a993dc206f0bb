//! What all strategies that exchange share: the way to token endpoints, the kept credentials, the clock.

use std::sync::Arc;

use aws_credential_types::Credentials;
use http::HeaderValue;

use crate::cache::Cache;
use crate::client::Client;
use crate::clock::Clock;

/// Made once per process and given to every strategy that exchanges, so that backends which ask for the same token
/// of the same issuer share it.
pub struct Exchanges {
    pub(crate) client: Client,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whole values of `Authorization`.
    pub(crate) tokens: Cache<HeaderValue>,
    /// Keys of AWS roles.
    pub(crate) keys: Cache<Credentials>,
}

impl Exchanges {
    /// Nothing connected and nothing kept yet. Exchanges run on the Tokio runtime of whoever asks first.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Arc<Self>, rustls::Error> {
        let client = Client::new()?;
        let (tokens, keys) = (Cache::new(Arc::clone(&clock)), Cache::new(Arc::clone(&clock)));
        Ok(Arc::new(Self { client, clock, tokens, keys }))
    }
}
