//! The changes that one stream sends.

use std::sync::Arc;

use tokio::sync::watch;
use vmcp_domain::{Change, GatewayInfo, ResourceUri};

use crate::request::changes::{ChangeDispatcher, ListChangeFilter, ListVersions, PendingChanges};
use crate::sessions::Session;

/// Which list changes the client has been notified of.
enum SeenVersions {
    /// The state of a single stream.
    Stream(ListVersions, ListChangeFilter),
    /// The state of the session, which may have several streams.
    Session(Arc<Session>),
}

/// The changes that one stream must send.
pub(crate) struct ChangeStream {
    gateway_info: Arc<dyn GatewayInfo>,
    lists: watch::Receiver<ListVersions>,
    pending: Arc<PendingChanges>,
    seen: SeenVersions,
}

impl ChangeStream {
    /// The changes in `wanted` from now on, for one stream.
    pub(crate) fn for_stream(
        changes: &Arc<ChangeDispatcher>,
        gateway_info: &Arc<dyn GatewayInfo>,
        pending: Arc<PendingChanges>,
        wanted: ListChangeFilter,
    ) -> Self {
        let lists = changes.list_versions.subscribe();
        let seen = SeenVersions::Stream(*lists.borrow(), wanted);
        Self { gateway_info: Arc::clone(gateway_info), lists, pending, seen }
    }

    /// The changes that the client of a session has not been notified of.
    pub(crate) fn for_session(
        changes: &Arc<ChangeDispatcher>,
        gateway_info: &Arc<dyn GatewayInfo>,
        session: &Arc<Session>,
    ) -> Self {
        let mut lists = changes.list_versions.subscribe();
        lists.mark_changed();
        let pending = session.pending_changes(changes);
        Self {
            gateway_info: Arc::clone(gateway_info),
            lists,
            pending,
            seen: SeenVersions::Session(Arc::clone(session)),
        }
    }

    /// Takes the changes that must be sent now.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        let now = *self.lists.borrow_and_update();
        let (own, resources) = self.pending.take_pending();
        let (mut changes, wanted) = match &mut self.seen {
            SeenVersions::Stream(seen, wanted) => (seen.advance_to(now, *wanted), *wanted),
            SeenVersions::Session(session) => (session.take_list_changes(now), session.list_filter()),
        };
        for change in ListVersions::default().advance_to(own, wanted) {
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
        // A client that watches a parent URI is notified of the URIs below it, but only of those it may read.
        let readable = |uri: &ResourceUri| self.gateway_info.can_subscribe(&self.pending.caller, uri);
        changes.extend(resources.into_iter().filter(readable).map(Change::Resource));
        changes
    }

    /// Waits until there may be a change to send.
    pub(crate) async fn changed(&mut self) {
        tokio::select! {
            () = self.pending.notify.notified() => {}
            changed = self.lists.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
        }
    }
}
