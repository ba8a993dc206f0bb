//! How a connection begins: finding out which revision the backend speaks, and shaking hands where there is a
//! handshake. Sources: 2026-07-28, Versioning, "Backward Compatibility"; 2025-11-25, Lifecycle.
//!
//! The finding holds for one connection. Nothing that may pass (refused credentials, an outage, silence) is kept.

pub(crate) mod duplex;
pub(crate) mod streamable;

use vmcp_domain::{Json, ProtocolVersion};
use vmcp_wire::client::{
    AnswerFault, Dialect, Introduction, read_discover, session_capabilities, supported_versions,
};
use vmcp_wire::method;

use crate::GatewayIdentity;
use crate::failure::{Class, Failure};
use crate::link::Request;

fn dialect(identity: &GatewayIdentity, version: ProtocolVersion) -> Dialect {
    Dialect::new(version, &identity.name, &identity.version)
}

fn discover(identity: &GatewayIdentity) -> Request {
    Request::upkeep(method::DISCOVER, dialect(identity, ProtocolVersion::V2026_07_28).bare())
}

fn initialize(identity: &GatewayIdentity) -> Request {
    let dialect = dialect(identity, ProtocolVersion::NEWEST_WITH_SESSIONS);
    Request {
        // A second session at the backend is better avoided than a first attempt saved.
        repeatable: false,
        ..Request::upkeep(method::INITIALIZE, dialect.initialize(&session_capabilities()))
    }
}

/// What the outcome of `server/discover` tells: the introduction of a backend that speaks 2026-07-28, or nothing.
fn read_probe(outcome: &Result<Json, Failure>) -> Option<Introduction> {
    match outcome {
        Ok(result) => read_discover(result).ok(),
        Err(Failure::Refused(error)) => {
            let date = ProtocolVersion::V2026_07_28.as_str();
            let supported = supported_versions(error)?;
            supported
                .iter()
                .any(|version| version == date)
                .then(|| Introduction::unknown(ProtocolVersion::V2026_07_28))
        }
        Err(
            Failure::Stale(..)
            | Failure::NotSent(..)
            | Failure::Broken(..)
            | Failure::Overloaded
            | Failure::Full
            | Failure::Busy(..)
            | Failure::Paused(_),
        ) => None,
    }
}

fn unusable(fault: &AnswerFault) -> Failure {
    Failure::broken(Class::Protocol, fault)
}
