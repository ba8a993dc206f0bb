//! One MCP endpoint over HTTP: where messages are posted, and the headers that every request to it carries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, Uri};
use tokio::time::timeout;
use vmcp_domain::ProtocolVersion;
use vmcp_wire::header;

use crate::call_hold::SentFlag;
use crate::failure::Failure;
use crate::http::client::{HttpClient, set_header};
use crate::http::outbound::{OutboundRequest, overwrite_headers};
use crate::http::response_body::ResponseBody;
use crate::http::response_reader::{self, ERROR_BODY_BYTES_MAX};

/// Time-out of a one-way message: an answer to a question, a cancellation, or the end of a session.
pub(crate) const ONE_WAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Without `Accept-Encoding` a server may use any content coding (RFC 9110, section 12.5.3).
const ACCEPT_IDENTITY: (HeaderName, &str) = (ACCEPT_ENCODING, "identity");

/// An endpoint with the prepared headers of each HTTP method.
#[derive(Debug)]
pub(crate) struct Endpoint {
    http: Arc<HttpClient>,
    uri: Uri,
    post_headers: Arc<HeaderMap>,
    get_headers: Arc<HeaderMap>,
    delete_headers: Arc<HeaderMap>,
}

impl Endpoint {
    /// Creates an endpoint. `version` is `None` until it is negotiated; `session` is `None` without a
    /// session.
    pub(crate) fn new(
        http: &Arc<HttpClient>,
        uri: Uri,
        version: Option<ProtocolVersion>,
        session: Option<&HeaderValue>,
    ) -> Self {
        let mut headers = HeaderMap::new();
        // 2025-06-18 introduced the header; earlier servers do not expect it.
        if let Some(version) = version.filter(|version| *version >= ProtocolVersion::V2025_06_18) {
            set_header(&mut headers, header::PROTOCOL_VERSION, version.as_str());
        }
        if let Some(session) = session {
            let mut session = session.clone();
            session.set_sensitive(true);
            headers.insert(header::SESSION_ID, session);
        }
        let merged_with = |own: &[(HeaderName, &'static str)]| {
            let own = own.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            let mut all: HeaderMap = own.collect();
            overwrite_headers(&mut all, &headers);
            overwrite_headers(&mut all, http.headers());
            Arc::new(all)
        };
        let json = "application/json";
        Self {
            post_headers: merged_with(&[
                (CONTENT_TYPE, json),
                (ACCEPT, "application/json, text/event-stream"),
                ACCEPT_IDENTITY,
            ]),
            get_headers: merged_with(&[(ACCEPT, "text/event-stream"), ACCEPT_IDENTITY]),
            delete_headers: merged_with(&[]),
            http: Arc::clone(http),
            uri,
        }
    }

    /// Posts a message. The headers in `extra_headers` belong to this message; they never replace those of the
    /// endpoint.
    pub(crate) async fn post(
        &self,
        message: Bytes,
        extra_headers: HeaderMap,
    ) -> Result<(Response<ResponseBody>, Uri), Failure> {
        self.send((Method::POST, &self.post_headers), extra_headers, message, SentFlag::default()).await
    }

    /// Posts like `post`, and sets `sent_flag` as soon as the backend may have received any part of the message.
    pub(crate) async fn post_tracked(
        &self,
        message: Bytes,
        extra_headers: HeaderMap,
        sent_flag: SentFlag,
    ) -> Result<(Response<ResponseBody>, Uri), Failure> {
        self.send((Method::POST, &self.post_headers), extra_headers, message, sent_flag).await
    }

    /// Posts a message that has no answer. Reads the response to its end, so that the connection returns to
    /// the pool.
    pub(crate) async fn post_one_way(&self, message: Vec<u8>) -> Result<http::StatusCode, Failure> {
        let posting = async {
            let (response, _) = self.post(message.into(), HeaderMap::new()).await?;
            let status = response.status();
            // A server may answer with a stream that never ends; its content does not matter.
            let _ = response_reader::read_whole(response.into_body(), ERROR_BODY_BYTES_MAX).await;
            Ok(status)
        };
        let late = || Failure::indeterminate(crate::failure::FailureClass::Timeout, "no answer in time");
        timeout(ONE_WAY_TIMEOUT, posting).await.map_err(|_| late())?
    }

    /// Opens an event stream. `last_event_id` resumes a stream after that event.
    pub(crate) async fn get(
        &self,
        last_event_id: Option<&str>,
    ) -> Result<(Response<ResponseBody>, Uri), Failure> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            set_header(&mut headers, header::LAST_EVENT_ID, id);
        }
        self.send((Method::GET, &self.get_headers), headers, Bytes::new(), SentFlag::default()).await
    }

    /// Ends the session.
    pub(crate) async fn delete(&self) -> Result<(), Failure> {
        self.send((Method::DELETE, &self.delete_headers), HeaderMap::new(), Bytes::new(), SentFlag::default())
            .await
            .map(drop)
    }

    async fn send(
        &self,
        (method, base_headers): (Method, &Arc<HeaderMap>),
        headers: HeaderMap,
        body: Bytes,
        sent_flag: SentFlag,
    ) -> Result<(Response<ResponseBody>, Uri), Failure> {
        let base_headers = Arc::clone(base_headers);
        self.http
            .send(OutboundRequest { method, uri: self.uri.clone(), base_headers, headers, body, sent_flag })
            .await
    }
}
