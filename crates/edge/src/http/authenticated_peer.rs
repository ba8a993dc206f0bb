//! Who sent a request.

use std::net::IpAddr;

use tokio::time::Instant;
use vmcp_domain::{Caller, Secret};

/// The authenticated sender of one request.
#[derive(Clone, Debug)]
pub(crate) struct AuthenticatedPeer {
    pub(crate) caller: Caller,
    /// The caller's own access token, if an issuer can exchange it. It must never be sent to a backend.
    pub(crate) token: Option<Secret>,
    /// When the credential expires. A stream that waits for notifications ends then.
    pub(crate) expires_at: Option<Instant>,
    /// The client's address, from the socket or a trusted proxy; `None` for stdio.
    pub(crate) address: Option<IpAddr>,
}

impl AuthenticatedPeer {
    /// A caller who is known without a credential.
    pub(crate) fn without_credential(caller: Caller) -> Self {
        Self { caller, token: None, expires_at: None, address: None }
    }
}
