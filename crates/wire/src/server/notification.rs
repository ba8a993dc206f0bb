//! Notifications from clients.

use vmcp_json::{Json, Members};

use crate::jsonrpc::Id;
use crate::method;

/// A notification from a client.
#[derive(Clone, Debug)]
pub enum ClientNotification {
    /// The client has finished the handshake.
    Initialized,
    /// The client cancelled the request with this identifier.
    Cancelled(Id),
    /// The client's list of folders changed.
    RootsChanged,
    /// Progress of a request that the gateway sent.
    Progress(Members),
    /// An unknown or malformed notification.
    Other,
}

/// Parses a client's notification. A malformed one is [`ClientNotification::Other`], which is ignored.
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
