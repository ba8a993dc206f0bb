//! Why the settings of a service are invalid.

use std::time::Duration;

use http::header::HeaderName;

/// The longest time-out that can be configured.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_mins(10);
pub(crate) const HEADERS_MAX: usize = 32;
pub(crate) const HEADER_CHARS_MAX: usize = 8192;
pub(crate) const MODEL_CHARS_MAX: usize = 256;

/// Why settings are invalid. No message contains a URL, a key or a header's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The URL is not the address of a service.
    #[error(
        "url: must be the base address of the service, such as http://embeddings:8080 or https://host/v1"
    )]
    Url,
    /// The URL contains a user or a password.
    #[error("url: must not carry a user or password; an API key is set apart, in OPENAI_API_KEY")]
    UrlCredentials,
    /// The URL contains a fragment, which is never sent.
    #[error("url: must not contain #; leave out what begins there")]
    UrlFragment,
    /// The URL has a query, and the provider is TEI, which uses none.
    #[error("url: must not contain ? with provider tei; leave out what begins there")]
    UrlQuery,
    /// The model's name is missing or invalid.
    #[error(
        "model: must be the model's name as the service knows it, 1 to {MODEL_CHARS_MAX} printable characters"
    )]
    Model,
    /// The time-out is zero or too long.
    #[error("timeout: must be longer than zero and at most {TIMEOUT_MAX:?}")]
    Timeout,
    /// The time-out for queries is zero or too long.
    #[error("query timeout: must be longer than zero and at most {TIMEOUT_MAX:?}")]
    QueryTimeout,
    /// There are more headers than the reference implementation accepts.
    #[error("headers: at most {HEADERS_MAX}; leave some out")]
    Headers,
    /// Headers are set, and the provider is TEI, which never receives any.
    #[error("headers: have an effect with provider openai only; leave them out or change the provider")]
    HeadersUnused,
    /// A header's name is invalid.
    #[error("headers: a name must be letters, digits and hyphens only")]
    HeaderName,
    /// A header occurs twice.
    #[error("headers: {0} occurs twice; remove one")]
    HeaderTwice(HeaderName),
    /// A header is one that the client sets itself.
    #[error("headers: {0} is set by the gateway; leave it out (an API key belongs in OPENAI_API_KEY)")]
    HeaderOwn(HeaderName),
    /// A header's value is invalid.
    #[error(
        "headers: the value of {0} must be 1 to {HEADER_CHARS_MAX} characters without control characters"
    )]
    HeaderValue(HeaderName),
    /// The API key is invalid.
    #[error("api key: must be visible ASCII characters without spaces; look for a line break at its end")]
    ApiKey,
    /// An API key is set, and the provider is TEI, which never receives one.
    #[error("api key: has an effect with provider openai only; leave it out or change the provider")]
    ApiKeyUnused,
}
