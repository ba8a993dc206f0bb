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

use crate::admin::{self, AdminPages, Reader};
use crate::body::EdgeBody;
use crate::cors;
use crate::edge::Edge;
use crate::entrance::{self, Head, METADATA_PATH};
use crate::guard;
use crate::lingering::Lingering;
use crate::observed::{Asked, Observation, RequestObserver};
use crate::post;
use crate::reply::{self, not_allowed};
use crate::session;

/// The methods of the MCP endpoint.
const METHODS: &str = "GET, POST, DELETE";

/// Everything that is answered over HTTP.
pub(crate) struct Site {
    pub(crate) edge: Arc<Edge>,
    pub(crate) extra: Option<Arc<dyn AdminPages>>,
    pub(crate) observer: Option<Arc<dyn RequestObserver>>,
}

impl Site {
    /// True for a request to the MCP endpoint: at its path with a final slash or without, since clients are configured
    /// with either and many do not follow a redirect with a POST, and at `/`, where ToolHive's operator sends clients.
    /// At `/` a GET is for the endpoint only if it asks for events; a browser and a monitor ask for a page.
    fn is_endpoint(&self, parts: &Parts) -> bool {
        let own = self.edge.policy.path.trim_end_matches('/');
        match parts.uri.path() {
            "/" if parts.method == Method::HEAD => false,
            "/" => parts.method != Method::GET || asks_for_events(parts),
            path => path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest == "/"),
        }
    }
}

/// Answers one request that came from `peer`. Whatever goes wrong on the way ends this request only.
pub(crate) async fn serve<B>(
    site: Arc<Site>,
    peer: IpAddr,
    request: Request<B>,
) -> Result<Response<EdgeBody>, Infallible>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let over_http2 = request.version() == Version::HTTP_2;
    let (parts, body) = request.into_parts();
    let body = Lingering::new(body, parts.version, &parts.headers);
    let request = Request::from_parts(parts, body);
    let answered = AssertUnwindSafe(route(&site, peer, request)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        tracing::error!("answering a request panicked");
        reply::refuse(&Refusal::Internal, None)
    });
    Ok(if over_http2 { response.map(|body| body.watched(&site.edge.stalls)) } else { response })
}

async fn route<B: Body<Data = Bytes>>(site: &Site, peer: IpAddr, request: Request<B>) -> Response<EdgeBody> {
    let (parts, body) = request.into_parts();
    let guard = &site.edge.guard;
    if is_metadata(&parts) {
        return public(site, &parts);
    }
    if let Err(refusal) = guard.check(&parts) {
        tracing::debug!(%refusal, "a request was turned away");
        return reply::refuse(&refusal, None);
    }
    if !site.is_endpoint(&parts) {
        return beside(site, &parts, peer).await;
    }
    let origin = cors::origin(&parts.headers);
    // A browser asks without a credential whether it may send one.
    let mut response = if cors::is_preflight(&parts) {
        cors::preflight(&parts, METHODS, &site.edge.policy.passthrough_headers)
    } else {
        observed(site, peer, parts, body).await
    };
    if let Some(origin) = origin {
        cors::share(&mut response, origin);
    }
    response
}

/// Answers at the MCP endpoint, and tells the observer of it.
async fn observed<B: Body<Data = Bytes>>(
    site: &Site,
    peer: IpAddr,
    parts: Parts,
    body: B,
) -> Response<EdgeBody> {
    let Some(observer) = &site.observer else {
        return endpoint(site, peer, parts, body, &mut Asked::default()).await;
    };
    let mut observation = Observation::begin(observer, &parts.method);
    let response = endpoint(site, peer, parts, body, &mut observation.asked).await;
    observation.answered(response.status());
    response.map(|body| body.observed(observation))
}

/// Answers at the MCP endpoint.
async fn endpoint<B: Body<Data = Bytes>>(
    site: &Site,
    peer: IpAddr,
    parts: Parts,
    body: B,
    asked: &mut Asked,
) -> Response<EdgeBody> {
    let head = match site.edge.enter(parts, peer).await {
        Ok(head) => head,
        Err(response) => return response,
    };
    if head.parts.method == Method::POST {
        Box::pin(post::serve(&site.edge, head, body, asked)).await
    } else if head.parts.method == Method::GET {
        get(&site.edge, &head)
    } else if head.parts.method == Method::DELETE {
        if is_stateless(&head.parts) {
            return not_allowed("POST");
        }
        session::delete(&site.edge, &head)
    } else {
        not_allowed(METHODS)
    }
}

fn get(edge: &Arc<Edge>, head: &Head) -> Response<EdgeBody> {
    let parts = &head.parts;
    if !asks_for_events(parts) {
        // The identifier is what the reference answers with, and clients have come to know it.
        let id = Id::from_json(Json::string("server-error"));
        return reply::refuse(&Refusal::NotAcceptable("text/event-stream"), id.as_ref());
    }
    if is_stateless(parts) {
        return not_allowed("POST");
    }
    session::listen(edge, head)
}

fn asks_for_events(parts: &Parts) -> bool {
    parts.headers.contains_key(header::ACCEPT) && guard::accepts(&parts.headers).events
}

/// 2026-07-28 has POST alone.
fn is_stateless(parts: &Parts) -> bool {
    let date = ProtocolVersion::V2026_07_28.as_str();
    matches!(post::date(&parts.headers), Ok(Some(found)) if found == date)
}

fn is_metadata(parts: &Parts) -> bool {
    let described = parts.uri.path().strip_prefix(METADATA_PATH);
    described.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers with the metadata of the protected resource, which clients of every origin have to read before they can
/// present a credential. The host counts all the same.
fn public(site: &Site, parts: &Parts) -> Response<EdgeBody> {
    if let Err(refusal) = site.edge.guard.check_host(parts) {
        return reply::refuse(&refusal, None);
    }
    let mut response = if cors::is_preflight(parts) {
        cors::preflight(parts, "GET", &[])
    } else if reads(parts) {
        entrance::metadata(&site.edge, parts.uri.path(), &parts.method)
    } else {
        not_allowed("GET, HEAD")
    };
    cors::publish(&mut response);
    response
}

fn reads(parts: &Parts) -> bool {
    parts.method == Method::GET || parts.method == Method::HEAD
}

async fn beside(site: &Site, parts: &Parts, peer: IpAddr) -> Response<EdgeBody> {
    let Some(pages) = &site.extra else { return reply::refuse(&Refusal::Path, None) };
    let reader = if admin::is_direct(parts, peer) {
        Reader::Local
    } else if site.edge.shows_credential(&parts.headers, peer).await {
        Reader::Credential
    } else {
        Reader::Anyone
    };
    match admin::page_for(&**pages, parts.uri.path(), &parts.headers, reader) {
        None => reply::refuse(&Refusal::Path, None),
        Some(page) if reads(parts) => admin::respond(page, &parts.method),
        Some(_) => not_allowed("GET, HEAD"),
    }
}
