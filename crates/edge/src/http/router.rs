//! Routes an HTTP request by path and method, after the host and origin checks, and authenticates requests to
//! the MCP endpoint.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body;
use vmcp_domain::ProtocolVersion;
use vmcp_json::Json;
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::server::Refusal;

use crate::admin::{self, AccessLevel, AdminPages};
use crate::http::authentication::{self, AuthenticatedHead, METADATA_PATH};
use crate::http::body::ResponseBody;
use crate::http::body::lingering_body::LingeringBody;
use crate::http::cors;
use crate::http::guard;
use crate::http::post;
use crate::http::request_observer::{ObservedMessage, RequestObservation, RequestObserver};
use crate::http::response::{self, method_not_allowed};
use crate::http::session_requests;
use crate::state::EdgeState;

/// The HTTP methods of the MCP endpoint.
const METHODS: &str = "GET, POST, DELETE";

/// What the client listener serves: the MCP endpoint and the admin pages.
pub(crate) struct Router {
    pub(crate) edge: Arc<EdgeState>,
    pub(crate) admin_pages: Option<Arc<dyn AdminPages>>,
    pub(crate) observer: Option<Arc<dyn RequestObserver>>,
}

impl Router {
    /// True for a request to the MCP endpoint. The path matches with and without a trailing slash, because
    /// clients are configured with either and many do not follow a redirect of a POST. `/` matches too,
    /// because ToolHive's operator sends clients there. At `/`, a GET counts only if it accepts events;
    /// browsers and monitors ask for a page there.
    fn is_endpoint(&self, parts: &Parts) -> bool {
        let own = self.edge.policy.path.trim_end_matches('/');
        match parts.uri.path() {
            "/" if parts.method == Method::HEAD => false,
            "/" => parts.method != Method::GET || accepts_events(parts),
            path => path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest == "/"),
        }
    }
}

/// Serves one request that came from `peer`. A panic ends only this request, with a 500.
pub(crate) async fn serve<B>(
    router: Arc<Router>,
    peer: IpAddr,
    request: Request<B>,
) -> Result<Response<ResponseBody>, Infallible>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let over_http2 = request.version() == Version::HTTP_2;
    let (parts, body) = request.into_parts();
    let body = LingeringBody::new(body, parts.version, &parts.headers);
    let request = Request::from_parts(parts, body);
    let answered = AssertUnwindSafe(route(&router, peer, request)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        tracing::error!("answering a request panicked");
        response::refusal_response(&Refusal::Internal, None)
    });
    Ok(if over_http2 {
        response.map(|body| body.with_stall_guard(&router.edge.stall_guard))
    } else {
        response
    })
}

async fn route<B: Body<Data = Bytes>>(
    router: &Router,
    peer: IpAddr,
    request: Request<B>,
) -> Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    let guard = &router.edge.guard;
    if is_metadata(&parts) {
        return serve_metadata(router, &parts);
    }
    if let Err(refusal) = guard.check(&parts) {
        return refuse_host(router, &parts, &refusal);
    }
    if !router.is_endpoint(&parts) {
        return route_other_paths(router, &parts, peer).await;
    }
    let origin = cors::origin(&parts.headers);
    // A browser sends a preflight without a credential, so it is answered before authentication.
    let mut response = if cors::is_preflight(&parts) {
        cors::preflight(&parts, METHODS, &router.edge.policy.passthrough_headers)
    } else {
        serve_observed(router, peer, parts, body).await
    };
    if let Some(origin) = origin {
        cors::allow_origin(&mut response, origin);
    }
    response
}

/// Refuses a request whose `Host` or `Origin` is not allowed. It is logged and counted, because a gateway
/// behind a proxy refuses every request if the public name is not configured.
fn refuse_host(router: &Router, parts: &Parts, refusal: &Refusal) -> Response<ResponseBody> {
    let header = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    tracing::info!(
        host = header(header::HOST),
        origin = header(header::ORIGIN),
        %refusal,
        "a request was refused; `listen.allowedHosts` and `listen.allowedOrigins` name what is allowed"
    );
    let response = response::refusal_response(refusal, None);
    if let Some(observer) = &router.observer {
        RequestObservation::start(observer, &parts.method).set_status(response.status());
    }
    response
}

