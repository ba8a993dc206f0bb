//! Subscriptions of a new session, after the one that knew of them has gone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::time::timeout;
use vmcp_domain::BackendUri;
use vmcp_wire::method;

use crate::connection::Connection;
use crate::flights::Purpose;
use crate::link::Request;
use crate::standing::Wanted;

/// How many subscriptions are renewed at a time.
const RENEWALS_MAX: usize = 8;
/// How long renewing all of them may take.
const RENEWAL_WAIT: Duration = Duration::from_secs(60);

/// Subscribes again to everything that is wanted, after the session that knew of it has gone.
pub(super) async fn renew(connection: Arc<Connection>, wanted: Wanted) {
    let subscribing = stream::iter(wanted.iter().cloned()).for_each_concurrent(RENEWALS_MAX, |uri: BackendUri| {
        let connection = Arc::clone(&connection);
        async move {
            let params = connection.dialect.subscription(&uri);
            let request = Request::upkeep(method::RESOURCES_SUBSCRIBE, params);
            if let Err(failure) = connection.exchange(Purpose::Upkeep, |_| request).await {
                tracing::warn!(backend = %connection.backend, %failure, "a subscription could not be renewed");
            }
        }
    });
    if timeout(RENEWAL_WAIT, subscribing).await.is_err() {
        tracing::warn!(backend = %connection.backend, "not every subscription could be renewed in time");
    }
}
