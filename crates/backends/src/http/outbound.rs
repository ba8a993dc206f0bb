//! One request towards a backend, before it is sent.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri};

use crate::call_hold::SentFlag;

/// One outgoing HTTP request.
#[derive(Clone, Debug)]
pub(crate) struct OutboundRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    /// Headers of every request of this kind. They override `headers`.
    pub(crate) base_headers: Arc<HeaderMap>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Set as soon as the backend may have received any part of the request.
    pub(crate) sent_flag: SentFlag,
}

impl OutboundRequest {
    /// The value of a header; `base_headers` take precedence.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.base_headers.get(name).or_else(|| self.headers.get(name))
    }

    /// All headers, with `base_headers` overriding `headers`.
    pub(crate) fn merged_headers(&self) -> HeaderMap {
        let mut all = self.headers.clone();
        overwrite_headers(&mut all, &self.base_headers);
        all
    }
}

/// Inserts each header of `more`, and replaces headers of the same name.
pub(crate) fn overwrite_headers(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        headers.insert(name.clone(), value.clone());
    }
}
