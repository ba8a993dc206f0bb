//! The facts of one request, handed down the stack as a plain argument.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use crate::caller::Caller;
use crate::client_port::{ClientPort, SilentClient};
use crate::json::Members;
use crate::reservation::Reservation;
use crate::secret::Secret;
use crate::version::ProtocolVersion;
use crate::work_hold::WorkHold;

/// The prefix behind which a translator writes whole IPv4 addresses (RFC 6052, section 2.1).
const TRANSLATED_IPV4: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// The address by which callers without an identity are told apart. A host on IPv6 commonly has a network of 64 bits to
/// itself, so only these count. An IPv4 address that is written as an IPv6 address counts as the IPv4 address.
#[must_use]
pub fn accounting_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, ..] = address.segments();
            if [a, b, c, d, e, f] == TRANSLATED_IPV4 {
                let [.., first, second, third, fourth] = address.octets();
                return IpAddr::V4(Ipv4Addr::new(first, second, third, fourth));
            }
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Who composed a call: the client itself, or one of the gateway's own virtual tools for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOrigin {
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
    pub peer_address: Option<IpAddr>,
    /// Client request headers that the operator chose to pass to backends, names in lower case.
    pub passthrough_headers: Arc<[(String, String)]>,
    /// The way back to the client.
    pub client: Arc<dyn ClientPort>,
    /// Who composed the call.
    pub origin: CallOrigin,
    /// Budget that whoever composes several calls has asked for ahead.
    pub reservation: Option<Reservation>,
    /// What is kept while the backend may be working on the call.
    pub hold: Option<WorkHold>,
}

impl CallContext {
    /// A context with nothing in it but the caller and the origin: no deadline, no `_meta`, no way back.
    #[must_use]
    pub fn bare(caller: Caller, origin: CallOrigin) -> Self {
        Self {
            caller,
            token: None,
            protocol: ProtocolVersion::V2026_07_28,
            deadline: None,
            meta: Members::new(),
            peer_address: None,
            passthrough_headers: Arc::from([]),
            client: Arc::new(SilentClient::default()),
            origin,
            reservation: None,
            hold: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_what_one_caller_holds() {
        let counted = |address: &str| accounting_address(address.parse().unwrap()).to_string();
        assert_eq!(counted("198.51.100.7"), "198.51.100.7");
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:2::1"), counted("2001:db8:1:2:ffff::"));
        assert_ne!(counted("2001:db8:1:2::1"), counted("2001:db8:1:3::1"));
        assert_eq!(counted("::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(counted("64:ff9b::198.51.100.7"), "198.51.100.7");
    }
}
