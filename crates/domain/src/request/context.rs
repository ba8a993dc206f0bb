//! [`CallContext`]: the facts of one request, which every layer passes on as a plain argument.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use vmcp_json::Members;

use crate::catalogue::address::ResourceUri;
use crate::catalogue::name::{PromptName, ToolName};
use crate::request::caller::Caller;
use crate::request::client_port::{ClientPort, SilentClient};
use crate::request::reservation::Reservation;
use crate::request::run::CallRun;
use crate::request::secret::Secret;
use crate::request::version::ProtocolVersion;
use crate::request::work_hold::WorkHold;

/// The well-known prefix under which translators embed IPv4 addresses (RFC 6052, section 2.1).
const TRANSLATED_IPV4: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// The address by which limits and slots count callers without an identity. An IPv6 host commonly has a
/// 64-bit network of its own, so only the first 64 bits count. An IPv4 address that is embedded in an IPv6
/// address counts as the IPv4 address.
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

/// Who composed a call: the client itself, the operator, or the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOrigin {
    /// The client called the tool by its name.
    Client,
    /// The client called the tool through the virtual tool `call_tool`.
    CallTool,
    /// An operator made the request, on the command line or through the status interface.
    Operator,
    /// The gateway made the request for its own maintenance, for example to refresh a list.
    Gateway,
}

/// Everything a layer may know about a request apart from the request itself.
///
/// Cancellation has no field. Dropping the request's future cancels it. Every layer and transport passes the
/// cancellation on by dropping the future it awaits.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The party that made the request.
    pub caller: Caller,
    /// The caller's own token, when the caller presented one that an issuer can exchange. It is for token
    /// endpoints and must never be sent to a backend.
    pub token: Option<Secret>,
    /// The protocol version that the client speaks.
    pub protocol: ProtocolVersion,
    /// The time after which the answer is of no use. With `None` only the backend's own time-out applies.
    pub deadline: Option<Instant>,
    /// The request's `_meta` members that are forwarded end to end: all but the keys that belong to one hop.
    pub meta: Members,
    /// The address the request came from; `None` when it did not arrive over a network.
    pub peer_address: Option<IpAddr>,
    /// Client request headers that the operator configured for forwarding to backends. Names are in lower
    /// case.
    pub passthrough_headers: Arc<[(String, String)]>,
    /// The channel back to the client.
    pub client: Arc<dyn ClientPort>,
    /// Who composed the call.
    pub origin: CallOrigin,
    /// Rate-limit budget reserved in advance by a layer that composes several calls. The call spends it.
    pub reservation: Option<Reservation>,
    /// The workflow or script that makes the call.
    pub run: Option<CallRun>,
    /// Kept alive until the backend has finished its work on the call, even after cancellation.
    pub hold: Option<WorkHold>,
    /// For which backends the request waits after the start.
    pub startup_wait: StartupWait,
}

/// For which backends a request waits that arrives before every backend has answered or failed once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StartupWait {
    /// For all of them, within a limit.
    #[default]
    Complete,
    /// For a short time. The client of a list learns of what comes later by a change notification.
    Brief,
    /// Until this tool is known, or for all. A call must not be refused because its tool is not listed yet.
    Tool(ToolName),
    /// Until this prompt is known, or for all.
    Prompt(PromptName),
    /// Until this resource is known, or for all.
    Resource(ResourceUri),
}

impl CallContext {
    /// Builds a context with only a caller and an origin: version 2026-07-28, no deadline, no `_meta`, and a
    /// client that answers no questions.
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
            run: None,
            hold: None,
            startup_wait: StartupWait::Complete,
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
