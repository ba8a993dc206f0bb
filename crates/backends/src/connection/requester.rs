//! Whose call a request to a backend belongs to.

use std::net::IpAddr;

use vmcp_domain::{CallContext, Caller, ClientKey, ClientPort};

/// The client and caller of a call, as far as they are known.
#[derive(Clone, Debug)]
pub(crate) struct Requester {
    /// The key of the client; `None` if it is unknown which requests come from one client.
    pub(crate) client: Option<ClientKey>,
    /// The authenticated caller, or an anonymous one.
    pub(crate) caller: Caller,
    /// The network address of the request; `None` if it did not come over a network.
    pub(crate) address: Option<IpAddr>,
}

impl Requester {
    pub(crate) fn from_context(ctx: &CallContext, client: &dyn ClientPort) -> Self {
        Self { client: client.client_key(), caller: ctx.caller.clone(), address: ctx.peer_address }
    }

    /// True if both are certainly from one client. Requests without a client key are matched by their
    /// identity. Without an identity they match if both come from this machine.
    pub(crate) fn is_same_client(&self, other: &Self) -> bool {
        match (&self.client, &other.client) {
            (Some(one), Some(other)) => one == other,
            (Some(_), None) | (None, Some(_)) => false,
            (None, None) => match (self.caller.identity(), other.caller.identity()) {
                (Some(one), Some(other)) => one.is_same_user(other),
                (Some(_), None) | (None, Some(_)) => false,
                (None, None) => {
                    let is_local =
                        |requester: &Self| requester.address.is_none_or(|address| address.is_loopback());
                    is_local(self) && is_local(other)
                }
            },
        }
    }
}
