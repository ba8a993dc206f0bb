//! Why a request of a client is rejected.

use vmcp_domain::ProtocolVersion;
use vmcp_json::{Json, Members};

use crate::code;
use crate::jsonrpc::RpcError;

/// Why a request is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The method does not exist in this version.
    #[error("method `{0}` not found")]
    UnknownMethod(String),
    /// The parameters are invalid.
    #[error("{0}")]
    InvalidParams(String),
    /// `params` as a whole is invalid, or a required member of `_meta` is missing or invalid.
    #[error("{0}")]
    InvalidEnvelope(String),
    /// The requested protocol version is not supported.
    #[error("Unsupported protocol version")]
    UnsupportedVersion(String),
}

impl RequestError {
    /// The HTTP status and the JSON-RPC error of the answer.
    #[must_use]
    pub fn answer(&self, version: ProtocolVersion) -> (u16, RpcError) {
        let stateless = !version.has_sessions();
        match self {
            Self::UnknownMethod(_) => {
                (if stateless { 404 } else { 200 }, RpcError::new(code::METHOD_NOT_FOUND, self.to_string()))
            }
            Self::InvalidParams(_) => (200, RpcError::new(code::INVALID_PARAMS, self.to_string())),
            // 2026-07-28, Basic Protocol, "Per-request protocol fields".
            Self::InvalidEnvelope(_) => {
                (if stateless { 400 } else { 200 }, RpcError::new(code::INVALID_PARAMS, self.to_string()))
            }
            Self::UnsupportedVersion(requested) => {
                let supported: Vec<&str> =
                    crate::server::supported_versions().iter().map(|version| version.as_str()).collect();
                let data: Members = [
                    (
                        "supported".to_owned(),
                        Json::encode(&supported).unwrap_or_else(|_| Json::empty_object()),
                    ),
                    ("requested".to_owned(), Json::string(requested)),
                ]
                .into_iter()
                .collect();
                let mut error = RpcError::new(code::UNSUPPORTED_VERSION, self.to_string());
                error.data = Some(data.to_json());
                (400, error)
            }
        }
    }
}
