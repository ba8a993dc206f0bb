//! Sends one HTTP request to a service and reads the whole response, within limits. Retries are left to
//! `retry`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Response, StatusCode, Uri};
use hyper::body::Incoming;
use serde::Deserialize;
use vmcp_http_client::{
    AddressPolicy, ClientSettings, HttpClient, IDLE_TIMEOUT, IDLE_TIMEOUT_TLS, RuntimeExecutor, TlsError,
    Trust, error_chain, read_body,
};

use crate::failure::{FailureKind, ServiceFailure};
use crate::policy::ServicePolicy;

/// Time-out for a connection to the service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of idle connections in the pool.
const IDLE_MAX: usize = 16;
/// How many bytes of an error response are read to find its error code.
const ERROR_BYTES_MAX: usize = 16 << 10;
/// Maximum length of an error code, in bytes.
const ERROR_CODE_BYTES_MAX: usize = 48;

/// A request to a service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceCall {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) body: Bytes,
    /// Maximum size of the response, in bytes.
    pub(crate) response_bytes_max: usize,
}

impl ServiceCall {
    /// The method and the path of the request, for the log. The query is omitted, because it may hold
    /// credentials.
    pub(crate) fn log_name(&self) -> String {
        format!("{} {}", self.method, self.uri.path())
    }
}

/// The HTTP client of one service, with its connection pool.
pub(crate) struct Client {
    client: HttpClient,
    headers: HeaderMap,
    host: String,
}

impl Client {
    /// Creates a client. It does not connect yet.
    pub(crate) fn new(policy: &ServicePolicy) -> Result<Self, TlsError> {
        let secure = policy.address.is_https();
        let settings = ClientSettings {
            trust: if secure { Trust::System } else { Trust::Nothing },
            addresses: AddressPolicy::Anywhere,
            connect_timeout: CONNECT_TIMEOUT,
            idle_max: IDLE_MAX,
            idle_timeout: if secure { IDLE_TIMEOUT_TLS } else { IDLE_TIMEOUT },
        };
        let client = HttpClient::new(&settings, RuntimeExecutor::of_caller())?;
        let mut headers = policy.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &policy.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(Self { client, headers, host: policy.address.authority().to_owned() })
    }

    /// The service's host and port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Sends the request once and reads the whole response. Redirects are not followed, because they would
    /// send the API key to another host.
    pub(crate) async fn send_once(&self, call: &ServiceCall) -> Result<Bytes, ServiceFailure> {
        let mut request = http::Request::new(call.body.clone());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.uri.clone();
        request.headers_mut().clone_from(&self.headers);
        if !call.body.is_empty() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let connection_failure = |error: &(dyn std::error::Error + 'static)| {
            ServiceFailure::new(
                FailureKind::Connection,
                format!("{}: {}: {}", self.host, call.log_name(), error_chain(error)),
            )
        };
        let response = self.client.send(request).await.map_err(|error| connection_failure(&error))?;
        if response.status() != StatusCode::OK {
            return Err(self.failure_of_response(call, response).await);
        }
        let whole = read_body(response.into_body(), call.response_bytes_max)
            .await
            .map_err(|error| connection_failure(&error))?;
        whole.ok_or_else(|| {
            let text = format!("{}: the answer to {} is larger than allowed", self.host, call.log_name());
            ServiceFailure::new(FailureKind::Malformed, text)
        })
    }

    async fn failure_of_response(&self, call: &ServiceCall, response: Response<Incoming>) -> ServiceFailure {
        let status = response.status();
        let pause = parse_retry_after(response.headers());
        let mut text = format!("{} answered {status} to {}", self.host, call.log_name());
        if status.is_redirection() {
            text.push_str(", and redirects are not followed: write the final address");
        } else if let Ok(Some(body)) = read_body(response.into_body(), ERROR_BYTES_MAX).await
            && let Some(word) = parse_error_code(&body).filter(|word| !self.is_echoed_secret(word))
        {
            text.push_str(&format!(" ({word})"));
        }
        ServiceFailure { retry_after: pause, ..ServiceFailure::new(FailureKind::Status(status), text) }
    }

    /// True when the error code contains a secret header value that was sent, or is part of one: some
    /// services echo keys.
    fn is_echoed_secret(&self, word: &str) -> bool {
        let secrets = self.headers.values().filter(|value| value.is_sensitive());
        let mut texts = secrets.map(|value| String::from_utf8_lossy(value.as_bytes()));
        texts.any(|text| {
            let text = text.strip_prefix("Bearer ").unwrap_or(&text);
            text.contains(word) || word.contains(text)
        })
    }
}

/// The delay in `retry-after-ms` or `Retry-After`, if it is a number. A date is ignored, because comparing it
/// needs synchronised clocks.
fn parse_retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u32>().ok();
    let exact = number("retry-after-ms").map(|millis| Duration::from_millis(millis.into()));
    exact.or_else(|| number(RETRY_AFTER.as_str()).map(|seconds| Duration::from_secs(seconds.into())))
}

/// The service's error code, as OpenAI and TEI write it. Error messages are not used, because they may repeat
/// what was sent.
fn parse_error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        error: Option<serde_json::Value>,
        error_type: Option<String>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let inner = |name: &str| Some(body.error.as_ref()?.get(name)?.as_str()?.to_owned());
    let word = body.error_type.clone().or_else(|| inner("code")).or_else(|| inner("type"))?;
    let plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    (plain && (1..=ERROR_CODE_BYTES_MAX).contains(&word.len())).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_read_in_seconds_and_milliseconds() {
        let read = |of: &[(&'static str, &'static str)]| {
            let pairs = of
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            parse_retry_after(&pairs.collect())
        };
        assert_eq!(read(&[("retry-after", "3")]), Some(Duration::from_secs(3)));
        assert_eq!(
            read(&[("retry-after", "3"), ("retry-after-ms", "250")]),
            Some(Duration::from_millis(250))
        );
        assert_eq!(read(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), None);
        assert_eq!(read(&[("retry-after", "-1")]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn only_plain_words_are_taken_from_errors() {
        let read = |body: &str| parse_error_code(body.as_bytes());
        assert_eq!(
            read(r#"{"error":{"code":"invalid_api_key","type":"x"}}"#).as_deref(),
            Some("invalid_api_key")
        );
        assert_eq!(read(r#"{"error":{"code":null,"type":"server_error"}}"#).as_deref(), Some("server_error"));
        assert_eq!(read(r#"{"error":"busy","error_type":"Overloaded"}"#).as_deref(), Some("Overloaded"));
        assert_eq!(read(r#"{"error":{"code":"no such key: sk"}}"#), None);
        assert_eq!(read(r#"{"error":"busy"}"#), None);
        assert_eq!(read("<html>"), None);
    }
}
