//! [`BearerAuthenticator`]: determines the kind of a credential and passes it to the verifier for that kind.

use std::net::IpAddr;
use std::sync::Arc;

use vmcp_domain::{
    Authentication, Authenticator, BoxFuture, Challenge, InvalidTokenReason, ProtectedResource, Secret,
    Unauthorized,
};

use crate::api_key::{self, ApiKey, ApiKeys};
use crate::bearer_token;
use crate::fetcher::Fetcher;
use crate::introspection::{Introspector, IntrospectorParts};
use crate::jwt::{self, TokenVerifier};
use crate::key_store::KeyStore;
use crate::policy::{Introspection, OidcPolicy, SettingError};

use vmcp_http_client::{TlsError, Trust};
use vmcp_timing::Clock;

/// Why an authenticator cannot be built from these settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is neither an issuer nor an API key, so no caller could ever be authenticated.
    #[error("neither an issuer nor an API key is configured, so every request would be refused")]
    NoCredentials,
    /// The configured API keys are invalid.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    ApiKeys(Vec<SettingError>),
    /// The certificate authorities cannot be read, or TLS cannot be set up.
    #[error("no TLS towards the issuer: {0}")]
    Tls(#[from] TlsError),
}

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
    /// Builds an authenticator for the tokens of one issuer, for API keys, or for both. `name` is the
    /// server's display name. Nothing is fetched yet.
    ///
    /// # Errors
    /// When there is neither an issuer nor an API key, when an API key is invalid, or when the certificate
    /// authorities cannot be read.
    pub fn new(
        name: &str,
        oidc: Option<OidcPolicy>,
        api_keys: Vec<ApiKey>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let api_keys = ApiKeys::new(api_keys).map_err(SetupError::ApiKeys)?;
        if oidc.is_none() && api_keys.is_empty() {
            return Err(SetupError::NoCredentials);
        }
        let challenge = challenge(name, oidc.as_ref());
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
    fn new(policy: OidcPolicy, clock: &Arc<dyn Clock>) -> Result<Self, SetupError> {
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

fn challenge(name: &str, oidc: Option<&OidcPolicy>) -> Challenge {
    let Some(policy) = oidc else {
        return Challenge { realm: name.to_owned(), ..Challenge::default() };
    };
    let scopes = policy.required_scopes.clone();
    let resource = policy.resource.clone().map(|resource| ProtectedResource {
        resource,
        authorization_servers: vec![policy.issuer.clone()],
        scopes: scopes.clone(),
        name: Some(name.to_owned()),
    });
    Challenge { realm: policy.issuer.clone(), scopes, resource }
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
