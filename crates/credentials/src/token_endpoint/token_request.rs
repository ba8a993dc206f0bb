//! OAuth token requests and responses (RFC 6749, RFC 8693): what the gateway sends, and which responses it
//! accepts.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::{Serializer, byte_serialize};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use vmcp_domain::Secret;

use crate::error::{FetchFailure, PolicyError};
use crate::token_endpoint::token_client::{TokenClient, TokenReply};
use crate::token_endpoint::token_url::TokenUrl;
use crate::validation;

/// The longest accepted token, in bytes. Servers reject longer headers.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Error codes that mean wrong settings, independent of the caller.
const MISCONFIGURATION_CODES: [&str; 4] =
    ["invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_target"];
/// Error codes about the caller or the token (RFC 6749, RFC 8693, OpenID Connect).
const CALLER_CODES: [&str; 9] = [
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "access_denied",
    "interaction_required",
    "login_required",
    "consent_required",
    "insufficient_user_authentication",
    "invalid_token",
];

/// The gateway's client account at an issuer.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    id: String,
    secret: Option<Secret>,
    /// The prepared header value for `client_secret_basic`.
    basic_auth: Option<HeaderValue>,
}

impl OAuthClient {
    /// Builds an account with a secret (`client_secret_basic`) or without one (`none`: only the id is sent).
    /// Errors name the settings `id_field` and `secret_field`.
    ///
    /// # Errors
    /// When the id or the secret is empty or cannot be sent.
    pub fn new(
        id_field: &'static str,
        id: &str,
        secret_field: &'static str,
        secret: Option<&Secret>,
    ) -> Result<Self, PolicyError> {
        let id = validation::check_text(id_field, id)?;
        let basic = secret.map(|secret| {
            let text = secret.expose();
            if text.is_empty() || text.len() > TOKEN_BYTES_MAX || text.contains(char::is_control) {
                let why = "must not be empty or contain control characters; look for a line break at its end";
                return Err(PolicyError::new(secret_field, why));
            }
            basic_auth(&id, text).ok_or_else(|| PolicyError::new(secret_field, "cannot be sent"))
        });
        Ok(Self { id, secret: secret.cloned(), basic_auth: basic.transpose()? })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// True when the gateway can request tokens for its own account.
    pub(crate) fn has_secret(&self) -> bool {
        self.secret.is_some()
    }
}

/// The `Authorization` value of RFC 6749, section 2.3.1: id and secret are form-encoded before they are
/// joined.
fn basic_auth(id: &str, secret: &str) -> Option<HeaderValue> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let joined = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
    sensitive_value(&format!("Basic {joined}"))
}

/// A header value that is marked as sensitive, so that no log shows it.
pub(crate) fn sensitive_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Builds a request form. Parameters without a value are left out.
pub(crate) fn build_form(token_client: Option<&OAuthClient>, pairs: &[(&str, Option<&str>)]) -> String {
    let mut form = Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    if let Some(token_client) = token_client.filter(|token_client| !token_client.has_secret()) {
        form.append_pair("client_id", &token_client.id);
    }
    form.finish()
}

/// A granted token.
pub(crate) struct TokenResponse {
    pub(crate) token: Secret,
    pub(crate) token_type: String,
    pub(crate) issued_token_type: Option<String>,
    pub(crate) lifetime: Option<Duration>,
}

/// Requests a token and parses the response.
pub(crate) async fn request_token(
    token_client: &TokenClient,
    url: &TokenUrl,
    client: Option<&OAuthClient>,
    form: String,
) -> Result<TokenResponse, FetchFailure> {
    let authorization = client.and_then(|client| client.basic_auth.clone());
    let reply = token_client.post(url, form, authorization).await?;
    if reply.status == StatusCode::OK {
        parse_token_response(url, &reply)
    } else {
        Err(classify_error(url, &reply))
    }
}

