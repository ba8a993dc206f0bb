//! CORS responses for browsers (Fetch Standard, "CORS protocol"): which origins may read an answer and which
//! headers they may send. `guard` decides earlier whether an origin may call at all.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::http::body::ResponseBody;
use crate::http::response;

/// Headers that an MCP client sends, other than those that begin with [`PROTOCOL_PREFIX`].
const REQUEST_HEADERS: [&str; 7] =
    ["accept", "authorization", "baggage", "content-type", "last-event-id", "traceparent", "tracestate"];
/// The prefix of the protocol's own headers: session, version, method, name and mirrored arguments.
const PROTOCOL_PREFIX: &str = "mcp-";
/// Response headers that a client must read and that browsers hide by default.
const EXPOSED_HEADERS: &str = "Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Retry-After";
/// How long a browser may cache a preflight response, in seconds.
const MAX_AGE_SECONDS: &str = "7200";
/// A preflight with this header asks for access to a server on a private network (Private Network Access).
const REQUEST_PRIVATE_NETWORK: &str = "access-control-request-private-network";
const ALLOW_PRIVATE_NETWORK: &str = "access-control-allow-private-network";

/// The `Origin` of a request; `None` if it has none or more than one.
pub(crate) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut named = headers.get_all(header::ORIGIN).iter();
    let origin = named.next().cloned();
    origin.filter(|_| named.next().is_none())
}

/// True for a CORS preflight request.
pub(crate) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(header::ORIGIN)
        && parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to a preflight. `methods` are the methods of the path. `extra_headers` are further request headers
/// that clients may send, in lower case.
pub(crate) fn preflight(
    parts: &Parts,
    methods: &'static str,
    extra_headers: &[String],
) -> Response<ResponseBody> {
    let mut response = response::empty_response(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
    if let Some(allowed) = allowed_headers(&parts.headers, extra_headers) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    if parts.headers.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(HeaderName::from_static(ALLOW_PRIVATE_NETWORK), HeaderValue::from_static("true"));
    }
    const PREFLIGHT_VARY: &str = "access-control-request-method, access-control-request-headers";
    headers.insert(header::VARY, HeaderValue::from_static(PREFLIGHT_VARY));
    response
}

/// The requested headers that are allowed; `None` if none are.
fn allowed_headers(requested: &HeaderMap, extra_headers: &[String]) -> Option<HeaderValue> {
    let requested = requested.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = requested.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let names: Vec<String> = names
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| {
            name.starts_with(PROTOCOL_PREFIX)
                || REQUEST_HEADERS.contains(&name.as_str())
                || extra_headers.contains(name)
        })
        .collect();
    HeaderValue::from_str(&names.join(", ")).ok().filter(|_| !names.is_empty())
}

/// Allows pages of `origin` to read the response.
pub(crate) fn allow_origin(response: &mut Response<ResponseBody>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// Allows pages of every origin to read the response. For public documents only.
pub(crate) fn allow_any_origin(response: &mut Response<ResponseBody>) {
    let any = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
}
