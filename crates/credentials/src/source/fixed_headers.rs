//! Credentials that are the same for every caller: none, and a header that the operator configured.

use std::future::ready;

use http::{HeaderName, HeaderValue};
use vmcp_domain::{BoxFuture, IsolationScope, Secret};
use vmcp_http_client::is_owned_header;

use crate::error::{CredentialError, PolicyError};
use crate::source::{CredentialHeaders, CredentialSource, RequestView, Subject};
use crate::token_endpoint::token_request::sensitive_value;

const VALUE_BYTES_MAX: usize = 16 << 10;

/// The same headers for every caller, or none.
#[derive(Clone, Debug)]
pub struct FixedHeaders {
    strategy: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl FixedHeaders {
    /// Sends no headers.
    #[must_use]
    pub fn none() -> Self {
        Self { strategy: "unauthenticated", headers: Vec::new() }
    }

    /// Sends the header `name` with a secret value.
    ///
    /// # Errors
    /// When the header cannot be sent, or the transport writes it itself.
    pub fn with_header(name: &str, value: &Secret) -> Result<Self, PolicyError> {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Err(PolicyError::new("headerName", "must be letters, digits and hyphens only"));
        };
        if is_owned_header(name.as_str()) {
            return Err(PolicyError::new(
                "headerName",
                format!("the header {name} is written by the gateway itself"),
            ));
        }
        let text = value.expose();
        let value =
            sensitive_value(text).filter(|_| !text.trim().is_empty() && text.len() <= VALUE_BYTES_MAX);
        let Some(value) = value else {
            let why = format!(
                "must be 1 to {VALUE_BYTES_MAX} visible ASCII characters; look for a line break at its end"
            );
            return Err(PolicyError::new("headerValue", why));
        };
        Ok(Self { strategy: "header_injection", headers: vec![(name, value)] })
    }
}

impl CredentialSource for FixedHeaders {
    fn name(&self) -> &'static str {
        self.strategy
    }

    fn scope(&self, _caller: Option<&Subject<'_>>) -> Result<IsolationScope, CredentialError> {
        Ok(IsolationScope::Shared)
    }

    fn headers_for_caller<'a>(
        &'a self,
        _caller: Option<&'a Subject<'a>>,
        request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>> {
        self.headers_for_gateway(request)
    }

    fn headers_for_gateway<'a>(
        &'a self,
        _request: &'a RequestView<'a>,
    ) -> BoxFuture<'a, Result<CredentialHeaders, CredentialError>> {
        Box::pin(ready(Ok(CredentialHeaders::uncached(self.headers.clone()))))
    }

    fn invalidate(&self, _applied: &CredentialHeaders) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_headers_cannot_be_built() {
        for (name, value, field) in [
            ("", "v", "headerName"),
            ("a b", "v", "headerName"),
            ("a\r\nb", "v", "headerName"),
            ("Host", "v", "headerName"),
            ("MCP-Session-Id", "v", "headerName"),
            ("x-key", "", "headerValue"),
            ("x-key", "  ", "headerValue"),
            ("x-key", "hush\r\nx: y", "headerValue"),
            ("x-key", "hush\u{7f}", "headerValue"),
        ] {
            let error = FixedHeaders::with_header(name, &Secret::new(value)).unwrap_err();
            assert_eq!(error.field(), field, "{name:?} {value:?}");
            assert!(!error.to_string().contains("hush"));
        }
        assert!(FixedHeaders::with_header("Authorization", &Secret::new("Basic eDp5")).is_ok());
    }
}