fn parse_token_response(url: &TokenUrl, reply: &TokenReply) -> Result<TokenResponse, FetchFailure> {
    #[derive(Deserialize)]
    struct Body {
        access_token: String,
        token_type: String,
        issued_token_type: Option<String>,
        expires_in: Option<Value>,
    }
    let misconfigured = |why: &'static str| FetchFailure::misconfigured(url.authority(), why);
    // The parser's own error text may repeat a part of the token.
    let body: Body = serde_json::from_slice(&reply.body).map_err(|_| {
        misconfigured("the response is not a token response (JSON with access_token and token_type)")
    })?;
    let token = body.access_token;
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(misconfigured("the token it answered is empty, too long or not visible ASCII"));
    }
    let lifetime =
        body.expires_in.as_ref().map_or(Ok(None), |number| parse_seconds(number).map(Some).ok_or(()));
    let lifetime = lifetime.map_err(|()| misconfigured("its expires_in is not a number of seconds"))?;
    Ok(TokenResponse {
        token: Secret::new(token),
        token_type: body.token_type,
        issued_token_type: body.issued_token_type,
        lifetime,
    })
}

/// Parses seconds: a number or, with some issuers, a string of digits.
fn parse_seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => match number.as_u64() {
            Some(whole) => whole as f64,
            None => number.as_f64()?,
        },
        Value::String(digits) if digits.len() <= 20 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok()?
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    // The maximum is a century, because a larger number might not fit into a `Duration`.
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(3.2e9)))
}

/// Classifies a response that is not a grant.
fn classify_error(url: &TokenUrl, reply: &TokenReply) -> FetchFailure {
    #[derive(Deserialize)]
    struct Body {
        error: String,
    }
    let authority = url.authority();
    let status = reply.status;
    let error_code = serde_json::from_slice::<Body>(&reply.body).map(|body| body.error).unwrap_or_default();
    let known = |codes: &[&'static str]| codes.iter().copied().find(|code| *code == error_code);
    let is_busy = matches!(status.as_u16(), 408 | 425 | 429)
        || matches!(error_code.as_str(), "temporarily_unavailable" | "slow_down" | "server_error");
    let failure = if status.is_server_error() || is_busy {
        FetchFailure::unavailable(authority, format!("answered {status}"))
    } else if let Some(code) = known(&MISCONFIGURATION_CODES) {
        FetchFailure::misconfigured(
            authority,
            format!("answered {status} ({code}); check the client credentials and the requested scopes"),
        )
    } else if let Some(code) = known(&CALLER_CODES) {
        FetchFailure::refused(authority, Some(code))
    } else if matches!(status.as_u16(), 400 | 401 | 403) {
        FetchFailure::refused(authority, None)
    } else {
        FetchFailure::misconfigured(authority, format!("answered {status}; check the address"))
    };
    FetchFailure { is_cacheable: status.is_client_error(), ..failure }
}

/// Builds the `Authorization` value for a bearer token.
///
/// The caller's own token must not come out of an exchange, even when an issuer returns it.
pub(crate) fn bearer_header(
    url: &TokenUrl,
    response: &TokenResponse,
    forbidden: &[&Secret],
) -> Result<HeaderValue, FetchFailure> {
    let misconfigured = |why: &'static str| FetchFailure::misconfigured(url.authority(), why);
    if !response.token_type.eq_ignore_ascii_case("Bearer") {
        return Err(misconfigured("the token it answered is not of token_type Bearer"));
    }
    check_not_echoed(url, &response.token, forbidden)?;
    let value = sensitive_value(&format!("Bearer {}", response.token.expose()));
    value.ok_or_else(|| misconfigured("the token it answered cannot be sent in a header"))
}

/// Checks that the granted token contains none of the tokens that were sent.
pub(crate) fn check_not_echoed(
    url: &TokenUrl,
    token: &Secret,
    forbidden: &[&Secret],
) -> Result<(), FetchFailure> {
    if forbidden.iter().any(|other| token.expose().contains(other.expose())) {
        return Err(FetchFailure::misconfigured(
            url.authority(),
            "it handed back the token that was to be exchanged",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
