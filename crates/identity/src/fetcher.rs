//! The HTTP client for the issuer's documents. Requests are limited in time and size and go to allowed
//! addresses only. Redirects are not followed. Other modules interpret the documents.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use vmcp_json::Json;

use crate::ssrf_guard::{AddressError, AddressPolicy, GuardedResolver};

/// The time-out of one exchange, from connecting to the last byte.
pub(crate) const EXCHANGE_MAX: Duration = Duration::from_secs(5);
/// The largest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// The idle time-out of a pooled connection. It is shorter than that of common servers.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Why there is no document. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    ForbiddenAddress(#[from] AddressError),
    #[error("no connection: {0}")]
    Connection(String),
    #[error("no answer within {EXCHANGE_MAX:?}")]
    Timeout,
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("its answer is broken or larger than {DOCUMENT_BYTES_MAX} bytes")]
    Body,
    #[error("its answer is not a JSON object")]
    NotJson,
    #[error("its answer does not fit: {0}")]
    Invalid(&'static str),
}

/// A form to post, and the `Authorization` header for it.
pub(crate) struct Form {
    pub(crate) body: String,
    pub(crate) authorization: Option<HeaderValue>,
}

/// The HTTP client for one issuer.
pub(crate) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector<GuardedResolver>>, Full<Bytes>>,
    address_policy: AddressPolicy,
}

impl Fetcher {
    /// Builds a client without open connections.
    pub(crate) fn new(tls: rustls::ClientConfig, address_policy: AddressPolicy) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(GuardedResolver::new(address_policy));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(EXCHANGE_MAX));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(8)
            .build(connector);
        Self { client, address_policy }
    }

    /// Fetches the JSON object at `uri`.
    pub(crate) async fn get(&self, uri: &Uri) -> Result<Json, FetchError> {
        self.exchange(uri, Request::get(uri), Bytes::new()).await
    }

    /// Posts `form` and returns the JSON object of the response.
    pub(crate) async fn post(&self, uri: &Uri, form: Form) -> Result<Json, FetchError> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = form.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.exchange(uri, request, form.body.into()).await
    }

    async fn exchange(
        &self,
        uri: &Uri,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<Json, FetchError> {
        // A literal address needs no resolving, so the resolver would not check it.
        self.address_policy.check_host(uri.host().unwrap_or_default())?;
        let request = request
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "vmcp")
            .body(Full::new(body))
            .map_err(|error| FetchError::Connection(error.to_string()))?;
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| FetchError::Connection(error_chain(&error)))?;
            let (head, body) = response.into_parts();
            if head.status != StatusCode::OK {
                return Err(FetchError::Status(head.status));
            }
            let body = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await;
            Ok(body.map_err(|_| FetchError::Body)?.to_bytes())
        };
        let bytes = tokio::time::timeout(EXCHANGE_MAX, exchange).await.map_err(|_| FetchError::Timeout)??;
        let text = ByteString::try_from(bytes).map_err(|_| FetchError::NotJson)?;
        let json = Json::parse(text).map_err(|_| FetchError::NotJson)?;
        if json.is_object() { Ok(json) } else { Err(FetchError::NotJson) }
    }
}

/// The error with its causes; the outermost error of this client says little.
fn error_chain(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
