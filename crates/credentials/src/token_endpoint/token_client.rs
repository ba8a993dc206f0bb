//! Posts one form to a token endpoint and reads the response, within time and size limits.

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use tokio::time;
use vmcp_http_client::{
    AddressPolicy, ClientSettings, HttpClient, IDLE_TIMEOUT, RuntimeExecutor, TlsError, Trust, error_chain,
    read_body,
};

use crate::error::FetchFailure;
use crate::token_endpoint::token_url::TokenUrl;

/// The time-out of one request, including the wait for a permit and the response body.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time-out of a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest response body, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The most idle connections per endpoint.
const IDLE_MAX: usize = 8;

/// The response of an endpoint.
pub(crate) struct TokenReply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// The HTTP client for all token endpoints.
pub(crate) struct TokenClient {
    client: HttpClient,
}

impl TokenClient {
    /// Builds a client without open connections.
    pub(crate) fn new() -> Result<Self, TlsError> {
        let settings = ClientSettings {
            trust: Trust::System,
            addresses: AddressPolicy::Anywhere,
            connect_timeout: CONNECT_TIMEOUT,
            idle_max: IDLE_MAX,
            idle_timeout: IDLE_TIMEOUT,
        };
        Ok(Self { client: HttpClient::new(&settings, RuntimeExecutor::of_caller())? })
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
        let mut request = http::Request::new(Bytes::from(form));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(url.uri());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let response = self.client.send(request).await.map_err(|error| unavailable(&error))?;
        let status = response.status();
        if status.is_redirection() {
            let why = format!("answered {status}, and redirects are not followed: write the final address");
            return Err(FetchFailure::misconfigured(authority, why));
        }
        match read_body(response.into_body(), ANSWER_BYTES_MAX).await.map_err(|error| unavailable(&error))? {
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
