//! How a connection begins: finding out which revision the backend speaks, and shaking hands where there is a
//! handshake. Sources: 2026-07-28, Versioning, "Backward Compatibility"; 2025-11-25, Lifecycle.
//!
//! The finding holds for one connection. Nothing that may pass (refused credentials, an outage, silence) is kept.

pub(crate) mod duplex;
pub(crate) mod streamable;

use vmcp_domain::{Json, ProtocolVersion};
use vmcp_wire::client::{
    Dialect, InitializeInfo, ResponseError, read_discover, read_supported_versions, session_capabilities,
};
use vmcp_wire::method;

use crate::ClientInfo;
use crate::connection::link::McpRequest;
use crate::failure::{Failure, FailureClass};

fn dialect(identity: &ClientInfo, version: ProtocolVersion) -> Dialect {
    Dialect::new(version, &identity.name, &identity.version)
}

fn discover_request(identity: &ClientInfo) -> McpRequest {
    McpRequest::maintenance(method::DISCOVER, dialect(identity, ProtocolVersion::V2026_07_28).no_params())
}

fn initialize_request(identity: &ClientInfo) -> McpRequest {
    let dialect = dialect(identity, ProtocolVersion::NEWEST_WITH_SESSIONS);
    McpRequest {
        // A second session at the backend is better avoided than a first attempt saved.
        is_idempotent: false,
        ..McpRequest::maintenance(method::INITIALIZE, dialect.initialize(&session_capabilities()))
    }
}

/// What the outcome of `server/discover` tells: the introduction of a backend that speaks 2026-07-28, or nothing.
fn parse_discover_outcome(outcome: &Result<Json, Failure>) -> Option<InitializeInfo> {
    match outcome {
        Ok(result) => read_discover(result).ok(),
        Err(Failure::Refused(error)) => {
            let date = ProtocolVersion::V2026_07_28.as_str();
            let supported = read_supported_versions(error)?;
            supported
                .iter()
                .any(|version| version == date)
                .then(|| InitializeInfo::assume_all(ProtocolVersion::V2026_07_28))
        }
        Err(
            Failure::StaleConnection(..)
            | Failure::NotSent(..)
            | Failure::Indeterminate(..)
            | Failure::Overloaded
            | Failure::ConnectionsFull
            | Failure::Busy(..)
            | Failure::Paused(_),
        ) => None,
    }
}

fn handshake_failure(fault: &ResponseError) -> Failure {
    Failure::indeterminate(FailureClass::Protocol, fault)
}
