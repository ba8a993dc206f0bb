//! Posts one form to a token endpoint and reads the response, within time and size limits.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time;

use crate::error::FetchFailure;
use crate::tls;
use crate::token_url::TokenUrl;

/// The time-out of one request, including the wait for a permit and the response body.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time-out of a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest response body, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The most idle connections per endpoint, and their idle time-out.
const IDLE_MAX: usize = 8;
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// The response of an endpoint.
pub(crate) struct TokenReply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// The HTTP client for all token endpoints.
pub(crate) struct TokenClient {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl TokenClient {
    /// Builds a client without open connections.
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config()?)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let pool = Pool::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Self { pool })
    }

    /// Posts a form. Redirects are not followed, because they would send the caller's token elsewhere.
    pub(crate) async fn post(
        &self,
        url: &TokenUrl,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<TokenReply, FetchFailure> {
        let authority = url.authority();
        let timed_out =
            |_elapsed| FetchFailure::unavailable(authority, format!("no answer within {TIMEOUT:?}"));
        time::timeout(TIMEOUT, self.post_with_permit(url, form, authorization)).await.map_err(timed_out)?
    }

    async fn post_with_permit(
        &self,
        url: &TokenUrl,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<TokenReply, FetchFailure> {
        let authority = url.authority();
        let unavailable =
            |error: &(dyn StdError + 'static)| FetchFailure::unavailable(authority, error_chain(error));
        let _permit = url.request_permits().acquire().await.map_err(|error| unavailable(&error))?;
        let mut request = http::Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(url.uri());
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vmcp/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let response = self.pool.request(request).await.map_err(|error| unavailable(&error))?;
        let status = response.status();
        if status.is_redirection() {
            let why = format!("answered {status}, and redirects are not followed: write the final address");
            return Err(FetchFailure::misconfigured(authority, why));
        }
        match read_body(response.into_body()).await.map_err(|error| unavailable(&error))? {
            Some(body) => Ok(TokenReply { status, body }),
            None => Err(FetchFailure::misconfigured(
                authority,
                format!(
                    "answered {status} with more than {ANSWER_BYTES_MAX} bytes, which is too large for a token response"
                ),
            )),
        }
    }
}

/// Reads a whole body; `None` when it is larger than allowed.
async fn read_body(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > ANSWER_BYTES_MAX {
        return Ok(None);
    }
    let mut whole = BytesMut::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}

/// The error with its sources in one line. HTTP libraries put the informative part last.
fn error_chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = error.source();
    }
    text
}
