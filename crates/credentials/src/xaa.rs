//! Cross-app access (draft-ietf-oauth-identity-assertion-authz-grant): the identity provider exchanges the
//! caller's ID token for an assertion (ID-JAG), and the target's authorisation server accepts that as a grant
//! (RFC 7523).
//!
//! Only the access token of the second step is cached and sent.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use vmcp_domain::Secret;

use crate::error::{FetchFailure, PolicyError};
use crate::exchange_context::ExchangeContext;
use crate::source::CredentialSource;
use crate::source::bearer_source::{BearerSource, Grant, GrantOutcome};
use crate::source::scope;
use crate::token_endpoint::token_request::{self, OAuthClient};
use crate::token_endpoint::token_url::TokenUrl;
use crate::token_exchange::{
    GRANT_TYPE_TOKEN_EXCHANGE, TOKEN_TYPE_ID, fetched_header, join_scopes, request_client_credentials,
};
use crate::validation;

const GRANT_TYPE_JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_TYPE_ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// The validated settings of cross-app access.
#[derive(Clone, Debug)]
pub struct XaaPolicy {
    idp_url: TokenUrl,
    idp_client: Option<OAuthClient>,
    target_url: TokenUrl,
    target_client: Option<OAuthClient>,
    audience: String,
    resource: Option<String>,
    scopes: Vec<String>,
}

impl XaaPolicy {
    /// Builds settings from the identity provider's token endpoint (`idpTokenUrl`) and the target's
    /// (`targetTokenUrl`). `audience` (`targetAudience`) is the target's issuer.
    ///
    /// # Errors
    /// When the audience is empty, too long or has control characters.
    pub fn new(idp_url: TokenUrl, target_url: TokenUrl, audience: &str) -> Result<Self, PolicyError> {
        let audience = validation::check_text("targetAudience", audience)?;
        let (idp_client, target_client, resource, scopes) = (None, None, None, Vec::new());
        Ok(Self { idp_url, idp_client, target_url, target_client, audience, resource, scopes })
    }

    /// Authenticates at the identity provider as this client (`idpClientId`, `idpClientSecret`).
    #[must_use]
    pub fn with_idp_client(self, account: OAuthClient) -> Self {
        Self { idp_client: Some(account), ..self }
    }

    /// Authenticates at the target as this client (`targetClientId`, `targetClientSecret`). With a secret,
    /// the gateway's own health checks get a token too (`client_credentials`). Most targets require a client.
    #[must_use]
    pub fn with_target_client(self, account: OAuthClient) -> Self {
        Self { target_client: Some(account), ..self }
    }

    /// Requests a token for this resource (`targetResource`). The assertion must then name it.
    ///
    /// # Errors
    /// When it is not an absolute URI without a fragment.
    pub fn with_resource(self, uri: &str) -> Result<Self, PolicyError> {
        Ok(Self { resource: Some(validation::check_resource("targetResource", uri)?), ..self })
    }

    /// Requests these scopes (`scopes`); none means the defaults of both servers.
    ///
    /// # Errors
    /// When one is not a valid scope (RFC 6749, section 3.3), or there are more than 64.
    pub fn with_scopes(self, scopes: impl IntoIterator<Item = String>) -> Result<Self, PolicyError> {
        Ok(Self { scopes: validation::parse_scopes("scopes", scopes)?, ..self })
    }

    /// Sets the type of the caller's token (`subjectTokenType`). Only `id_token` is possible, which is also
    /// the default.
    ///
    /// # Errors
    /// When it is another type.
    pub fn with_subject_token_type(self, name: &str) -> Result<Self, PolicyError> {
        let fits = matches!(name, "id_token" | TOKEN_TYPE_ID);
        fits.then_some(self).ok_or_else(|| PolicyError::new("subjectTokenType", "must be id_token"))
    }

    /// Builds the source of one backend's tokens.
    #[must_use]
    pub fn into_source(self, exchange_context: Arc<ExchangeContext>) -> impl CredentialSource + use<> {
        let scopes = join_scopes(&self.scopes);
        BearerSource::new(CrossAppGrant { policy: self, joined_scopes: scopes }, exchange_context)
    }
}

struct CrossAppGrant {
    policy: XaaPolicy,
    joined_scopes: Option<String>,
}

