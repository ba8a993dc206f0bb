//! HTTP pages for operators: access levels and how a page is served. The gateway supplies the content through
//! [`AdminPages`]. The client listener serves some pages; the admin listener, which is not for clients,
//! serves all.

mod listener;

use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header};
use vmcp_domain::BoxFuture;

use crate::http::body::ResponseBody;

pub use listener::AdminListener;

/// One page: the status, the content type and the body of an HTTP response.
#[derive(Clone, Debug)]
pub struct AdminPage {
    /// The HTTP status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The response body, not encoded.
    pub body: Bytes,
}

/// What the requester of a page has proven. The order matters: each level may see at least what the levels
/// before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessLevel {
    /// Any peer that reaches the client listener.
    Anyone,
    /// A peer of the client listener that shows a caller's credential or the scrape key of a metrics
    /// collector.
    Credential,
    /// A process on this machine that reaches the client listener without a proxy in between.
    Local,
    /// Any peer that reaches the admin listener.
    Operator,
}

/// The pages at paths other than the MCP endpoint (`/health`, `/readyz`, `/status`, …).
///
/// The methods run on the task of the request, so an implementation must not block.
pub trait AdminPages: Send + Sync {
    /// The page at `path`, or `None` if there is none. If `reader` may not see the page, the returned page
    /// says so. `accept` is the request's `Accept` header, empty if the header is absent.
    fn page(&self, path: &str, reader: AccessLevel, accept: &str) -> Option<AdminPage>;

    /// The result of a POST at the admin listener; `None` if no action exists at `path`. `token` is the
    /// bearer token of the request.
    fn handle_post<'a>(
        &'a self,
        path: &'a str,
        token: Option<&'a str>,
        body: Bytes,
    ) -> BoxFuture<'a, Option<AdminPage>>;
}

/// The `Accept` headers of a request, joined with commas. Values that are not text are left out.
fn accept_header(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// The page that a request asks for, or `None` if there is none.
pub(crate) fn page_for(
    pages: &dyn AdminPages,
    path: &str,
    headers: &HeaderMap,
    access: AccessLevel,
) -> Option<AdminPage> {
    pages.page(path, access, &accept_header(headers))
}

/// Headers that a proxy adds to a request it forwards. Headers that begin with `x-forwarded-` are checked
/// separately.
const PROXY_HEADERS: [&str; 8] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
];

/// True if the request comes from this machine and no proxy forwarded it. The peer must be a loopback
/// address, no header may indicate forwarding, and the requested host must be a loopback name.
pub(crate) fn is_direct(parts: &Parts, peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
        && !is_forwarded(&parts.headers)
        && crate::http::guard::is_for_loopback(&parts.headers, &parts.uri)
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || PROXY_HEADERS.contains(&name)
    })
}

/// The response for `page`. A response to HEAD has the length of the body but no body.
pub(crate) fn respond(page: AdminPage, method: &Method) -> Response<ResponseBody> {
    let length = page.body.len();
    let body = if *method == Method::HEAD { ResponseBody::empty() } else { ResponseBody::whole(page.body) };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(page.content_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    if *method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, http::HeaderValue::from(length));
    }
    response
}
