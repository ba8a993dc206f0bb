//! Pages for operators: their content is the gateway's, how they are served and to whom is here. The client listener
//! serves some of them; the admin listener, which is not for clients, serves all.

mod listener;

use std::net::IpAddr;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header};
use vmcp_domain::BoxFuture;

use crate::http::body::ResponseBody;

pub use listener::AdminListener;

/// One page, ready to be sent.
#[derive(Clone, Debug)]
pub struct AdminPage {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// Who asks for a page. Each may see at least what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessLevel {
    /// Anyone who reaches the client listener.
    Anyone,
    /// A caller with a credential, or a collector of metrics with the scrape key, at the client listener.
    Credential,
    /// A process of this machine at the client listener, without a proxy in between.
    Local,
    /// Whoever reaches the admin listener.
    Operator,
}

/// The pages under the paths beside the MCP endpoint (`/health`, `/readyz`, `/status`, …).
///
/// Asked on the request's own task, so it must not block.
pub trait AdminPages: Send + Sync {
    /// The page under `path`, if there is one. What `reader` may not see is a page that says so. `accept` is what the request
    /// says of content types, empty where it says nothing.
    fn page(&self, path: &str, reader: AccessLevel, accept: &str) -> Option<AdminPage>;

    /// What comes of a request at the admin listener that changes something; `None` where there is no such request.
    /// `token` is the bearer token that it carries.
    fn handle_post<'a>(
        &'a self,
        path: &'a str,
        token: Option<&'a str>,
        body: Bytes,
    ) -> BoxFuture<'a, Option<AdminPage>>;
}

/// What a request says of content types, as far as it is text.
fn accept_header(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(",")
}

/// The page that a request asks for, if there is one.
pub(crate) fn page_for(
    pages: &dyn AdminPages,
    path: &str,
    headers: &HeaderMap,
    reader: AccessLevel,
) -> Option<AdminPage> {
    pages.page(path, reader, &accept_header(headers))
}

/// Headers by which proxies say that they stand in between.
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

/// True for a request from this machine that no proxy has passed on: the peer is a loopback address, no header speaks of
/// forwarding, and the host that is asked for is this machine's.
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

/// The response that carries `page`.
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
