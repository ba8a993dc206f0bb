//! Renews the resource subscriptions in a new session, because the session that held them is gone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::timeout;
use vmcp_domain::BackendUri;
use vmcp_wire::method;

use crate::connection::Connection;
use crate::connection::link::McpRequest;
use crate::connection::listen_state::ResourceSubscriptions;
use crate::connection::pending_requests::Purpose;

/// Maximum number of concurrent renewals.
const RESUBSCRIBES_MAX: usize = 8;
/// Time-out for renewing all subscriptions.
const RESUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(60);

/// Subscribes again to all wanted resources, after the session that held the subscriptions is gone.
pub(super) async fn resubscribe_all(connection: Arc<Connection>, subscriptions: ResourceSubscriptions) {
    let subscribing = stream::iter(subscriptions.iter().cloned()).for_each_concurrent(RESUBSCRIBES_MAX, |uri: BackendUri| {
        let connection = Arc::clone(&connection);
        async move {
            let params = connection.dialect.subscription(&uri);
            let request = McpRequest::maintenance(method::RESOURCES_SUBSCRIBE, params);
            if let Err(failure) = connection.exchange(Purpose::Maintenance, |_| request).await {
                tracing::warn!(backend = %connection.backend, %failure, "a subscription could not be renewed");
            }
        }
    });
    if timeout(RESUBSCRIBE_TIMEOUT, subscribing).await.is_err() {
        tracing::warn!(backend = %connection.backend, "not every subscription could be renewed in time");
    }
}
