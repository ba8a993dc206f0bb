//! Authentication of HTTP requests. The authenticator checks the credential before anything else of the
//! request is read. A request without a valid credential gets a response that says which credential is needed
//! (RFC 6750, RFC 9728). The [`Authenticator`] decides which credentials are valid.

use std::net::IpAddr;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use tokio::time::Instant;
use vmcp_domain::{
    Authentication, Authenticator, Caller, Challenge, InvalidTokenReason, ProtectedResource, Unauthorized,
    accounting_address,
};
use vmcp_json::{Json, Members};

use crate::admin::{self, AdminPage};
use crate::http::authenticated_peer::AuthenticatedPeer;
use crate::http::body::ResponseBody;
use crate::policy::IncomingAuth;
use crate::state::EdgeState;

/// The well-known path of the protected resource metadata (RFC 9728 section 3).
pub(crate) const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
/// The prefix of a bearer credential in `Authorization`.
const BEARER: &[u8] = b"Bearer ";
/// The time-out for checking one credential.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest validity of a credential that counts. A longer one counts as this much.
const STREAM_LIFETIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The head of a request and its authenticated sender.
pub(crate) struct AuthenticatedHead {
    pub(crate) parts: Parts,
    pub(crate) peer: AuthenticatedPeer,
}

impl EdgeState {
    /// Authenticates a request that arrived from the address `socket_address`. With bearer authentication, the
    /// `Authorization` header is removed, so it is not passed on.
    ///
    /// # Errors
    ///
    /// The response to send if the credential is not accepted.
    pub(crate) async fn authenticate(
        &self,
        mut parts: Parts,
        socket_address: IpAddr,
    ) -> Result<AuthenticatedHead, Response<ResponseBody>> {
        let address = crate::http::client_address::client_address(
            socket_address,
            &parts.headers,
            &self.policy.trusted_proxies,
        );
        let mut peer = match &self.policy.incoming {
            IncomingAuth::Anonymous => AuthenticatedPeer::without_credential(Caller::Anonymous),
            IncomingAuth::Local(identity) => {
                AuthenticatedPeer::without_credential(Caller::Known(identity.clone()))
            }
            IncomingAuth::Bearer(authenticator) => {
                let authenticated =
                    Box::pin(check_credential(&**authenticator, &parts.headers, address)).await;
                let authenticated_caller = authenticated
                    .map_err(|fault| unauthorized_response(&fault, authenticator.challenge()))?;
                parts.headers.remove(header::AUTHORIZATION);
                let expires_at = authenticated_caller
                    .valid_for
                    .and_then(|left| Instant::now().checked_add(left.min(STREAM_LIFETIME_MAX)));
                AuthenticatedPeer {
                    token: authenticated_caller.token,
                    expires_at,
                    ..AuthenticatedPeer::without_credential(authenticated_caller.caller)
                }
            }
        };
        peer.address = Some(address);
        Ok(AuthenticatedHead { parts, peer })
    }

    /// Whether a request for a page shows the scrape key or a valid credential of a caller.
    pub(crate) async fn has_credential(&self, headers: &HeaderMap, socket_address: IpAddr) -> bool {
        let Some(presented) = headers.get(header::AUTHORIZATION) else { return false };
        let bearer = presented.as_bytes().split_at_checked(BEARER.len());
        let key = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER)).map(|(_, key)| key);
        if let (Some(key), Some(expected)) = (key, &self.policy.scrape_key) {
            // Digests are compared, so that the time of the comparison reveals nothing about the key.
            let digest = |text: &[u8]| ring::digest::digest(&ring::digest::SHA256, text);
            if digest(key.trim_ascii()).as_ref() == digest(expected.expose().as_bytes()).as_ref() {
                return true;
            }
        }
        match &self.policy.incoming {
            IncomingAuth::Bearer(authenticator) => {
                let address = crate::http::client_address::client_address(
                    socket_address,
                    headers,
                    &self.policy.trusted_proxies,
                );
                Box::pin(check_credential(&**authenticator, headers, address)).await.is_ok()
            }
            IncomingAuth::Anonymous | IncomingAuth::Local(_) => false,
        }
    }

    /// The caller on the standard streams of this process. `None` if callers must show a credential, which
    /// stdio cannot carry.
    pub(crate) fn local_caller(&self) -> Option<Caller> {
        match &self.policy.incoming {
            IncomingAuth::Anonymous => Some(Caller::Anonymous),
            IncomingAuth::Local(identity) => Some(Caller::Known(identity.clone())),
            IncomingAuth::Bearer(_) => None,
        }
    }
}

async fn check_credential(
    authenticator: &dyn Authenticator,
    headers: &HeaderMap,
    address: IpAddr,
) -> Result<Authentication, Unauthorized> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = match (values.next(), values.next()) {
        // Two components could each read a different one of two headers, so both are rejected.
        (Some(_), Some(_)) => return Err(Unauthorized::Malformed),
        (first, _) => first.map(HeaderValue::as_bytes),
    };
    let authenticated = authenticator.authenticate(authorization, Some(accounting_address(address)));
    tokio::time::timeout(AUTHENTICATION_TIMEOUT, authenticated)
        .await
        .unwrap_or(Err(Unauthorized::Unavailable))
}

/// The error code for the client (RFC 6750 section 3.1); `None` if the fault is not the client's.
fn error_code(fault: &Unauthorized) -> Option<&'static str> {
    match fault {
        Unauthorized::Missing | Unauthorized::Malformed => Some("invalid_request"),
        Unauthorized::InvalidToken(_) => Some("invalid_token"),
        Unauthorized::InsufficientScope { .. } => Some("insufficient_scope"),
        Unauthorized::Unavailable => None,
    }
}

