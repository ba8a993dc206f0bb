//! [`BearerPolicy`]: the checked settings of a [`BearerAuthenticator`](crate::BearerAuthenticator).

use vmcp_domain::{Challenge, ProtectedResource};
use vmcp_http_client::{TlsError, check_ca_bundle};

use crate::api_key::{ApiKey, ApiKeys};
use crate::policy::{OidcPolicy, SettingError};

/// Why callers cannot be authenticated with these settings.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is neither an issuer nor an API key, so no caller could ever be authenticated.
    #[error("neither an issuer nor an API key is configured, so every request would be refused")]
    NoCredentials,
    /// The configured API keys are invalid.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    ApiKeys(Vec<SettingError>),
    /// The certificate authorities cannot be read.
    #[error("no TLS towards the issuer: {0}")]
    Tls(#[from] TlsError),
}

/// Which bearer credentials are accepted: the tokens of one issuer, API keys, or both. It is data, with no
/// connection and no task.
#[derive(Clone, Debug)]
pub struct BearerPolicy {
    pub(crate) oidc: Option<OidcPolicy>,
    pub(crate) api_keys: ApiKeys,
    pub(crate) challenge: Challenge,
}

impl BearerPolicy {
    /// Checks the settings. `name` is the server's display name.
    ///
    /// # Errors
    /// When there is neither an issuer nor an API key, when an API key is invalid, or when the CA bundle
    /// cannot be read.
    pub fn new(name: &str, oidc: Option<OidcPolicy>, api_keys: Vec<ApiKey>) -> Result<Self, SetupError> {
        let api_keys = ApiKeys::new(api_keys).map_err(SetupError::ApiKeys)?;
        if oidc.is_none() && api_keys.is_empty() {
            return Err(SetupError::NoCredentials);
        }
        if let Some(bundle) = oidc.as_ref().and_then(|policy| policy.ca_bundle.as_deref()) {
            check_ca_bundle(bundle)?;
        }
        let challenge = challenge(name, oidc.as_ref());
        Ok(Self { oidc, api_keys, challenge })
    }

    /// What clients without a valid credential are told.
    #[must_use]
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
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
