//! What callers see: the shared state, and what single callers see of it instead. It receives the backends'
//! events and passes each to the part that it concerns.

use std::sync::Arc;

use vmcp_domain::{
    BackendEvent, BackendId, BackendListener, Change, ChangeAudience, IsolationScope, ResourceUri,
};

use crate::catalogue::BackendListing;
use crate::per_caller::caller_lists::CallerLists;
use crate::per_caller::caller_views::CallerViews;
use crate::state::FederationState;

/// The shared state with the views and lists of single callers.
pub(crate) struct CatalogueViews {
    pub(crate) shared: Arc<FederationState>,
    /// The views of single callers on backends that use the callers' own credentials.
    pub(crate) caller_views: CallerViews,
    /// The lists of single callers that differ from the shared ones, on connections of their own.
    pub(crate) caller_lists: Arc<CallerLists>,
}

impl CatalogueViews {
    /// Applies `update` to the shared listing of the backend at `backend_index`. Callers whose own lists are
    /// equal to it see the shared lists again.
    pub(crate) fn update_listing(
        &self,
        backend_index: usize,
        update: impl FnOnce(&mut Option<BackendListing>),
    ) {
        self.shared.update_listing(backend_index, update, |inventory| {
            self.caller_lists.drop_shared(backend_index, inventory);
        });
    }
}

impl Drop for CatalogueViews {
    /// Wakes the refresh workers, so that they see that the federation was dropped and end.
    fn drop(&mut self) {
        for member in &self.shared.backends {
            member.refresh_signal.notify_one();
        }
    }
}

impl BackendListener for CatalogueViews {
    fn on_event(&self, backend: &BackendId, scope: IsolationScope, event: BackendEvent) {
        let backend_index = self.shared.backend_indices.get(backend).copied();
        if let Some(backend_index) =
            backend_index.filter(|backend_index| self.caller_views.contains(*backend_index))
        {
            // Events on the gateway's own connection do not concern callers: these backends have no shared
            // listing.
            if let IsolationScope::Caller(scope) = scope {
                self.caller_views.on_event(&self.shared, backend_index, scope, &event);
            }
            return;
        }
        if let (IsolationScope::Caller(scope), Some(backend_index)) = (scope, backend_index) {
            self.caller_lists.on_event(&self.shared, backend_index, scope, &event);
            return;
        }
        if let BackendEvent::ResourceUpdated(uri) = event {
            // Only the backend that serves the resource, or one with a subscription to it or to a parent of
            // it, may announce its changes.
            let uri = ResourceUri::from(uri.as_str());
            let serves = self.shared.catalogue.load().resource_backend(&uri) == Some(backend);
            if serves
                || backend_index.is_some_and(|backend_index| {
                    self.shared.subscriptions.has_subscriber(backend_index, scope, &uri)
                })
            {
                self.shared.announce(&Change::Resource(uri), ChangeAudience::Everyone);
            }
            return;
        }
        if let Some(member) = backend_index.and_then(|backend_index| self.shared.backends.get(backend_index))
        {
            member.refresh_signal.notify_one();
        }
    }
}
