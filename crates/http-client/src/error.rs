//! Why a request has no response.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use crate::addresses::{AddressError, LookupError};

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
    #[error("{1}")]
    Connect(ConnectFault, String),
    /// The connection broke. The server may have received the request.
    #[error("{0}")]
    Broken(String),
}

/// Why no connection was established, as far as the operator needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFault {
    /// The host name could not be resolved.
    UnknownHost,
    /// The host refuses connections at this port: no program listens there.
    Refused,
    /// No route leads to the host.
    Unreachable,
    /// The host did not answer within the connect time-out.
    TimedOut,
    /// The certificate of the server is not trusted or not valid for this host.
    Certificate,
    /// The server does not speak TLS.
    NoTls,
    /// Anything else.
    Other,
}

impl ConnectFault {
    /// Determines the fault from an error and its sources.
    #[must_use]
    pub fn from_error(error: &(dyn StdError + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(fault) = Self::from_one(error) {
                return fault;
            }
            // The source of an I/O error is the source of the error that it contains, which is thus skipped.
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        Self::Other
    }

    fn from_one(error: &(dyn StdError + 'static)) -> Option<Self> {
        if error.is::<LookupError>() {
            return Some(Self::UnknownHost);
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            let is_certificate = matches!(error, rustls::Error::InvalidCertificate(_));
            let is_other_protocol = matches!(error, rustls::Error::InvalidMessage(_));
            return is_certificate.then_some(Self::Certificate).or(is_other_protocol.then_some(Self::NoTls));
        }
        let kind = error.downcast_ref::<io::Error>()?.kind();
        let kinds = [
            (ErrorKind::ConnectionRefused, Self::Refused),
            (ErrorKind::HostUnreachable, Self::Unreachable),
            (ErrorKind::NetworkUnreachable, Self::Unreachable),
            (ErrorKind::TimedOut, Self::TimedOut),
        ];
        kinds.into_iter().find(|(of, _)| *of == kind).map(|(_, fault)| fault)
    }
}

impl RequestError {
    /// Builds [`Self::Connect`] from the error of a connector.
    #[must_use]
    pub fn from_connect_error(error: &(dyn StdError + 'static)) -> Self {
        Self::Connect(ConnectFault::from_error(error), error_chain(error))
    }

    /// Why no connection was established. `None` if one was, and if none was tried.
    #[must_use]
    pub fn connect_fault(&self) -> Option<ConnectFault> {
        match self {
            Self::Connect(fault, _) => Some(*fault),
            Self::NoAuthority => Some(ConnectFault::Certificate),
            Self::ForbiddenAddress(_) | Self::Broken(_) => None,
        }
    }

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
