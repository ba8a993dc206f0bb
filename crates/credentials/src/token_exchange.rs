//! The caller's token exchanged for one that the backend accepts (RFC 8693).

use std::sync::Arc;

use http::HeaderValue;
use vmcp_domain::Secret;

use crate::bearer::{Bearer, Grant, Granted};
use crate::cache::Fresh;
use crate::endpoint::TokenUrl;
use crate::error::{Failure, PolicyError};
use crate::exchanges::Exchanges;
use crate::grant::{self, ClientAccount};
use crate::scope;
use crate::source::CredentialSource;
use crate::words;

pub(crate) const GRANT_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(crate) const TYPE_ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(crate) const TYPE_ID: &str = "urn:ietf:params:oauth:token-type:id_token";
const TYPE_JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The validated settings of a token exchange.
#[derive(Clone, Debug)]
pub struct TokenExchangePolicy {
    url: TokenUrl,
    account: Option<ClientAccount>,
    audience: Option<String>,
    scopes: Vec<String>,
    resource: Option<String>,
    subject_type: &'static str,
}

impl TokenExchangePolicy {
    /// An exchange at `url` (`tokenUrl`) that names no client and asks for nothing in particular.
    #[must_use]
    pub fn new(url: TokenUrl) -> Self {
        let (account, audience, scopes, resource) = (None, None, Vec::new(), None);
        Self { url, account, audience, scopes, resource, subject_type: TYPE_ACCESS }
    }

    /// Asks as this client (`clientId`, `clientSecret`). With a secret, the gateway's own checks ask for a token of
    /// their own (`client_credentials`).
    #[must_use]
    pub fn with_account(self, account: ClientAccount) -> Self {
        Self { account: Some(account), ..self }
    }

    /// Asks for a token for this audience (`audience`).
    ///
    /// # Errors
    /// When it is empty, too long or has control characters.
    pub fn with_audience(self, audience: &str) -> Result<Self, PolicyError> {
        Ok(Self { audience: Some(words::text("audience", audience)?), ..self })
    }

    /// Asks for these scopes (`scopes`); none means the issuer's default.
    ///
    /// # Errors
    /// When one is no scope (RFC 6749 section 3.3), or there are more than 64.
    pub fn with_scopes(self, scopes: impl IntoIterator<Item = String>) -> Result<Self, PolicyError> {
        Ok(Self { scopes: words::scopes("scopes", scopes)?, ..self })
    }

    /// Asks for a token for this resource (RFC 8707).
    ///
    /// # Errors
    /// When it is no absolute URI without fragment.
    pub fn with_resource(self, uri: &str) -> Result<Self, PolicyError> {
        Ok(Self { resource: Some(words::resource("resource", uri)?), ..self })
    }

    /// What the caller's token is (`subjectTokenType`): `access_token`, `id_token`, `jwt`, or the URN of one of them.
    ///
    /// # Errors
    /// When it is another.
    pub fn with_subject_token_type(self, name: &str) -> Result<Self, PolicyError> {
        let subject_type = match name {
            "access_token" | TYPE_ACCESS => TYPE_ACCESS,
            "id_token" | TYPE_ID => TYPE_ID,
            "jwt" | TYPE_JWT => TYPE_JWT,
            _other => {
                let why = "must be access_token, id_token or jwt";
                return Err(PolicyError::new("subjectTokenType", why));
            }
        };
        Ok(Self { subject_type, ..self })
    }

    /// The source of one backend's exchanged tokens.
    #[must_use]
    pub fn into_source(self, exchanges: Arc<Exchanges>) -> impl CredentialSource + use<> {
        let scopes = joined(&self.scopes);
        Bearer::new(Exchange { policy: self, scopes }, exchanges)
    }
}

struct Exchange {
    policy: TokenExchangePolicy,
    scopes: Option<String>,
}

impl Grant for Exchange {
    const NAME: &'static str = "token_exchange";

    fn fingerprint(&self) -> [u8; 32] {
        let uri = self.policy.url.uri().to_string();
        let id = self.policy.account.as_ref().map_or("", ClientAccount::id);
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
            self.policy.subject_type,
        ])
    }

    fn place(&self) -> &Arc<str> {
        self.policy.url.place()
    }

    fn has_own(&self) -> bool {
        self.policy.account.as_ref().is_some_and(ClientAccount::has_secret)
    }

    async fn get(&self, exchanges: &Exchanges, token: &Secret) -> Granted {
        let TokenExchangePolicy { url, account, audience, scopes: _, resource, subject_type } = &self.policy;
        let form = grant::form(
            account.as_ref(),
            &[
                ("grant_type", Some(GRANT_EXCHANGE)),
                ("subject_token", Some(token.expose())),
                ("subject_token_type", Some(subject_type)),
                ("requested_token_type", Some(TYPE_ACCESS)),
                ("audience", audience.as_deref()),
                ("resource", resource.as_deref()),
                ("scope", self.scopes.as_deref()),
            ],
        );
        let granted = grant::request(&exchanges.client, url, account.as_ref(), form).await?;
        // RFC 8693 section 2.2.1 requires it; a JWT is a usual form of an access token.
        if !matches!(granted.issued_type.as_deref(), Some(TYPE_ACCESS | TYPE_JWT)) {
            let why = "what it issued is no access token (issued_token_type)";
            return Err(Failure::misconfigured(url.place(), why));
        }
        Ok(fresh(grant::bearer(url, &granted, &[token])?, granted.lifetime))
    }

    async fn get_own(&self, exchanges: &Exchanges) -> Granted {
        let TokenExchangePolicy { url, account, audience, scopes: _, resource, subject_type: _ } =
            &self.policy;
        let asked = (audience.as_deref(), resource.as_deref(), self.scopes.as_deref());
        own_token(exchanges, url, account.as_ref(), asked).await
    }
}

/// A token for the gateway's own account (RFC 6749 section 4.4), for an audience, a resource and scopes.
pub(crate) async fn own_token(
    exchanges: &Exchanges,
    url: &TokenUrl,
    account: Option<&ClientAccount>,
    (audience, resource, scopes): (Option<&str>, Option<&str>, Option<&str>),
) -> Granted {
    let form = grant::form(
        account,
        &[
            ("grant_type", Some("client_credentials")),
            ("audience", audience),
            ("resource", resource),
            ("scope", scopes),
        ],
    );
    let granted = grant::request(&exchanges.client, url, account, form).await?;
    Ok(fresh(grant::bearer(url, &granted, &[])?, granted.lifetime))
}

pub(crate) fn fresh(value: HeaderValue, lifetime: Option<std::time::Duration>) -> Fresh<HeaderValue> {
    let bytes = value.len();
    Fresh { value, lifetime, bytes }
}

pub(crate) fn joined(scopes: &[String]) -> Option<String> {
    (!scopes.is_empty()).then(|| scopes.join(" "))
}
