//! The HTTP client for the issuer's documents. Requests are limited in time and size and go to allowed
//! addresses only. Redirects are not followed. Other modules interpret the documents.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use vmcp_http_client::{
    AddressPolicy, ClientSettings, HttpClient, IDLE_TIMEOUT, RequestError, RuntimeExecutor, TlsError, Trust,
    read_body,
};
use vmcp_json::Json;

/// The time-out of one exchange, from connecting to the last byte.
pub(crate) const EXCHANGE_MAX: Duration = Duration::from_secs(5);
/// The largest document, in bytes.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;

/// Why there is no document. The text is for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer: {0}")]
    Request(#[from] RequestError),
    #[error("the request cannot be built: {0}")]
    Unbuildable(#[from] http::Error),
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
    client: HttpClient,
}

impl Fetcher {
    /// Builds a client without open connections.
    pub(crate) fn new(trust: Trust, address_policy: AddressPolicy) -> Result<Self, TlsError> {
        let settings = ClientSettings {
            trust,
            addresses: address_policy,
            connect_timeout: EXCHANGE_MAX,
            idle_max: 8,
            idle_timeout: IDLE_TIMEOUT,
        };
        Ok(Self { client: HttpClient::new(&settings, RuntimeExecutor::of_caller())? })
    }

    /// Fetches the JSON object at `uri`.
    pub(crate) async fn get(&self, uri: &Uri) -> Result<Json, FetchError> {
        self.exchange(Request::get(uri), Bytes::new()).await
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
        self.exchange(request, form.body.into()).await
    }

    async fn exchange(&self, request: http::request::Builder, body: Bytes) -> Result<Json, FetchError> {
        let request = request.header(ACCEPT, "application/json").body(body)?;
        let exchange = async {
            let (head, body) = self.client.send(request).await?.into_parts();
            if head.status != StatusCode::OK {
                return Err(FetchError::Status(head.status));
            }
            read_body(body, DOCUMENT_BYTES_MAX).await.ok().flatten().ok_or(FetchError::Body)
        };
        let bytes = tokio::time::timeout(EXCHANGE_MAX, exchange).await.map_err(|_| FetchError::Timeout)??;
        let text = ByteString::try_from(bytes).map_err(|_| FetchError::NotJson)?;
        let json = Json::parse(text).map_err(|_| FetchError::NotJson)?;
        if json.is_object() { Ok(json) } else { Err(FetchError::NotJson) }
    }
}
