//! The validated settings of one embedding service. Invalid values cannot be constructed.
//!
//! `vmcp` builds it from the configuration file, and reads the environment variable of the API key.

use std::fmt;
use std::time::Duration;

use http::Uri;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
pub use vmcp_domain::Secret;
use vmcp_http_client::is_owned_header;

use crate::endpoint_address::EndpointAddress;
use crate::policy_error::PolicyError;
use crate::policy_error::{HEADER_CHARS_MAX, HEADERS_MAX, MODEL_CHARS_MAX, TIMEOUT_MAX};

/// The default time-out of one request, its retry included; as in the reference implementation.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The default time-out for the vector of a query. It is short, because a user waits, and a search works
/// without it.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const KEY_CHARS_MAX: usize = 8192;

/// The protocol of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Text Embeddings Inference: `GET /info` and `POST /embed`.
    Tei,
    /// OpenAI's `POST /embeddings`, which many gateways and model servers offer.
    OpenAi {
        /// The model's name as the service knows it.
        model: String,
    },
}

/// A provider with the addresses of its endpoints.
#[derive(Clone)]
pub(crate) enum Endpoints {
    Tei { info: Uri, embed: Uri },
    OpenAi { model: String, routes: Vec<Uri> },
}

/// Omits the addresses, because their queries may hold credentials.
impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tei { .. } => f.write_str("tei"),
            Self::OpenAi { model, .. } => write!(f, "openai {model:?}"),
        }
    }
}

/// The settings of one service.
#[derive(Clone, Debug)]
pub struct ServicePolicy {
    pub(crate) address: EndpointAddress,
    pub(crate) endpoints: Endpoints,
    pub(crate) timeout: Duration,
    pub(crate) query_timeout: Duration,
    /// Sent with every request; all values are marked as sensitive.
    pub(crate) headers: HeaderMap,
    /// The whole value of `Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
}

impl ServicePolicy {
    /// The service at `url`, `http` or `https`. With `openai`, the reference implementation posts to `url` +
    /// `/embeddings`, so its base addresses end in `/v1`. Here the `/v1` may be missing; the first request
    /// determines the path.
    ///
    /// # Errors
    /// The address or the model's name is invalid.
    pub fn new(url: &str, provider: Provider) -> Result<Self, PolicyError> {
        let address = EndpointAddress::parse(url)?;
        let endpoint = |path: &str| address.endpoint(path).ok_or(PolicyError::Url);
        let endpoints = match provider {
            Provider::Tei if address.has_query() => return Err(PolicyError::UrlQuery),
            Provider::Tei => Endpoints::Tei { info: endpoint("/info")?, embed: endpoint("/embed")? },
            Provider::OpenAi { model } if !is_valid_model_name(&model) => return Err(PolicyError::Model),
            Provider::OpenAi { model } => {
                let routes = address.openai_endpoints().into_iter().map(endpoint);
                Endpoints::OpenAi { model, routes: routes.collect::<Result<_, _>>()? }
            }
        };
        Ok(Self {
            address,
            endpoints,
            timeout: TIMEOUT,
            query_timeout: QUERY_TIMEOUT,
            headers: HeaderMap::new(),
            authorization: None,
        })
    }

    /// Sets the time-out of each request, its retry included. The default is 30 seconds.
    ///
    /// # Errors
    /// The time-out is zero or more than ten minutes.
    pub fn with_timeout(self, timeout: Duration) -> Result<Self, PolicyError> {
        is_valid_timeout(timeout).then_some(Self { timeout, ..self }).ok_or(PolicyError::Timeout)
    }

    /// Sets the time-out for the vector of a query, all its requests included. The default is 2 seconds. A
    /// shorter time-out of requests applies to queries too.
    ///
    /// # Errors
    /// The time-out is zero or more than ten minutes.
    pub fn with_query_timeout(self, query_timeout: Duration) -> Result<Self, PolicyError> {
        is_valid_timeout(query_timeout)
            .then_some(Self { query_timeout, ..self })
            .ok_or(PolicyError::QueryTimeout)
    }

    /// Sends these headers with every request, instead of those set before.
    ///
    /// # Errors
    /// There are more than 32 headers, a header cannot be sent or is reserved for the client, or the provider
    /// is TEI.
    pub fn with_headers(
        self,
        headers: impl IntoIterator<Item = (String, Secret)>,
    ) -> Result<Self, PolicyError> {
        let mut taken = HeaderMap::new();
        for (name, value) in headers {
            let value = value.expose();
            let name = HeaderName::try_from(name).map_err(|_| PolicyError::HeaderName)?;
            if is_owned_header(name.as_str()) || name == header::AUTHORIZATION {
                return Err(PolicyError::HeaderOwn(name));
            }
            let chars = value.chars().count();
            if chars == 0 || chars > HEADER_CHARS_MAX || value.contains(char::is_control) {
                return Err(PolicyError::HeaderValue(name));
            }
            let value = sensitive_value(value).ok_or_else(|| PolicyError::HeaderValue(name.clone()))?;
            if taken.insert(&name, value).is_some() {
                return Err(PolicyError::HeaderTwice(name));
            }
            if taken.len() > HEADERS_MAX {
                return Err(PolicyError::Headers);
            }
        }
        if !taken.is_empty() && self.is_tei() {
            return Err(PolicyError::HeadersUnused);
        }
        Ok(Self { headers: taken, ..self })
    }

    /// Sends this key as a bearer token.
    ///
    /// # Errors
    /// The key cannot be sent, or the provider is TEI: a key for one service must not be sent to another.
    pub fn with_api_key(self, key: &Secret) -> Result<Self, PolicyError> {
        if self.is_tei() {
            return Err(PolicyError::ApiKeyUnused);
        }
        let key = key.expose();
        if key.is_empty() || key.len() > KEY_CHARS_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PolicyError::ApiKey);
        }
        let authorization = sensitive_value(&format!("Bearer {key}")).ok_or(PolicyError::ApiKey)?;
        Ok(Self { authorization: Some(authorization), ..self })
    }

    /// True when an API key or a header is sent to another machine without TLS, which deserves a warning.
    #[must_use]
    pub fn exposes_secrets(&self) -> bool {
        let secret = self.authorization.is_some() || !self.headers.is_empty();
        secret && !self.address.is_https() && !self.address.is_loopback()
    }

    fn is_tei(&self) -> bool {
        matches!(self.endpoints, Endpoints::Tei { .. })
    }

    /// The service as an operator may see it: its protocol, host and port.
    #[must_use]
    pub fn describe(&self) -> String {
        let endpoints = match &self.endpoints {
            Endpoints::Tei { .. } => "tei".to_owned(),
            Endpoints::OpenAi { model, .. } => format!("openai {model}"),
        };
        format!("{endpoints} at {}", self.address.authority())
    }

    /// The shorter of the two time-outs, which bounds the vector of a query.
    pub(crate) fn effective_query_timeout(&self) -> Duration {
        self.query_timeout.min(self.timeout)
    }
}

fn sensitive_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn is_valid_model_name(model: &str) -> bool {
    let chars = model.chars().count();
    !model.trim().is_empty() && chars <= MODEL_CHARS_MAX && !model.contains(char::is_control)
}

fn is_valid_timeout(duration: Duration) -> bool {
    !duration.is_zero() && duration <= TIMEOUT_MAX
}

#[cfg(test)]
mod tests;
