//! The HTTP client of one backend: connection pool, the configured headers on every request, redirects on the
//! same origin only. The transports interpret the messages.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use tokio::runtime::Handle;
use vmcp_credentials::CredentialHeaders;
use vmcp_http_client::{
    AddressPolicy, ClientSettings, ConnectFault, IDLE_TIMEOUT, IDLE_TIMEOUT_TLS, RequestError,
    RuntimeExecutor, Trust, is_forwardable_header,
};
use vmcp_http1::{Http1Client, Http1Request};

use crate::failure::{Failure, FailureClass};
use crate::http::content_coding;
use crate::http::outbound::OutboundRequest;
use crate::http::redirect::{self, REDIRECTS_MAX};
use crate::http::request_credentials::RequestCredentials;
use crate::http::response_body::ResponseBody;
use crate::policy::{HttpPolicy, Secret};

/// Maximum number of idle connections in the pool of one backend.
const IDLE_MAX: usize = 256;

/// The HTTP client of one backend.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: vmcp_http_client::HttpClient,
    /// The client for requests without TLS; `None` if the backend's URL is not `http`.
    http1: Option<Http1Client>,
    headers: HeaderMap,
    credentials: Option<Arc<RequestCredentials>>,
}

impl HttpClient {
    /// Creates the client of one backend without connecting.
    pub(crate) fn new(
        policy: &HttpPolicy,
        headers: &[(String, Secret)],
        bearing: Option<Arc<RequestCredentials>>,
        connect_wait: Duration,
        user_agent: &str,
    ) -> Result<Self, Failure> {
        let secure = policy.url.scheme_str() == Some("https");
        let settings = ClientSettings {
            // Without TLS no authority is needed: redirects never change the scheme.
            trust: if secure { Trust::bundle_or_system(policy.ca_bundle.as_deref()) } else { Trust::Nothing },
            addresses: AddressPolicy::Anywhere,
            connect_timeout: connect_wait,
            idle_max: IDLE_MAX,
            idle_timeout: if secure { IDLE_TIMEOUT_TLS } else { IDLE_TIMEOUT },
        };
        let http1 =
            Http1Client::new(&policy.url, settings.tcp_connector(), settings.idle_timeout, is_message);
        // Many threads share the connections. On the runtime of their first caller, a thread that is busy with
        // one call would delay the calls of all others.
        let client = vmcp_http_client::HttpClient::new(&settings, RuntimeExecutor::on(Handle::current()))
            .map_err(|error| Failure::not_sent(FailureClass::Settings, error))?;
        let mut own = HeaderMap::new();
        set_header(&mut own, "user-agent", user_agent);
        own.extend(parse_configured_headers(headers)?);
        Ok(Self { client, http1, headers: own, credentials: bearing })
    }

    /// The headers that every request must carry: the user agent and the configured headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sends a request and follows redirects on the same origin. Returns the head of the response and the
    /// address that sent it; the body has not been read.
    pub(crate) async fn send(
        &self,
        mut outbound: OutboundRequest,
    ) -> Result<(Response<ResponseBody>, Uri), Failure> {
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send_authorized(&outbound).await?;
            if response.status().is_redirection() && outbound.method == Method::POST {
                reject_method_change(&response)?;
            }
            if !is_redirect_followed(response.status(), &outbound.method) {
                return Ok((content_coding::decode_response(response).await?, outbound.uri));
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| redirect::resolve_same_origin(&outbound.uri, location));
            let Some(target) = target else {
                let place = redirect::redact(location.unwrap_or_default());
                let cause = format!("it redirects to {place}, another origin, which is not followed");
                return Err(Failure::not_sent(FailureClass::Redirect, cause));
            };
            outbound.uri = target;
        }
        Err(Failure::not_sent(FailureClass::Redirect, "too many redirects"))
    }

    /// Sends a request with the credential. If the backend refuses a cached credential, sends it once more
    /// with a new one. That is safe, because a 401 says that nothing was done, and so does AWS's 403 for an
    /// expired credential.
    async fn send_authorized(&self, outbound: &OutboundRequest) -> Result<Response<ResponseBody>, Failure> {
        match &self.credentials {
            None => self.send_once(outbound, None).await,
            Some(bearing) => Box::pin(self.send_with_credentials(bearing, outbound)).await,
        }
    }

    async fn send_with_credentials(
        &self,
        bearing: &RequestCredentials,
        outbound: &OutboundRequest,
    ) -> Result<Response<ResponseBody>, Failure> {
        let applied = bearing.headers_for(outbound).await?;
        let response = self.send_once(outbound, applied.as_ref()).await?;
        let refused = is_credential_refused(response.status(), response.headers());
        if !refused || !applied.is_some_and(|applied| bearing.invalidate(&applied)) {
            return Ok(response);
        }
        let applied = bearing.headers_for(outbound).await?;
        self.send_once(outbound, applied.as_ref()).await
    }

    async fn send_once(
        &self,
        outbound: &OutboundRequest,
        applied: Option<&CredentialHeaders>,
    ) -> Result<Response<ResponseBody>, Failure> {
        if let Some(http1) = self.http1.as_ref().filter(|http1| http1.is_same_origin(&outbound.uri)) {
            return match applied {
                None => send_http1(http1, outbound, [&outbound.base_headers, &outbound.headers]).await,
                Some(applied) => {
                    let mut headers = outbound.merged_headers();
                    applied.apply_to(&mut headers);
                    Box::pin(send_http1(http1, outbound, [&headers, &HeaderMap::new()])).await
                }
            };
        }
        let mut request = http::Request::new(outbound.body.clone());
        *request.method_mut() = outbound.method.clone();
        *request.uri_mut() = outbound.uri.clone();
        *request.headers_mut() = outbound.merged_headers();
        if let Some(applied) = applied {
            applied.apply_to(request.headers_mut());
        }
        // Over TLS the HTTP library does not report when the first byte is sent.
        outbound.sent_flag.set();
        let response = self.client.send(request).await.map_err(request_failure)?;
        Ok(response.map(ResponseBody::from_tls))
    }
}