impl CrossAppGrant {
    async fn fetch_assertion(
        &self,
        exchange_context: &ExchangeContext,
        token: &Secret,
    ) -> Result<Secret, FetchFailure> {
        let XaaPolicy { idp_url, idp_client, audience, resource, .. } = &self.policy;
        let form = token_request::build_form(
            idp_client.as_ref(),
            &[
                ("grant_type", Some(GRANT_TYPE_TOKEN_EXCHANGE)),
                ("requested_token_type", Some(TOKEN_TYPE_ID_JAG)),
                ("subject_token", Some(token.expose())),
                ("subject_token_type", Some(TOKEN_TYPE_ID)),
                ("audience", Some(audience)),
                ("resource", resource.as_deref()),
                ("scope", self.joined_scopes.as_deref()),
            ],
        );
        let response =
            token_request::request_token(&exchange_context.client, idp_url, idp_client.as_ref(), form)
                .await?;
        let misconfigured = |why: &'static str| Err(FetchFailure::misconfigured(idp_url.authority(), why));
        if response.issued_token_type.as_deref() != Some(TOKEN_TYPE_ID_JAG) {
            return misconfigured("the issued token is not an ID-JAG (issued_token_type)");
        }
        // An assertion is not a bearer token, and its `token_type` must say so.
        if !response.token_type.eq_ignore_ascii_case("N_A") {
            return misconfigured("the assertion it issued is not of token_type N_A");
        }
        token_request::check_not_echoed(idp_url, &response.token, &[token])?;
        if !is_assertion_for(response.token.expose(), audience, resource.as_deref()) {
            return misconfigured("the assertion it issued is not for the audience and resource asked for");
        }
        Ok(response.token)
    }
}

impl Grant for CrossAppGrant {
    const NAME: &'static str = "xaa";

    fn fingerprint(&self) -> [u8; 32] {
        let (idp, target) = (self.policy.idp_url.uri().to_string(), self.policy.target_url.uri().to_string());
        let id = |account: &'_ Option<OAuthClient>| {
            account.as_ref().map_or(String::new(), |account| account.id().to_owned())
        };
        let (idp_id, target_id) = (id(&self.policy.idp_client), id(&self.policy.target_client));
        let (resource, scopes) =
            (self.policy.resource.as_deref().unwrap_or_default(), self.policy.scopes.join(" "));
        scope::fingerprint(&[
            "xaa",
            &idp,
            &idp_id,
            &target,
            &target_id,
            &self.policy.audience,
            resource,
            &scopes,
        ])
    }

    fn authority(&self) -> &Arc<str> {
        self.policy.target_url.authority()
    }

    fn has_gateway_account(&self) -> bool {
        self.policy.target_client.as_ref().is_some_and(OAuthClient::has_secret)
    }

    async fn fetch(&self, exchange_context: &ExchangeContext, token: &Secret) -> GrantOutcome {
        let assertion = self.fetch_assertion(exchange_context, token).await?;
        let XaaPolicy { target_url, target_client, .. } = &self.policy;
        let form = token_request::build_form(
            target_client.as_ref(),
            &[
                ("grant_type", Some(GRANT_TYPE_JWT_BEARER)),
                ("assertion", Some(assertion.expose())),
                ("scope", self.joined_scopes.as_deref()),
            ],
        );
        let response =
            token_request::request_token(&exchange_context.client, target_url, target_client.as_ref(), form)
                .await?;
        Ok(fetched_header(
            token_request::bearer_header(target_url, &response, &[token, &assertion])?,
            response.lifetime,
        ))
    }

    async fn fetch_for_gateway(&self, exchange_context: &ExchangeContext) -> GrantOutcome {
        let XaaPolicy { target_url, target_client, audience, resource, .. } = &self.policy;
        let parameters = (Some(audience.as_str()), resource.as_deref(), self.joined_scopes.as_deref());
        request_client_credentials(exchange_context, target_url, target_client.as_ref(), parameters).await
    }
}

/// True when an assertion is for this target and no other. The target verifies its signature. This check only
/// prevents that an assertion for another target is sent to this one.
fn is_assertion_for(assertion: &str, audience: &str, resource: Option<&str>) -> bool {
    let claims = || {
        let mut parts = assertion.split('.');
        let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        let payload = parts.next().is_none().then(|| URL_SAFE_NO_PAD.decode(payload).ok())??;
        serde_json::from_slice::<Value>(&payload).ok()
    };
    let Some(claims) = claims() else {
        return false;
    };
    let names = |claim: &str| -> Vec<String> {
        match claims.get(claim) {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(many)) => {
                many.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
        }
    };
    let fits = resource.is_none_or(|resource| names("resource").iter().any(|name| name == resource));
    fits && names("aud") == [audience]
}
