//! What a request consists of.

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

/// A request.
#[derive(Clone, Copy)]
pub struct Http1Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// The absolute address.
    pub uri: &'a Uri,
    /// The headers. The first map overrides the second one. The client sets `content-length`, and `host` if it
    /// is in neither map.
    pub headers: [&'a HeaderMap; 2],
    /// The body; a `POST` has a body even if it is empty.
    pub body: &'a Bytes,
    /// Called as soon as the server may have received any part of the request.
    pub on_sent: &'a (dyn Fn() + Sync),
}