/// Sends a request without TLS. The first of the header maps overrides the second one.
async fn send_http1(
    client: &Http1Client,
    outbound: &OutboundRequest,
    headers: [&HeaderMap; 2],
) -> Result<Response<ResponseBody>, Failure> {
    let on_sent = || outbound.sent_flag.set();
    let request = Http1Request {
        method: &outbound.method,
        uri: &outbound.uri,
        headers,
        body: &outbound.body,
        on_sent: &on_sent,
    };
    let response = client.send(&request).await.map_err(request_failure)?;
    Ok(response.map(ResponseBody::from_http1))
}

fn request_failure(error: RequestError) -> Failure {
    if error.was_not_sent() {
        let fault = error.connect_fault().unwrap_or(ConnectFault::Other);
        Failure::not_sent(FailureClass::Connect(fault), error)
    } else {
        Failure::indeterminate(FailureClass::Exited, error)
    }
}

/// True for a response that refuses the credential itself, rather than the operation.
fn is_credential_refused(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok());
    match status {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::FORBIDDEN => kind.is_some_and(|kind| kind.starts_with("ExpiredToken")),
        _ => false,
    }
}

/// Refuses a redirect that would turn a POST into a GET, and reports its target: usually a final slash is
/// missing.
fn reject_method_change<B>(response: &Response<B>) -> Result<(), Failure> {
    let status = response.status();
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    match (status, location) {
        (StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER, Some(location)) => {
            let (code, place) = (status.as_u16(), redirect::redact(location));
            let cause =
                format!("it answers {code} and redirects to {place}; write that address as its `url`");
            Err(Failure::not_sent(FailureClass::Redirect, cause))
        }
        _ => Ok(()),
    }
}

/// 307 and 308 keep the method. The others turn a POST into a GET, which would lose the message.
fn is_redirect_followed(status: StatusCode, method: &Method) -> bool {
    match status {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => *method == Method::GET,
        _ => false,
    }
}

fn parse_configured_headers(headers: &[(String, Secret)]) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let name = HeaderName::try_from(name.as_str());
        let value = HeaderValue::try_from(value.expose());
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err(Failure::not_sent(FailureClass::Settings, "a configured header cannot be sent"));
        };
        value.set_sensitive(true);
        map.append(name, value);
    }
    Ok(map)
}

/// The client's headers that the operator chose to pass on, without those that belong to this hop.
pub(crate) fn filter_passthrough_headers(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if !is_forwardable_header(&name) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            map.append(name, value);
        }
    }
    map
}

/// Sets a header of the protocol. Its value is plain text by construction; a value that is not is left out.
pub(crate) fn set_header(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

/// The kind of content of a response, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentKind {
    /// Server-sent events.
    Events,
    /// One message. Every other content type, and a missing one, counts as this.
    Message,
}

/// The kind of content by the response's content type.
pub(crate) fn content_kind<B>(response: &Response<B>) -> ContentKind {
    if media_type(response.headers()).eq_ignore_ascii_case("text/event-stream") {
        ContentKind::Events
    } else {
        ContentKind::Message
    }
}

/// True for a response that is one message, which is needed as a whole.
fn is_message(response: &Response<()>) -> bool {
    content_kind(response) == ContentKind::Message
}

/// The content type, formatted for a message to the operator.
pub(crate) fn describe_content_type(headers: &HeaderMap) -> String {
    match media_type(headers) {
        "" => "no content type".to_owned(),
        kind => {
            let kind: String = kind.chars().filter(char::is_ascii_graphic).take(64).collect();
            format!("content type `{kind}`")
        }
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_hop_headers_are_not_passed_on() {
        let headers = ["authorization", "Cookie", "host", "mcp-session-id", "x-tenant"]
            .map(|name| (name.to_owned(), "v".to_owned()));
        let passed = filter_passthrough_headers(&headers);
        assert_eq!(passed.len(), 1);
        assert_eq!(passed.get("x-tenant").unwrap(), "v");
    }

    #[test]
    fn an_ended_credential_is_told_from_a_refused_call() {
        let told = |status, kind: Option<&'static str>| {
            let headers =
                kind.map(|kind| (HeaderName::from_static("x-amzn-errortype"), kind.parse().unwrap()));
            is_credential_refused(status, &headers.into_iter().collect())
        };
        assert!(told(StatusCode::UNAUTHORIZED, None));
        assert!(told(StatusCode::FORBIDDEN, Some("ExpiredTokenException:http://internal.amazon.com/")));
        assert!(!told(StatusCode::FORBIDDEN, Some("AccessDeniedException")));
        assert!(!told(StatusCode::FORBIDDEN, None));
        assert!(!told(StatusCode::OK, Some("ExpiredToken")));
    }

    #[test]
    fn a_post_is_never_turned_into_a_get() {
        assert!(is_redirect_followed(StatusCode::TEMPORARY_REDIRECT, &Method::POST));
        assert!(!is_redirect_followed(StatusCode::FOUND, &Method::POST));
        assert!(is_redirect_followed(StatusCode::FOUND, &Method::GET));
        assert!(!is_redirect_followed(StatusCode::NOT_MODIFIED, &Method::GET));
    }
}
