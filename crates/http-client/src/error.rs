//! Why a request has no response.

use std::error::Error as StdError;

use crate::addresses::AddressError;

/// Why a request has no response. The texts are for the log and for operators.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// This client must not connect to the address. Nothing was sent.
    #[error(transparent)]
    ForbiddenAddress(#[from] AddressError),
    /// The request needs TLS and no certificate authority is trusted. Nothing was sent.
    #[error(
        "no certificate authority in the system's certificate store, so no server with TLS is trusted: \
         install the system's package of CA certificates, or configure a CA bundle"
    )]
    NoAuthority,
    /// No connection was established. Nothing was sent.
    #[error("{0}")]
    Connect(String),
    /// The connection broke. The server may have received the request.
    #[error("{0}")]
    Broken(String),
}

impl RequestError {
    /// True if the server has certainly received no part of the request.
    #[must_use]
    pub fn was_not_sent(&self) -> bool {
        !matches!(self, Self::Broken(_))
    }
}

/// An error with its sources in one line, because HTTP libraries put the most specific cause last.
#[must_use]
pub fn error_chain(error: &(dyn StdError + 'static)) -> String {
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
