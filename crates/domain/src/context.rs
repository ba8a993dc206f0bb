//! The facts of one request, handed down the stack as a plain argument.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use crate::caller::Caller;
use crate::client_port::{ClientPort, SilentClient};
use crate::json::Members;
use crate::reservation::Reservation;
use crate::secret::Secret;
use crate::version::ProtocolVersion;

/// The address by which callers without an identity are told apart. A host on IPv6 commonly has a network of 64 bits to
/// itself, so only these count.
#[must_use]
pub fn counted_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Who composed a call: the client itself, or one of the gateway's own virtual tools for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The client called the tool by its name.
    Client,
    /// The client called it through the virtual tool `call_tool`.
    CallTool,
    /// The operator called it from the command line.
    Operator,
    /// The gateway itself, for its own upkeep.
    Gateway,
}

/// Everything a layer may know about a request besides the request itself.
///
/// Cancellation has no field: a request is cancelled by dropping its future, and every layer
/// and transport passes that on by dropping what it waits for.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Who asks.
    pub caller: Caller,
    /// The caller's own token, where the caller was recognised by one that an issuer can exchange. It is for token
    /// endpoints and never for a backend.
    pub token: Option<Secret>,
    /// The revision the client speaks.
    pub protocol: ProtocolVersion,
    /// When the answer is of no use any more. `None` leaves the bound to the backend's own time-out.
    pub deadline: Option<Instant>,
    /// The request's `_meta` members that are meant to travel: everything but the keys that belong to one hop.
    pub meta: Members,
    /// The address the request came from, where it came over a network.
    pub peer: Option<IpAddr>,
    /// Client request headers that the operator chose to pass to backends, names in lower case.
    pub passthrough_headers: Arc<[(String, String)]>,
    /// The way back to the client.
    pub client: Arc<dyn ClientPort>,
    /// Who composed the call.
    pub origin: Origin,
    /// Budget that whoever composes several calls has asked for ahead.
    pub reservation: Option<Reservation>,
}

impl CallContext {
    /// A context with nothing in it but the caller and the origin: no deadline, no `_meta`, no way back.
    #[must_use]
    pub fn bare(caller: Caller, origin: Origin) -> Self {
        Self {
            caller,
            token: None,
            protocol: ProtocolVersion::V2026_07_28,
            deadline: None,
            meta: Members::new(),
            peer: None,
            passthrough_headers: Arc::from([]),
            client: Arc::new(SilentClient::default()),
            origin,
            reservation: None,
        }
    }
}