/// Serves a request to the MCP endpoint, under observation if there is an observer.
async fn serve_observed<B: Body<Data = Bytes>>(
    router: &Router,
    peer: IpAddr,
    parts: Parts,
    body: B,
) -> Response<ResponseBody> {
    let Some(observer) = &router.observer else {
        return serve_endpoint(router, peer, parts, body, &mut ObservedMessage::default()).await;
    };
    let mut observation = RequestObservation::start(observer, &parts.method);
    let response = serve_endpoint(router, peer, parts, body, &mut observation.message).await;
    observation.set_status(response.status());
    response.map(|body| body.with_observation(observation))
}

/// Authenticates a request to the MCP endpoint and routes it by method.
async fn serve_endpoint<B: Body<Data = Bytes>>(
    router: &Router,
    peer: IpAddr,
    parts: Parts,
    body: B,
    observed: &mut ObservedMessage,
) -> Response<ResponseBody> {
    let head = match router.edge.authenticate(parts, peer).await {
        Ok(head) => head,
        Err(response) => return response,
    };
    if head.parts.method == Method::POST {
        Box::pin(post::serve(&router.edge, head, body, observed)).await
    } else if head.parts.method == Method::GET {
        serve_get(&router.edge, &head)
    } else if head.parts.method == Method::DELETE {
        if is_stateless(&head.parts) {
            return method_not_allowed("POST");
        }
        session_requests::close_session(&router.edge, &head)
    } else {
        method_not_allowed(METHODS)
    }
}

fn serve_get(edge: &Arc<EdgeState>, head: &AuthenticatedHead) -> Response<ResponseBody> {
    let parts = &head.parts;
    if !accepts_events(parts) {
        // The reference implementation answers with this identifier, and clients depend on it.
        let id = Id::from_json(Json::string("server-error"));
        return response::refusal_response(&Refusal::NotAcceptable("text/event-stream"), id.as_ref());
    }
    if is_stateless(parts) {
        return method_not_allowed("POST");
    }
    session_requests::open_standalone_stream(edge, head)
}

fn accepts_events(parts: &Parts) -> bool {
    parts.headers.contains_key(header::ACCEPT) && guard::parse_accept(&parts.headers).events
}

/// True for 2026-07-28, which has no methods other than POST.
fn is_stateless(parts: &Parts) -> bool {
    let date = ProtocolVersion::V2026_07_28.as_str();
    matches!(post::protocol_version(&parts.headers), Ok(Some(found)) if found == date)
}

fn is_metadata(parts: &Parts) -> bool {
    let described = parts.uri.path().strip_prefix(METADATA_PATH);
    described.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Serves the metadata of the protected resource. Clients of every origin must read it before they can
/// present a credential, so `Origin` is not checked. `Host` is checked.
fn serve_metadata(router: &Router, parts: &Parts) -> Response<ResponseBody> {
    if let Err(refusal) = router.edge.guard.check_host(parts) {
        return refuse_host(router, parts, &refusal);
    }
    let mut response = if cors::is_preflight(parts) {
        cors::preflight(parts, "GET", &[])
    } else if is_read_request(parts) {
        authentication::metadata_response(&router.edge, parts.uri.path(), &parts.method)
    } else {
        method_not_allowed("GET, HEAD")
    };
    cors::allow_any_origin(&mut response);
    response
}

fn is_read_request(parts: &Parts) -> bool {
    parts.method == Method::GET || parts.method == Method::HEAD
}

async fn route_other_paths(router: &Router, parts: &Parts, peer: IpAddr) -> Response<ResponseBody> {
    let Some(pages) = &router.admin_pages else {
        return response::refusal_response(&Refusal::NotFound, None);
    };
    let access = if admin::is_direct(parts, peer) {
        AccessLevel::Local
    } else if router.edge.has_credential(&parts.headers, peer).await {
        AccessLevel::Credential
    } else {
        AccessLevel::Anyone
    };
    match admin::page_for(&**pages, parts.uri.path(), &parts.headers, access) {
        None => response::refusal_response(&Refusal::NotFound, None),
        Some(page) if is_read_request(parts) => admin::respond(page, &parts.method),
        Some(_) => method_not_allowed("GET, HEAD"),
    }
}
