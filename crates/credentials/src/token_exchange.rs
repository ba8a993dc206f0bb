//! Exchanges the caller's token for one that the backend accepts (RFC 8693).

use std::sync::Arc;

use http::HeaderValue;
use vmcp_domain::Secret;

use crate::cache::FetchedCredential;
use crate::error::{FetchFailure, PolicyError};
use crate::exchange_context::ExchangeContext;
use crate::source::CredentialSource;
use crate::source::bearer_source::{BearerSource, Grant, GrantOutcome};
use crate::source::scope;
use crate::token_endpoint::token_request::{self, OAuthClient};
use crate::token_endpoint::token_url::TokenUrl;
use crate::validation;

pub(crate) const GRANT_TYPE_TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const TOKEN_TYPE_ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(crate) const TOKEN_TYPE_ID: &str = "urn:ietf:params:oauth:token-type:id_token";
const TOKEN_TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The validated settings of a token exchange.
#[derive(Clone, Debug)]
pub struct TokenExchangePolicy {
    url: TokenUrl,
    client: Option<OAuthClient>,
    audience: Option<String>,
    scopes: Vec<String>,
    resource: Option<String>,
    subject_token_type: &'static str,
}

impl TokenExchangePolicy {
    /// Builds an exchange at `url` (`tokenUrl`) without a client, audience, scopes or resource.
    #[must_use]
    pub fn new(url: TokenUrl) -> Self {
        Self {
            url,
            client: None,
            audience: None,
            scopes: Vec::new(),
            resource: None,
            subject_token_type: TOKEN_TYPE_ACCESS,
        }
    }

    /// Authenticates as this client (`clientId`, `clientSecret`). With a secret, the gateway's own health
    /// checks get a token too (`client_credentials`).
    #[must_use]
    pub fn with_client(self, client: OAuthClient) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Requests a token for this audience (`audience`).
    ///
    /// # Errors
    /// When it is empty, too long or has control characters.
    pub fn with_audience(self, audience: &str) -> Result<Self, PolicyError> {
        Ok(Self { audience: Some(validation::check_text("audience", audience)?), ..self })
    }

    /// Requests these scopes (`scopes`); none means the issuer's default.
    ///
    /// # Errors
    /// When one is not a valid scope (RFC 6749, section 3.3), or there are more than 64.
    pub fn with_scopes(self, scopes: impl IntoIterator<Item = String>) -> Result<Self, PolicyError> {
        Ok(Self { scopes: validation::parse_scopes("scopes", scopes)?, ..self })
    }

    /// Requests a token for this resource (RFC 8707).
    ///
    /// # Errors
    /// When it is not an absolute URI without a fragment.
    pub fn with_resource(self, uri: &str) -> Result<Self, PolicyError> {
        Ok(Self { resource: Some(validation::check_resource("resource", uri)?), ..self })
    }

    /// Sets the type of the caller's token (`subjectTokenType`): `access_token`, `id_token`, `jwt`, or the
    /// URN of one of them.
    ///
    /// # Errors
    /// When it is another type.
    pub fn with_subject_token_type(self, name: &str) -> Result<Self, PolicyError> {
        let subject_type = match name {
            "access_token" | TOKEN_TYPE_ACCESS => TOKEN_TYPE_ACCESS,
            "id_token" | TOKEN_TYPE_ID => TOKEN_TYPE_ID,
            "jwt" | TOKEN_TYPE_JWT => TOKEN_TYPE_JWT,
            _other => {
                let why = "must be access_token, id_token or jwt";
                return Err(PolicyError::new("subjectTokenType", why));
            }
        };
        Ok(Self { subject_token_type: subject_type, ..self })
    }

    /// Builds the source of one backend's exchanged tokens.
    #[must_use]
    pub fn into_source(self, exchange_context: Arc<ExchangeContext>) -> impl CredentialSource + use<> {
        let scopes = join_scopes(&self.scopes);
        BearerSource::new(TokenExchangeGrant { policy: self, joined_scopes: scopes }, exchange_context)
    }
}