/// One sentence for the client. It distinguishes only the cases that the client can act on.
fn error_description(fault: &Unauthorized) -> &'static str {
    match fault {
        Unauthorized::Missing => "an access token is required",
        Unauthorized::Malformed => "the Authorization header must be one bearer token",
        Unauthorized::InvalidToken(InvalidTokenReason::Expired) => "the access token has expired",
        Unauthorized::InvalidToken(_) => "the access token is not valid here",
        Unauthorized::InsufficientScope { .. } => "the access token does not have a required scope",
        Unauthorized::Unavailable => "authentication service temporarily unavailable",
    }
}

/// The response to a request without an accepted credential: 401, 403 or 503.
fn unauthorized_response(fault: &Unauthorized, challenge: &Challenge) -> Response<ResponseBody> {
    tracing::debug!(class = fault.class(), "a caller was not recognised");
    let status = match fault {
        Unauthorized::Missing | Unauthorized::Malformed | Unauthorized::InvalidToken(_) => {
            StatusCode::UNAUTHORIZED
        }
        Unauthorized::InsufficientScope { .. } => StatusCode::FORBIDDEN,
        Unauthorized::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    let (kind, body) = match error_code(fault) {
        Some(code) => {
            let members = [("error", code), ("error_description", error_description(fault))];
            ("application/json", text_members(&members).to_json().as_str().to_owned())
        }
        None => ("text/plain; charset=utf-8", error_description(fault).to_owned()),
    };
    let mut response = Response::new(ResponseBody::whole(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match error_code(fault) {
        Some(code) => {
            let value = HeaderValue::try_from(www_authenticate(fault, code, challenge));
            let value = value.unwrap_or(HeaderValue::from_static("Bearer"));
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        None => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
    }
    response
}

/// The value of `WWW-Authenticate` (RFC 6750 section 3).
fn www_authenticate(fault: &Unauthorized, code: &str, challenge: &Challenge) -> String {
    let scopes = match fault {
        Unauthorized::InsufficientScope { required } => required,
        Unauthorized::Missing
        | Unauthorized::Malformed
        | Unauthorized::InvalidToken(_)
        | Unauthorized::Unavailable => &*challenge.scopes,
    };
    let metadata = challenge.resource.as_ref().map(|resource| metadata_url(&resource.resource));
    let scopes = (!scopes.is_empty()).then(|| scopes.join(" "));
    let parameters = [
        ("realm", Some(challenge.realm.clone())),
        ("resource_metadata", metadata),
        ("scope", scopes),
        ("error", Some(code.to_owned())),
        ("error_description", Some(error_description(fault).to_owned())),
    ];
    let written: Vec<String> = parameters
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}=\"{}\"", escape_quoted(&value?))))
        .collect();
    format!("Bearer {}", written.join(", "))
}

/// Escapes the content of a quoted string (RFC 9110 section 5.6.4).
fn escape_quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The URL of the metadata of `resource`: the well-known path is inserted between host and path.
fn metadata_url(resource: &str) -> String {
    let (origin, path) = split_origin(resource);
    format!("{origin}{METADATA_PATH}{path}")
}

/// Splits a URL into its origin and its path without a trailing slash.
fn split_origin(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |index| index + 3);
    let path = url.get(host..).and_then(|rest| rest.find('/')).map_or(url.len(), |index| host + index);
    let (origin, path) = url.split_at(path);
    (origin, path.trim_end_matches('/'))
}

/// Serves the metadata document, without authentication. It is found at the well-known root, under the path
/// of the local endpoint, and under the path of the resource's public URL.
pub(crate) fn metadata_response(edge: &EdgeState, path: &str, method: &Method) -> Response<ResponseBody> {
    let resource = match &edge.policy.incoming {
        IncomingAuth::Anonymous | IncomingAuth::Local(_) => None,
        IncomingAuth::Bearer(authenticator) => authenticator.challenge().resource.as_ref(),
    };
    let requested_path = path.strip_prefix(METADATA_PATH).unwrap_or_default().trim_end_matches('/');
    let own = edge.policy.path.trim_end_matches('/');
    let found = resource.filter(|resource| {
        requested_path.is_empty()
            || requested_path == own
            || requested_path == split_origin(&resource.resource).1
    });
    let (status, members) = match found {
        Some(resource) => (StatusCode::OK, metadata_document(resource)),
        None => {
            let text = "no protected resource is described here";
            (StatusCode::NOT_FOUND, text_members(&[("error", "not_found"), ("error_description", text)]))
        }
    };
    let body = members.to_json().as_str().to_owned().into();
    admin::respond(AdminPage { status: status.as_u16(), content_type: "application/json", body }, method)
}

/// The metadata document (RFC 9728 section 2).
fn metadata_document(resource: &ProtectedResource) -> Members {
    let list = |texts: &[String]| Json::encode(texts).unwrap_or_else(|_| Json::empty_object());
    let mut members = text_members(&[("resource", &resource.resource)]);
    members.insert("authorization_servers", list(&resource.authorization_servers));
    members.insert("bearer_methods_supported", list(&["header".to_owned()]));
    if !resource.scopes.is_empty() {
        members.insert("scopes_supported", list(&resource.scopes));
    }
    if let Some(name) = &resource.name {
        members.insert("resource_name", Json::string(name));
    }
    members
}

fn text_members(pairs: &[(&str, &str)]) -> Members {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Json::string(value))).collect()
}

#[cfg(test)]
mod tests;
