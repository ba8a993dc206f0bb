//! Of which changes a connection learns.

use std::collections::BTreeSet;
use std::sync::Arc;

use vmcp_domain::BackendUri;

/// The resources of which changes are wanted.
pub(crate) type ResourceSubscriptions = Arc<BTreeSet<BackendUri>>;

/// What `subscriptions/listen` covers.
#[derive(Clone, Debug)]
pub(crate) enum ListenState {
    /// The backend has not acknowledged a stream yet.
    Opening,
    /// The list changes, and these resources. It is also set without a stream while there is nothing to
    /// listen to.
    Open(ResourceSubscriptions),
    /// Nothing: the backend refused the stream.
    Refused,
}