struct TokenExchangeGrant {
    policy: TokenExchangePolicy,
    joined_scopes: Option<String>,
}

impl Grant for TokenExchangeGrant {
    const NAME: &'static str = "token_exchange";

    fn fingerprint(&self) -> [u8; 32] {
        let uri = self.policy.url.uri().to_string();
        let id = self.policy.client.as_ref().map_or("", OAuthClient::id);
        let (audience, resource) = (self.policy.audience.as_deref(), self.policy.resource.as_deref());
        let scopes = self.policy.scopes.join(" ");
        let (audience, resource) = (audience.unwrap_or_default(), resource.unwrap_or_default());
        scope::fingerprint(&[
            "token_exchange",
            &uri,
            id,
            audience,
            resource,
            &scopes,
            self.policy.subject_token_type,
        ])
    }

    fn authority(&self) -> &Arc<str> {
        self.policy.url.authority()
    }

    fn has_gateway_account(&self) -> bool {
        self.policy.client.as_ref().is_some_and(OAuthClient::has_secret)
    }

    async fn fetch(&self, exchange_context: &ExchangeContext, token: &Secret) -> GrantOutcome {
        let TokenExchangePolicy { url, client, audience, scopes: _, resource, subject_token_type } =
            &self.policy;
        let form = token_request::build_form(
            client.as_ref(),
            &[
                ("grant_type", Some(GRANT_TYPE_TOKEN_EXCHANGE)),
                ("subject_token", Some(token.expose())),
                ("subject_token_type", Some(subject_token_type)),
                ("requested_token_type", Some(TOKEN_TYPE_ACCESS)),
                ("audience", audience.as_deref()),
                ("resource", resource.as_deref()),
                ("scope", self.joined_scopes.as_deref()),
            ],
        );
        let response =
            token_request::request_token(&exchange_context.client, url, client.as_ref(), form).await?;
        // RFC 8693, section 2.2.1, requires this member. A JWT is a common form of an access token.
        if !matches!(response.issued_token_type.as_deref(), Some(TOKEN_TYPE_ACCESS | TOKEN_TYPE_JWT)) {
            let why = "the issued token is not an access token (issued_token_type)";
            return Err(FetchFailure::misconfigured(url.authority(), why));
        }
        Ok(fetched_header(token_request::bearer_header(url, &response, &[token])?, response.lifetime))
    }

    async fn fetch_for_gateway(&self, exchange_context: &ExchangeContext) -> GrantOutcome {
        let TokenExchangePolicy { url, client, audience, scopes: _, resource, subject_token_type: _ } =
            &self.policy;
        let parameters = (audience.as_deref(), resource.as_deref(), self.joined_scopes.as_deref());
        request_client_credentials(exchange_context, url, client.as_ref(), parameters).await
    }
}

/// Requests a token for the gateway's own account (RFC 6749, section 4.4), for an audience, a resource and
/// scopes.
pub(crate) async fn request_client_credentials(
    exchange_context: &ExchangeContext,
    url: &TokenUrl,
    client: Option<&OAuthClient>,
    (audience, resource, scopes): (Option<&str>, Option<&str>, Option<&str>),
) -> GrantOutcome {
    let form = token_request::build_form(
        client,
        &[
            ("grant_type", Some("client_credentials")),
            ("audience", audience),
            ("resource", resource),
            ("scope", scopes),
        ],
    );
    let response = token_request::request_token(&exchange_context.client, url, client, form).await?;
    Ok(fetched_header(token_request::bearer_header(url, &response, &[])?, response.lifetime))
}

pub(crate) fn fetched_header(
    value: HeaderValue,
    lifetime: Option<std::time::Duration>,
) -> FetchedCredential<HeaderValue> {
    let bytes = value.len();
    FetchedCredential { value, lifetime, bytes }
}

pub(crate) fn join_scopes(scopes: &[String]) -> Option<String> {
    (!scopes.is_empty()).then(|| scopes.join(" "))
}
