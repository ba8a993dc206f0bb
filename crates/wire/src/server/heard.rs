//! Notifications of clients.

use vmcp_domain::{Json, Members};

use crate::jsonrpc::Id;
use crate::method;

/// What a client tells without asking.
#[derive(Clone, Debug)]
pub enum ClientNotification {
    /// The handshake is over.
    Initialized,
    /// A request is taken back.
    Cancelled(Id),
    /// The client's folders changed.
    RootsChanged,
    /// Progress of a request that we made.
    Progress(Members),
    /// Something else.
    Other,
}

/// Reads a notification of a client. What is malformed counts as [`ClientNotification::Other`] and is ignored.
#[must_use]
pub fn read_notification(name: &str, params: Option<&Json>) -> ClientNotification {
    let members = params.and_then(|params| params.members().ok()).unwrap_or_default();
    match name {
        method::INITIALIZED => ClientNotification::Initialized,
        method::CANCELLED => members
            .get("requestId")
            .and_then(|json| Id::from_json(json.clone()))
            .map_or(ClientNotification::Other, ClientNotification::Cancelled),
        method::ROOTS_CHANGED => ClientNotification::RootsChanged,
        method::PROGRESS => ClientNotification::Progress(members),
        _ => ClientNotification::Other,
    }
}
