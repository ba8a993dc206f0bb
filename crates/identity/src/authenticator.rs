//! [`BearerAuthenticator`]: determines the kind of a credential and passes it to the verifier for that kind.

use std::net::IpAddr;
use std::sync::Arc;

use vmcp_domain::{
    Authentication, Authenticator, BoxFuture, Challenge, InvalidTokenReason, Secret, Unauthorized,
};

use crate::api_key::{self, ApiKeys};
use crate::bearer_policy::BearerPolicy;
use crate::bearer_token;
use crate::fetcher::Fetcher;
use crate::introspection::{Introspector, IntrospectorParts};
use crate::jwt::key_store::KeyStore;
use crate::jwt::{self, TokenVerifier};
use crate::policy::{Introspection, OidcPolicy};

use vmcp_http_client::{TlsError, Trust};
use vmcp_timing::Clock;

/// Authenticates callers by bearer tokens: signed tokens, opaque tokens and API keys.
pub struct BearerAuthenticator {
    oidc: Option<OidcVerifier>,
    api_keys: ApiKeys,
    clock: Arc<dyn Clock>,
    challenge: Challenge,
}

struct OidcVerifier {
    key_store: Arc<KeyStore>,
    token_verifier: TokenVerifier,
    introspector: Option<Introspector>,
}

impl std::fmt::Debug for BearerAuthenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BearerAuthenticator").field("challenge", &self.challenge).finish_non_exhaustive()
    }
}

impl BearerAuthenticator {
    /// Starts an authenticator. Nothing is fetched yet.
    ///
    /// # Errors
    /// When the certificate authorities can no longer be read.
    pub fn start(policy: BearerPolicy, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let BearerPolicy { oidc, api_keys, challenge } = policy;
        let oidc = oidc.map(|policy| OidcVerifier::new(policy, &clock)).transpose()?;
        Ok(Self { oidc, api_keys, clock, challenge })
    }

    /// Fetches the issuer's keys in advance, so that the first caller need not wait. It is optional.
    ///
    /// # Errors
    /// [`Unauthorized::Unavailable`] when the issuer does not answer. The first caller then triggers another
    /// attempt.
    pub async fn warm_up(&self) -> Result<(), Unauthorized> {
        match &self.oidc {
            Some(oidc) => oidc.key_store.current().await.map(drop),
            None => Ok(()),
        }
    }

    async fn authenticate_header(
        &self,
        authorization: Option<&[u8]>,
        address: Option<IpAddr>,
    ) -> Result<Authentication, Unauthorized> {
        let token = bearer_token::parse(authorization)?;
        if token.starts_with(api_key::KEY_PREFIX) && !self.api_keys.is_empty() {
            let verified = self.api_keys.verify(token, self.clock.time_of_day().as_secs())?;
            return Ok(verified.into_admission(self.clock.time_of_day().as_secs(), None));
        }
        let verified = match &self.oidc {
            Some(oidc) if jwt::is_jwt_shaped(token) => oidc.token_verifier.verify(token).await?,
            Some(OidcVerifier { introspector: Some(introspector), .. }) => {
                introspector.verify(token, address).await?
            }
            Some(_) | None => return Err(Unauthorized::InvalidToken(InvalidTokenReason::Shape)),
        };
        Ok(verified.into_admission(self.clock.time_of_day().as_secs(), Some(Secret::new(token))))
    }
}

impl OidcVerifier {
    fn new(policy: OidcPolicy, clock: &Arc<dyn Clock>) -> Result<Self, TlsError> {
        let fetcher = Arc::new(Fetcher::new(
            Trust::bundle_or_system(policy.ca_bundle.as_deref()),
            policy.address_policy,
        )?);
        let policy = Arc::new(policy);
        let key_store = Arc::new(KeyStore::new(Arc::clone(&policy), Arc::clone(&fetcher), Arc::clone(clock)));
        let token_verifier =
            TokenVerifier::new(Arc::clone(&policy), Arc::clone(&key_store), Arc::clone(clock));
        let introspector = match policy.introspection.clone() {
            Introspection::Disabled => None,
            Introspection::Enabled(address, client) => {
                let (key_store, clock) = (Arc::clone(&key_store), Arc::clone(clock));
                Some(Introspector::new(IntrospectorParts {
                    policy,
                    endpoint: address,
                    client,
                    key_store,
                    fetcher,
                    clock,
                }))
            }
        };
        Ok(Self { key_store, token_verifier, introspector })
    }
}

impl Authenticator for BearerAuthenticator {
    fn authenticate<'a>(
        &'a self,
        authorization: Option<&'a [u8]>,
        address: Option<IpAddr>,
    ) -> BoxFuture<'a, Result<Authentication, Unauthorized>> {
        Box::pin(self.authenticate_header(authorization, address))
    }

    fn challenge(&self) -> &Challenge {
        &self.challenge
    }
}
