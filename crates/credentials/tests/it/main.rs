//! The strategies against scripted token endpoints: in-process HTTP servers that act as issuers and as AWS
//! STS, with their faults.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod aws;
mod exchange;
mod faults;
mod pace;
mod secrets;
mod web;
mod xaa;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Uri};
use serde_json::json;
use vmcp_credentials::{
    CredentialError, CredentialHeaders, CredentialSource, ExchangeContext, RequestView, Secret, Subject,
    TokenExchangePolicy, TokenUrl,
};
use vmcp_domain::Identity;
use vmcp_json::Json;
use vmcp_timing::ManualClock;

use crate::web::{HttpReply, ReceivedRequest, ScriptedServer};

pub(crate) fn exchange_context() -> (Arc<ManualClock>, Arc<ExchangeContext>) {
    // 2026-01-01T00:00:00Z.
    let clock = Arc::new(ManualClock::at(Duration::from_secs(1_767_225_600)));
    let exchange_context = ExchangeContext::new(Arc::<ManualClock>::clone(&clock)).unwrap();
    (clock, exchange_context)
}

/// A caller with a token that is distinct from all other texts.
pub(crate) struct TestCaller {
    pub(crate) identity: Identity,
    pub(crate) token: Secret,
    pub(crate) token_text: String,
}

impl TestCaller {
    pub(crate) fn new(subject: &str, claims: &str) -> Self {
        let claims = Json::parse(claims.to_owned()).unwrap().members().unwrap();
        let text = format!("caller-token-of-{subject}");
        let identity = Identity { issuer: "https://issuer".to_owned(), subject: subject.to_owned(), claims };
        Self { identity, token: Secret::new(text.clone()), token_text: text }
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { identity: &self.identity, token: &self.token }
    }
}

/// The headers of a source for a tool call.
pub(crate) async fn apply_credentials(
    source: &dyn CredentialSource,
    caller: Option<&TestCaller>,
) -> Result<CredentialHeaders, CredentialError> {
    let (method, uri) = (Method::POST, Uri::from_static("https://backend.example/mcp"));
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let request = RequestView { method: &method, uri: &uri, headers: &headers, body: b"{}" };
    let subject = caller.map(TestCaller::subject);
    source.headers_for_caller(subject.as_ref(), &request).await
}

pub(crate) async fn probe_credentials(
    source: &dyn CredentialSource,
) -> Result<CredentialHeaders, CredentialError> {
    let (method, uri) = (Method::GET, Uri::from_static("https://backend.example/mcp"));
    let request = RequestView { method: &method, uri: &uri, headers: &HeaderMap::new(), body: b"" };
    source.headers_for_gateway(&request).await
}

/// The headers, all of which must be marked as sensitive.
pub(crate) fn headers(credential_headers: &CredentialHeaders) -> Vec<(String, String)> {
    let headers = credential_headers.headers().iter();
    headers
        .map(|(name, value)| {
            assert!(value.is_sensitive(), "{name}");
            (name.to_string(), value.to_str().unwrap().to_owned())
        })
        .collect()
}

pub(crate) fn bearer_token(credential_headers: &CredentialHeaders) -> String {
    match headers(credential_headers).as_slice() {
        [(name, value)] if name == "authorization" => value.strip_prefix("Bearer ").unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn token_url(web: &ScriptedServer) -> TokenUrl {
    TokenUrl::parse("tokenUrl", &format!("{}/token", web.base()), false).unwrap()
}

pub(crate) fn exchange_source(
    web: &ScriptedServer,
    exchange_context: &Arc<ExchangeContext>,
) -> impl CredentialSource + use<> {
    TokenExchangePolicy::new(token_url(web)).into_source(Arc::clone(exchange_context))
}

/// Grants a numbered token for the backend.
pub(crate) fn granted_reply(form_request: &ReceivedRequest) -> HttpReply {
    let token = format!("backend-token-{}", form_request.number);
    let issued = "urn:ietf:params:oauth:token-type:access_token";
    let body = json!({"access_token": token, "token_type": "bearer", "issued_token_type": issued, "expires_in": 300});
    web::reply_json(200, &body)
}
