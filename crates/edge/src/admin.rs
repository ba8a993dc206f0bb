//! Pages for operators beside the MCP endpoint: their content is the gateway's, how they are served is here.

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};

use crate::body::EdgeBody;

/// One page, ready to be sent.
#[derive(Clone, Debug)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// What stands under the paths beside the MCP endpoint (`/health`, `/readyz`, `/status`, …).
///
/// Asked on the request's own task, so it must not block.
pub trait AdminPages: Send + Sync {
    /// The page under `path`, if there is one.
    fn page(&self, path: &str) -> Option<Page>;
}

/// The response that carries `page`.
pub(crate) fn respond(page: Page, method: &Method) -> Response<EdgeBody> {
    let length = page.body.len();
    let body = if *method == Method::HEAD { EdgeBody::empty() } else { EdgeBody::whole(page.body) };
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
