//! The start of a connection: finds out which protocol version the backend speaks, and performs the handshake
//! if the version has one. Sources: 2026-07-28, Versioning, "Backward Compatibility"; 2025-11-25, Lifecycle.
//!
//! The result holds for one connection. Temporary conditions (refused credentials, an outage, silence) are
//! not remembered.

pub(crate) mod duplex;
pub(crate) mod streamable;

use vmcp_domain::ProtocolVersion;
use vmcp_json::Json;
use vmcp_wire::client::{
    Dialect, InitializeInfo, ResponseError, read_discover, read_supported_versions, session_capabilities,
};
use vmcp_wire::method;

use crate::ClientInfo;
use crate::connection::link::McpRequest;
use crate::failure::{Failure, FailureClass};

fn dialect(client_info: &ClientInfo, version: ProtocolVersion) -> Dialect {
    Dialect::new(version, &client_info.name, &client_info.version)
}

fn discover_request(client_info: &ClientInfo) -> McpRequest {
    McpRequest::maintenance(method::DISCOVER, dialect(client_info, ProtocolVersion::V2026_07_28).no_params())
}

fn initialize_request(client_info: &ClientInfo) -> McpRequest {
    let dialect = dialect(client_info, ProtocolVersion::NEWEST_WITH_SESSIONS);
    McpRequest {
        // A retry could create a second session at the backend, which is worse than a failed attempt.
        is_idempotent: false,
        ..McpRequest::maintenance(method::INITIALIZE, dialect.initialize(&session_capabilities()))
    }
}

/// Evaluates the outcome of `server/discover`: the introduction of a backend that speaks 2026-07-28, or
/// `None`.
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
