//! From an HTTP request to the part of the edge that answers it: guards, paths and methods.

use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{Method, Request, Response, Version, header};
use http_body::Body;
use vmcp_domain::{Json, ProtocolVersion};
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
use crate::sessions;
use crate::state::EdgeState;

/// The methods of the MCP endpoint.
const METHODS: &str = "GET, POST, DELETE";

/// Everything that is answered over HTTP.
pub(crate) struct Router {
    pub(crate) edge: Arc<EdgeState>,
    pub(crate) admin_pages: Option<Arc<dyn AdminPages>>,
    pub(crate) observer: Option<Arc<dyn RequestObserver>>,
}

impl Router {
    /// True for a request to the MCP endpoint: at its path with a final slash or without, since clients are configured
    /// with either and many do not follow a redirect with a POST, and at `/`, where ToolHive's operator sends clients.
    /// At `/` a GET is for the endpoint only if it asks for events; a browser and a monitor ask for a page.
    fn is_endpoint(&self, parts: &Parts) -> bool {
        let own = self.edge.policy.path.trim_end_matches('/');
        match parts.uri.path() {
            "/" if parts.method == Method::HEAD => false,
            "/" => parts.method != Method::GET || accepts_events(parts),
            path => path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest == "/"),
        }
    }
}

/// Answers one request that came from `peer`. Whatever goes wrong on the way ends this request only.
pub(crate) async fn serve<B>(
    site: Arc<Router>,
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
    let answered = AssertUnwindSafe(route(&site, peer, request)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        tracing::error!("answering a request panicked");
        response::refusal_response(&Refusal::Internal, None)
    });
    Ok(if over_http2 { response.map(|body| body.with_stall_guard(&site.edge.stall_guard)) } else { response })
}

async fn route<B: Body<Data = Bytes>>(
    site: &Router,
    peer: IpAddr,
    request: Request<B>,
) -> Response<ResponseBody> {
    let (parts, body) = request.into_parts();
    let guard = &site.edge.guard;
    if is_metadata(&parts) {
        return serve_metadata(site, &parts);
    }
    if let Err(refusal) = guard.check(&parts) {
        tracing::debug!(%refusal, "a request was turned away");
        return response::refusal_response(&refusal, None);
    }
    if !site.is_endpoint(&parts) {
        return route_other_paths(site, &parts, peer).await;
    }
    let origin = cors::origin(&parts.headers);
    // A browser asks without a credential whether it may send one.
    let mut response = if cors::is_preflight(&parts) {
        cors::preflight(&parts, METHODS, &site.edge.policy.passthrough_headers)
    } else {
        serve_observed(site, peer, parts, body).await
    };
    if let Some(origin) = origin {
        cors::allow_origin(&mut response, origin);
    }
    response
}

/// Answers at the MCP endpoint, and tells the observer of it.
async fn serve_observed<B: Body<Data = Bytes>>(
    site: &Router,
    peer: IpAddr,
    parts: Parts,
    body: B,
) -> Response<ResponseBody> {
    let Some(observer) = &site.observer else {
        return serve_endpoint(site, peer, parts, body, &mut ObservedMessage::default()).await;
    };
    let mut observation = RequestObservation::start(observer, &parts.method);
    let response = serve_endpoint(site, peer, parts, body, &mut observation.message).await;
    observation.set_status(response.status());
    response.map(|body| body.with_observation(observation))
}

/// Answers at the MCP endpoint.
async fn serve_endpoint<B: Body<Data = Bytes>>(
    site: &Router,
    peer: IpAddr,
    parts: Parts,
    body: B,
    asked: &mut ObservedMessage,
) -> Response<ResponseBody> {
    let head = match site.edge.authenticate(parts, peer).await {
        Ok(head) => head,
        Err(response) => return response,
    };
    if head.parts.method == Method::POST {
        Box::pin(post::serve(&site.edge, head, body, asked)).await
    } else if head.parts.method == Method::GET {
        serve_get(&site.edge, &head)
    } else if head.parts.method == Method::DELETE {
        if is_stateless(&head.parts) {
            return method_not_allowed("POST");
        }
        sessions::close_session(&site.edge, &head)
    } else {
        method_not_allowed(METHODS)
    }
}

fn serve_get(edge: &Arc<EdgeState>, head: &AuthenticatedHead) -> Response<ResponseBody> {
    let parts = &head.parts;
    if !accepts_events(parts) {
        // The identifier is what the reference answers with, and clients have come to know it.
        let id = Id::from_json(Json::string("server-error"));
        return response::refusal_response(&Refusal::NotAcceptable("text/event-stream"), id.as_ref());
    }
    if is_stateless(parts) {
        return method_not_allowed("POST");
    }
    sessions::open_standalone_stream(edge, head)
}

fn accepts_events(parts: &Parts) -> bool {
    parts.headers.contains_key(header::ACCEPT) && guard::parse_accept(&parts.headers).events
}

/// 2026-07-28 has POST alone.
fn is_stateless(parts: &Parts) -> bool {
    let date = ProtocolVersion::V2026_07_28.as_str();
    matches!(post::protocol_version(&parts.headers), Ok(Some(found)) if found == date)
}

fn is_metadata(parts: &Parts) -> bool {
    let described = parts.uri.path().strip_prefix(METADATA_PATH);
    described.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers with the metadata of the protected resource, which clients of every origin have to read before they can
/// present a credential. The host counts all the same.
fn serve_metadata(site: &Router, parts: &Parts) -> Response<ResponseBody> {
    if let Err(refusal) = site.edge.guard.check_host(parts) {
        return response::refusal_response(&refusal, None);
    }
    let mut response = if cors::is_preflight(parts) {
        cors::preflight(parts, "GET", &[])
    } else if is_read_request(parts) {
        authentication::metadata_response(&site.edge, parts.uri.path(), &parts.method)
    } else {
        method_not_allowed("GET, HEAD")
    };
    cors::allow_any_origin(&mut response);
    response
}

fn is_read_request(parts: &Parts) -> bool {
    parts.method == Method::GET || parts.method == Method::HEAD
}

async fn route_other_paths(site: &Router, parts: &Parts, peer: IpAddr) -> Response<ResponseBody> {
    let Some(pages) = &site.admin_pages else { return response::refusal_response(&Refusal::NotFound, None) };
    let reader = if admin::is_direct(parts, peer) {
        AccessLevel::Local
    } else if site.edge.has_credential(&parts.headers, peer).await {
        AccessLevel::Credential
    } else {
        AccessLevel::Anyone
    };
    match admin::page_for(&**pages, parts.uri.path(), &parts.headers, reader) {
        None => response::refusal_response(&Refusal::NotFound, None),
        Some(page) if is_read_request(parts) => admin::respond(page, &parts.method),
        Some(_) => method_not_allowed("GET, HEAD"),
    }
}
